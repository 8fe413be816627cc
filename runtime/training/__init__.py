"""The training loop over a DeepSpeed engine: batches, stopping, checkpoints."""
