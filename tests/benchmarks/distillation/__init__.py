"""Distillation over several epochs: ours, the 2020 algorithm, and transformers' own trainer."""
