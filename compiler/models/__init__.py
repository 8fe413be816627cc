"""The models of a run: which one a spec means, its facts, and the student that is made of it."""
