"""Text -> typed runs: parsed, composed, multiplied out, held to the schema, bound."""
