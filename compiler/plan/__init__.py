"""Typed runs -> plans: stages with keys, kept signals, the files of a plan."""
