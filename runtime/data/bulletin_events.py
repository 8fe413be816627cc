"""The events of the corpus `bulletins`: what a report can be about, in which words, and its summary.

A change in here is another corpus: raise `bulletins.VERSION`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """`slots`: slot -> pool. `leads`: openings that name the event. `sentences`: one entry a fact, its
    wordings. `asides`: sentences about the same subject that are no facts of the event; their slots are
    pools. `target`: the summary."""

    slots: Mapping[str, str]
    leads: tuple[str, ...]
    sentences: tuple[tuple[str, ...], ...]
    asides: tuple[str, ...]
    target: str


EVENTS = (
    Event(
        slots={"place": "place", "road": "road", "number": "number", "count": "count", "day": "day"},
        leads=("The skies over {place} have been the talk of this {day}.", "It has been a wet {day} for {place}."),
        sentences=(
            (
                "The storm reached {place} on {day}.",
                "It was {day} when the clouds broke over {place}.",
                "People in {place} had been warned, and by {day} the storm was there.",
                "{day} brought the worst weather of the season to {place}.",
            ),
            (
                "The gauge showed {number} millimetres at the end.",
                "Rain came down to a sum of {number} millimetres.",
                "Within hours {number} millimetres had fallen.",
            ),
            (
                "Cellars filled up in {count} houses.",
                "The fire service pumped out {count} houses.",
                "Water stood knee-deep in {count} houses.",
            ),
            (
                "Nothing moves on {road} Road for the time being.",
                "{road} Road had to be closed.",
                "The police turned all traffic away from {road} Road.",
            ),
        ),
        asides=(
            "All of {month} had been as dry as a bone.",
            "In {place} the sun was out all day.",
            "Another {count} families lost a few tiles.",
        ),
        target="Heavy rain has flooded {count} homes at {place} this {day}, and {number} mm of water keep "
        "{road} Road shut.",
    ),
    Event(
        slots={"place": "place", "name": "name", "road": "road", "count": "count", "day": "day"},
        leads=("A bus has been in a crash this {day}.", "There was a crash early this {day} at {place}."),
        sentences=(
            (
                "A lorry and a bus met head-on at the corner of {road} Street.",
                "On {road} Street a bus ran into a lorry.",
                "The bus could not stop in time and hit a lorry on {road} Street.",
            ),
            (
                "It happened in {place} during the early hours of {day}.",
                "{place} woke up to sirens on {day}.",
                "The alarm was raised in {place} before sunrise on {day}.",
            ),
            (
                "Doctors looked after {count} passengers.",
                "Ambulances took away {count} passengers.",
                "For {count} passengers the trip ended in a ward.",
            ),
            (
                "The driver, a man called {name}, was unharmed.",
                "At the wheel sat {name}, who got away with a fright.",
                "{name}, who had been driving the bus, was questioned.",
            ),
        ),
        asides=(
            "The lights had been out of order since {month}.",
            "Trains to {place} were not affected.",
            "There were {count} such cases last year.",
        ),
        target="At least {count} people were hurt this {day} at {place} when a bus with {name} at the "
        "wheel crashed on {road} Street.",
    ),
    Event(
        slots={"club": "club", "rival": "club", "name": "name", "place": "place", "count": "count"},
        leads=("The hosts {club} have done it again.", "Football now, and {rival} had little to cheer about."),
        sentences=(
            (
                "The match between {club} and {rival} had a worthy winner, the hosts.",
                "{club} welcomed {rival} and sent them home with nothing.",
                "For {rival} there was nothing to be had against {club}.",
            ),
            (
                "The decisive goal was a shot by {name}.",
                "{name} put the ball where no keeper could reach it.",
                "It took a header from {name} to settle it.",
            ),
            (
                "They met at the ground in {place}.",
                "The stands of {place} were full to the last seat.",
                "{place} saw a lively evening of football.",
            ),
            (
                "The hosts have now gone {count} games without a defeat.",
                "It is a run of {count} games that nobody could end.",
                "The winners have not lost for {count} games.",
            ),
        ),
        asides=(
            "The next game is on {day}.",
            "{name} had to leave the pitch with a sore knee.",
            "Tickets were sold out by {month}.",
        ),
        target="A goal by {name} has given {club} a home win over {rival} at {place}, their unbeaten run "
        "now at {count} matches.",
    ),
    Event(
        slots={"company": "company", "name": "name", "number": "number", "month": "month", "subject": "subject"},
        leads=("The markets have a new favourite, {company}.", "To the stock exchange, where {subject} made the news."),
        sentences=(
            (
                "Shares of {company} went up by {number} points.",
                "Buyers lifted {company} by {number} points.",
                "{company} closed {number} points higher than it had opened.",
            ),
            (
                "The firm makes its money with {subject}.",
                "It is best known for its trade in {subject}.",
                "Most of its income comes from {subject}.",
            ),
            (
                "Chief executive {name} spoke of a very good start.",
                "{name}, who runs the firm, was pleased.",
                "The board around {name} had hoped for as much.",
            ),
            (
                "The figures cover the time up to {month}.",
                "They are the first figures since {month}.",
                "All of it is in the report for {month}.",
            ),
        ),
        asides=(
            "Analyst {name} advised to hold.",
            "{company} ended the day where it had begun.",
            "Money from {place} helped, too.",
        ),
        target="Stock of {company}, a maker of {subject} led by {name}, has gained {number} points on "
        "strong results for {month}.",
    ),
    Event(
        slots={"place": "place", "name": "name", "building": "building", "number": "number", "month": "month"},
        leads=("There is a plan for the {building} of {place}.", "Local politics: {place} has something to build."),
        sentences=(
            (
                "The council of {place} sat until midnight.",
                "There was a long debate in the town hall of {place}.",
                "In {place} the councillors have made up their minds.",
            ),
            (
                "The {building} is to be built anew.",
                "They want a new {building}.",
                "At last there is money for the {building}.",
            ),
            (
                "The bill comes to {number} million.",
                "It will cost the town {number} million.",
                "A sum of {number} million was set aside.",
            ),
            (
                "Mayor {name} had fought for it.",
                "For {name}, the mayor, it is a late success.",
                "It was the mayor, {name}, who cast the last vote.",
            ),
            (
                "The first stone is to be laid in {month}.",
                "The diggers come in {month}.",
                "Work starts in {month}.",
            ),
        ),
        asides=(
            "Councillor {name} voted against it.",
            "{place} had turned down such a plan.",
            "The last repair had cost {number} thousand.",
        ),
        target="The town of {place} and its mayor {name} will spend {number} million on another "
        "{building}, to be begun by {month}.",
    ),
    Event(
        slots={"name": "name", "company": "company", "place": "place", "month": "month", "count": "count"},
        leads=("A name for {company}: that is our first story.", "There is a new boss at {place}."),
        sentences=(
            (
                "{company} has found somebody for the top job.",
                "The search at {company} is over.",
                "There is a new face at the head of {company}.",
            ),
            (
                "{name} takes the chair.",
                "The choice fell on {name}.",
                "The board agreed on {name}.",
            ),
            (
                "The contract runs for {count} years.",
                "Both sides signed for {count} years.",
                "A term of {count} years was agreed.",
            ),
            (
                "The move to the head office in {place} comes in {month}.",
                "From {month} the new desk will be in {place}.",
                "{place}, where the firm has its seat, expects the newcomer in {month}.",
            ),
        ),
        asides=(
            "The last chief, {name}, had left in anger.",
            "It took {count} meetings to get there.",
            "Staff were told on {day}.",
        ),
        target="The firm {company} has hired {name} as its new boss at {place} for the next {count} "
        "years, starting this {month}.",
    ),
    Event(
        slots={"place": "place", "building": "building", "number": "number", "day": "day", "name": "name"},
        leads=("A fire has been raging this {day}.", "There is still smoke over {place} this {day}."),
        sentences=(
            (
                "Flames were seen above the {building} of {place}.",
                "The {building} in {place} has burnt down.",
                "In {place} nothing is left of the {building}.",
            ),
            (
                "The first call came on {day}.",
                "It began on {day} shortly after dark.",
                "The smoke was noticed on {day}.",
            ),
            (
                "{number} men and women fought it through the night.",
                "It took {number} firefighters to get it under control.",
                "A crew of {number} had to be called in.",
            ),
            (
                "Fire chief {name} does not know the cause yet.",
                "{name}, the chief of the fire service, spoke of a broken wire.",
                "The chief, {name}, praised the crew.",
            ),
        ),
        asides=(
            "The {building} next to it was saved.",
            "A caretaker named {name} had locked up.",
            "Crews from {place} were not needed.",
        ),
        target="Fire has destroyed a {building} at {place} this {day} despite the {number} crew members "
        "whom {name} had sent out.",
    ),
    Event(
        slots={"subject": "subject", "place": "place", "company": "company", "number": "number", "count": "count"},
        leads=("Shoppers will have noticed what {subject} costs.", "The bad news from {place} is in the shops."),
        sentences=(
            (
                "Customers pay {number} per cent more for {subject}.",
                "For {subject} one has to pay {number} per cent more.",
                "The price tag on {subject} went up by {number} per cent.",
            ),
            (
                "A poor harvest near {place} is to blame.",
                "The trouble started around {place}, where little was brought in.",
                "Stores in {place} are all but empty.",
            ),
            (
                "{company} was the first to pass it on.",
                "The largest seller, {company}, sees no other way.",
                "At {company} they call it painful but needed.",
            ),
            (
                "It may last for {count} weeks.",
                "Relief is {count} weeks away.",
                "In {count} weeks it should be over.",
            ),
        ),
        asides=(
            "Milk on the other hand can be had for less.",
            "In {month} there had been no sign of it.",
            "Rival {company} keeps its old prices.",
        ),
        target="Shortages at {place} will push up prices of {subject} by {number} percent for another "
        "{count} weeks, says {company}.",
    ),
)
