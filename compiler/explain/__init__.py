"""What `explain` and `diff` say, for people and for programs."""
