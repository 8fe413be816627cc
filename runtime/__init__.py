"""The run half: plan.json -> results. Never reads YAML and nothing of the compile half."""
