"""What a diagnosis is, how it is shown, and what every code means."""
