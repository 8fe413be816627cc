"""What a teacher computes of every example, kept on disk: written by the `signals` stage, read while training."""
