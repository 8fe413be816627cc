"""One module a task: rows, the positions that count, how answers are judged, what is timed."""
