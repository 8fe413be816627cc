"""The compile half: text -> plan.json. Never imports torch, transformers, datasets, deepspeed or mlflow."""
