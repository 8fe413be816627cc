"""Messages: to the terminal, as notices, cleaned of passwords and control characters."""
