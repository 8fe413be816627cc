"""Terms, metrics and families: ours and those of installed packages, known without importing them."""
