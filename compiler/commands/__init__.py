"""The commands of `distilc`, one file a command: its options, its help, its exit codes."""
