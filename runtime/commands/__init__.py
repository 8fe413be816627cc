"""One module a verb of `python -m distilc.runtime`."""
