"""Show the whole idea on this machine: fields, store, sparse draws, training, report; scripts/demo calls this.

Exit status: 0 done; 1 a check failed or data are bad; 2 the request cannot be carried out as typed; 130 interrupted.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OK, PROBLEM, MISUSE, INTERRUPTED = 0, 1, 2, 130


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; exits with status 2 on a wrong one."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="Generate 2-D Burgers flow, convert it to a store, validate it, prove the draws, measure the "
        "loaders, train on a tenth of the points and on all of them, and write a report. Interrupted, the same "
        "command goes on where it was.",
        epilog="Example: scripts/demo --output /tmp/demo",
    )
    parser.add_argument(
        "--output", type=Path, default=ROOT / "demo", metavar="DIR", help="where everything goes (default: %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="toy size, in a minute: to see that everything runs")
    parser.add_argument("--fresh", action="store_true", help="remove what an earlier demo left there, start over")
    parser.add_argument("--seconds", type=_positive, metavar="S", help="training time of each of the two runs")
    return parser.parse_args(arguments)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"must be seconds above 0, got {text}")
    return value


def main(arguments: list[str]) -> int:
    """Run the demo and return the exit status."""
    options = parse_arguments(arguments)
    command = shlex.join(["scripts/demo", *(part for part in arguments if part != "--fresh")])
    try:
        # Imports take seconds, so Ctrl-C must be answered from here on; and wrong arguments are told before them.
        from demo_run import run_demo

        return run_demo(options, command)
    except KeyboardInterrupt:
        print(f"\ninterrupted; the same command goes on from here: {command}", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
