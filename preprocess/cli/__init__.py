"""The command line `ups-preprocess`: verbs, thin, a module for each group of them.

Exit status: 0 done and well; 1 the data or the store are bad (a damaged file, a value that is not finite, a check that
failed); 2 the request cannot be carried out as typed (an unknown option or name, a path that is not there, a format
that is not known, a destination that is taken); 130 interrupted.

Standard output carries what was asked for: with `--json` one JSON object, else text for people. Progress, messages and
errors go to standard error.
"""

from preprocess.cli import checking, conversion, generating, packing, planning, showing
from preprocess.cli.application import app

__all__ = ["app", "checking", "conversion", "generating", "main", "packing", "planning", "showing"]


def main() -> None:
    """Run the command line."""
    app()
