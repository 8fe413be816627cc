"""One file a stage kind. Each has PARALLEL (do all ranks work, or rank 0 alone?) and run(stage, context)."""
