"""Sources, tokenization, token rows, batches, the built-in corpus."""
