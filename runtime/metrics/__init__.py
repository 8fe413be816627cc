"""ROUGE, BLEU, scores of classes and of numbers, and their confidence intervals."""
