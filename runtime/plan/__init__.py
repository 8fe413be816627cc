"""The plan: its records, and how plan.json is read, bound to them and held to its keys. Standard library only."""
