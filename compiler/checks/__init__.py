"""Rules across the fields of a run, one function a rule, by what they need: the spec alone, models, data, the site."""
