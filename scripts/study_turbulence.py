#!/usr/bin/env python
"""Measure what draws are worth on 2-D turbulence at 512 x 512: generate, convert with the defaults, prove.

The recipe `turbulence` of `ups-preprocess generate`, one trajectory; 2 % of the points a draw. The table shows, frame
by frame, the variance of uniform points over the variance of each sampler's draw, for the squared change to the next
frame. Exit status 1 where a draw is biased, or where a point of the default ImportanceSampler is worth less than 2.5
uniform ones on some frame, or less than 4 in the geometric mean. Needs exponax: pip install "ups-data[demo]".

Example: scripts/study_turbulence.py --output study_turbulence.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import rich.console

from machine import machine_line
from preprocess.convert import convert
from preprocess.prove import ProveReport, prove
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from preprocess.sources.generated import GenerateSettings, generate
from ups_data.storage import open_store

LEAST_MULTIPLIER, MEAN_MULTIPLIER = 2.5, 4.0


def main() -> int:
    """Run the study and print its tables."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        report = study(arguments, Path(folder))
    found = report.multipliers("importance", "change")
    least, mean = min(found), statistics.geometric_mean(found)
    held = report.ok and least >= LEAST_MULTIPLIER and mean >= MEAN_MULTIPLIER
    console = rich.console.Console(width=None if sys.stdout.isatty() else 160)
    console.print(f"machine: {machine_line()}; {arguments.resolution} x {arguments.resolution} points")
    console.print(report.to_frame_table())
    console.print(report.to_tables())
    console.print(
        f"importance: at least {least:.2f} (promised {LEAST_MULTIPLIER}), geometric mean {mean:.2f} (promised "
        f"{MEAN_MULTIPLIER}): {'held' if held else 'not held'}"
    )
    if arguments.output is not None:
        settings = {key: value for key, value in vars(arguments).items() if key != "output"}
        content = {"machine": machine_line(), "settings": settings, "held": held, **report.to_dict()}
        arguments.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0 if held else 1


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, default=512, help="nodes per axis (512)")
    parser.add_argument("--frames", type=int, default=7, help="frames, one more than are measured (7)")
    parser.add_argument("--frames-per-block", type=int, help="frames that share an importance map (all)")
    parser.add_argument("--ratio", type=float, default=0.02, help="drawn points / points (0.02)")
    parser.add_argument("--draws", type=int, default=2000, help="draws of each sampler (2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the initial condition, the dealing and the draws (0)")
    parser.add_argument("--output", type=Path, help="write what was measured as JSON")
    return parser.parse_args()


def study(arguments: argparse.Namespace, folder: Path) -> ProveReport:
    """Generate, convert and prove in a folder."""
    made = GenerateSettings(resolution=arguments.resolution, num_frames=arguments.frames, seed=arguments.seed)
    description = generate("turbulence", folder / "raw", made)
    span = None if arguments.frames_per_block is None else 1
    settings = ConvertSettings(seed=arguments.seed, frames_per_block=arguments.frames_per_block, target_span=span)
    convert(open_source([description]), folder / "store", settings)
    options: dict[str, Any] = {"ratio": arguments.ratio, "draws": arguments.draws, "seed": arguments.seed}
    samplers = ("uniform", "balanced", "importance")
    return prove(open_store(folder / "store"), samplers=samplers, num_frames=arguments.frames - 1, **options)


if __name__ == "__main__":
    sys.exit(main())
