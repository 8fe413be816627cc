"""Pseudo-labels: texts that a labeller wrote for the training sources, what they are worth, and which are kept."""
