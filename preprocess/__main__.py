"""`python -m preprocess` is `ups-preprocess`."""

from preprocess.cli import main

if __name__ == "__main__":
    main()
