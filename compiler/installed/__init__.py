"""Terms, metrics and families of installed packages."""
