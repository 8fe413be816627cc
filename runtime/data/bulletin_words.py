"""The words of the corpus `bulletins`: pools of names and numbers, sentences that are about no event.

A change in here is another corpus: raise `bulletins.VERSION`.
"""

from __future__ import annotations

POOLS: dict[str, tuple[str, ...]] = {
    name: tuple(words.split())
    for name, words in {
        "place": """Ashford Barton Calder Denby Elmsworth Farley Garston Hadley Ilford Kelby Langport Marlow
            Newbridge Oakham Penrith Quorn Redmire Selby Thornton Upwell Wexcombe Yarrow Aldham Brockton
            Corfe Dunmore Eastgate Fenwick Glenby Harwick""",
        "name": """Abbott Baker Carter Dixon Ellis Foster Grant Harper Irving Jensen Keller Lawson Mercer
            Norris Osborne Parker Quinn Reeves Sutton Turner Usher Vaughan Walsh Young Archer Bishop
            Collins Dalton Everett Fleming""",
        "company": """Northgate Bluestone Kestrel Hallmark Lodestar Meridian Orchid Pinnacle Quantock Riverton
            Silverline Tidewater Unity Verity Westmark Zenith Arbour Beacon Citadel Dynamo""",
        "club": """Rovers Wanderers Albion Athletic City United Rangers Town Harriers Corinthians Swifts Eagles
            Falcons Lions Mariners Pilgrims Saints Titans Vikings Wolves""",
        "road": """Bridge Chapel Church Court Forest Garden Harbour Kings Market Meadow Mill Orchard Park
            Queens River School Station Temple Victoria Windmill""",
        "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
        "month": "January February March April May June July August September October November December",
        "count": "two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty",
        "number": "14 16 18 21 23 24 26 27 32 35 36 38 41 43 45 48 52 54 57 59 62 64 65 68 72 75 76 79 83 86 90 95",
        "subject": "bread cheese coffee copper cotton timber steel sugar tea wheat wool zinc",
        "building": "library museum theatre hospital stadium airport school castle factory bakery cinema garage",
    }.items()
}

LEADS = (
    "Good morning from the newsroom.",
    "Good evening, and thank you for staying with us.",
    "This is the bulletin at the full hour.",
    "Here is what we know so far.",
    "Welcome back after the music.",
    "First the news that many of you have asked about.",
    "More on a story that we brought you earlier.",
    "Our reporter {name} has the details.",
)

CLOSES = (
    "We will stay with the story.",
    "There will be more in our next bulletin.",
    "A full account can be read on our pages.",
    "You can write to us about this report.",
    "And that was the report by {name}.",
)

ASIDES = (
    "Not everybody was happy with that.",
    "Some had seen it coming for a long time.",
    "There was little else to talk about at breakfast.",
    "Pictures of it went around within minutes.",
    "An old photograph shows how it once was.",
    "It is too early to say what comes of it.",
    "One could hear all kinds of rumours in the street.",
    "Our phones have not been quiet since then.",
    "A similar story was once told about {place}.",
    "Nobody at {company} wished to comment.",
    "A neighbour named {name} saw it from the window.",
    "The rest of the week until {day} looks quiet.",
    "Readers sent us {count} letters about it.",
    "Traders of {subject} said that it makes no difference to them.",
)
