"""Model families: where layers, embeddings and positions live; load, shrink, freeze."""
