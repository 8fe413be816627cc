"""ROUGE, BLEU and their confidence intervals."""
