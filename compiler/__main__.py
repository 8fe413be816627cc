"""`python -m distilc.compiler` is the `distilc` command."""

from .cli import main

if __name__ == "__main__":
    main()
