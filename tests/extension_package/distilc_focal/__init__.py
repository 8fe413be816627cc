"""An example of an extension of distilc."""
