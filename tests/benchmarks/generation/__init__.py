"""Generation: both engines against plain loops over `generate` of transformers."""
