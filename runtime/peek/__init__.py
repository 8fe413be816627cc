"""One real micro-batch of a training, as the model sees it."""
