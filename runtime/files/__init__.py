"""Files: opened safely, and held to what was written."""
