"""What is said: to the terminal, as notices, cleaned of passwords and control characters."""
