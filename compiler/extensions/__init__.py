"""Terms, metrics, families and stage kinds: ours and those of installed packages, known without importing them."""
