"""The result table."""
