"""One module a stage kind, with a `protocol.StageKind`, and its schema fragment beside it."""
