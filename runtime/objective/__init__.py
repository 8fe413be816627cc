"""The training objective: terms as pure functions, assembled from the plan."""
