"""Trees: one spec and its options laid together, looked at section by section, and multiplied out into runs."""
