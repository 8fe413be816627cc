"""The data of a run: where it is, how much of it there is, and `check --data`."""
