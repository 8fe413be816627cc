"""What the names of a spec mean here: models and their facts, layers, data, the site and its devices."""
