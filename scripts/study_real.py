#!/usr/bin/env python
"""Take real data sets that none of us made all the way: convert, validate, prove, show, two training steps.

* Darcy flow on a grid (package neuraloperator, fetched by pip, 4 MB);
* flow over a backward-facing step on 1,639 nodes of a triangulation, 500 Reynolds numbers (package smithers, fetched by
  pip, 65 MB);
* monthly winds over the globe, 1982 to 1992, NetCDF: `--winds monthly_navy_winds.cdf`, a file of Debian's package
  ferret-datasets (apt-get download ferret-datasets; dpkg-deb -x ferret-datasets*.deb FOLDER); skipped otherwise;
* a year of the ocean's surface and the air over it, seven variables with land and unsampled places missing, others in
  every variable and every month: `--ocean coads_climatology.cdf` of the same package.

Exit status 1 where a store is not sound, a draw is biased, or a training step fails.

Example: scripts/study_real.py --output real --winds FOLDER/usr/share/ferret-vis/data/monthly_navy_winds.cdf \
             --ocean FOLDER/usr/share/ferret-vis/data/coads_climatology.cdf
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyvista
import rich.console
import rich.table

from machine import machine_line
from preprocess.convert import convert
from preprocess.prove import prove
from preprocess.settings import ConvertSettings
from preprocess.show import ShowRequest, picture_store, read_subject, write_picture
from preprocess.sources import open_source
from preprocess.sources.base import Source
from preprocess.sources.datasets import fetch
from preprocess.validate import validate
from ups_data.storage import open_store
from ups_data.training import TrainConfig, train
from ups_data.yaml_records import parse_record

CONSOLE = rich.console.Console(highlight=False, width=None if sys.stdout.isatty() else 150)
RATIO, DRAWS = 0.2, 500


@dataclass(frozen=True, kw_only=True)
class RealData:
    """A data set, and how two steps are trained on it.

    Attributes:
        name: what it is.
        source: opened.
        data: section `data` of a training configuration.
        model: section `model` of one.
        settings: of the conversion.
    """

    name: str
    source: Source
    data: dict[str, Any]
    model: dict[str, Any]
    settings: ConvertSettings = field(default_factory=ConvertSettings)


def main() -> int:
    """Run all data sets that are there, and print a table."""
    arguments = parse_arguments()
    arguments.output.mkdir(parents=True, exist_ok=True)
    found = [open_darcy(), open_step_flow(arguments.output)]
    if arguments.winds is not None:
        found.append(open_winds(arguments.winds))
    if arguments.ocean is not None:
        found.append(open_ocean(arguments.ocean))
    table = rich.table.Table(title=f"Real data, end to end. {machine_line()}", title_justify="left")
    for column in ("data", "points", "convert", "sound", "worst |z| (limit)", "picture", "losses of two steps"):
        table.add_column(column)
    held = True
    for data in found:
        row, sound = run(data, arguments.output)
        table.add_row(*row)
        held = held and sound
    CONSOLE.print(table)
    return 0 if held else 1


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for stores and pictures")
    parser.add_argument("--winds", type=Path, help="monthly_navy_winds.cdf")
    parser.add_argument("--ocean", type=Path, help="coads_climatology.cdf")
    return parser.parse_args()


def open_darcy() -> RealData:
    """Return the Darcy flow of the neuraloperator package."""
    files = fetch("neuraloperator-darcy")
    return RealData(
        name="darcy",
        source=open_source([files["train_16"], files["test_16"]]),
        data={"window": {"lead": 0}, "input_fields": ["permeability"], "target_fields": ["pressure"]},
        model={"grid_encoder": {"patch": 2}},
    )


def open_step_flow(folder: Path) -> RealData:
    """Return the flow of the smithers package on its triangles, a .vtu file a Reynolds number.

    Its snapshots (500, 3 * 1639) are vx, vy, p; its parameter is not named there, viscosity by its range.
    """
    files, raw = fetch("smithers-navier-stokes"), folder / "step_flow_raw"
    raw.mkdir(exist_ok=True)
    nodes, triangles = np.load(files["coords"]).T, np.load(files["triangles"]).astype(np.int64)
    paths = []
    for number, (snapshot, parameter) in enumerate(
        zip(np.load(files["snapshots"]).reshape(500, 3, -1), np.load(files["params"])[:, 0], strict=True)
    ):
        grid = pyvista.UnstructuredGrid({pyvista.CellType.TRIANGLE: triangles}, np.pad(nodes, ((0, 0), (0, 1))))
        grid.point_data["velocity"], grid.point_data["pressure"] = snapshot[:2].T, snapshot[2]
        grid.field_data["viscosity"] = np.array([parameter])
        paths.append(raw / f"flow_{number:03}.vtu")
        grid.save(paths[-1])
    return RealData(
        name="step_flow",
        source=open_source(paths, options={"series": "trajectories"}),
        data={"window": {"lead": 0}, "input_fields": ["pressure"], "target_fields": ["velocity"]},
        model={},
    )


def open_winds(path: Path) -> RealData:
    """Return the winds, a trajectory a year."""
    return RealData(
        name="winds",
        source=open_source([path], options={"frames_per_trajectory": 12}),
        data={"window": {"inputs": 2, "targets": 2}, "batch_size": 4},
        model={"grid_encoder": {"patch": 1}, "latent_operator": {"attention": False}, "residual": True},
    )


def open_ocean(path: Path) -> RealData:
    """Return the climatology of the ocean, a trajectory a season."""
    return RealData(
        name="ocean",
        source=open_source([path], options={"frames_per_trajectory": 3}),
        data={"window": {"inputs": 1, "targets": 1}, "batch_size": 2},
        model={"grid_encoder": {"patch": 2}, "latent_operator": {"attention": False}},
        settings=ConvertSettings(splits={"train": 0.75, "test": 0.25}),
    )


def run(data: RealData, folder: Path) -> tuple[tuple[str, ...], bool]:
    """Take one data set all the way; return its row of the table, and whether everything held."""
    path = folder / data.name
    started = time.perf_counter()
    manifest = convert(data.source, path, data.settings, overwrite=path.exists())
    seconds = time.perf_counter() - started
    report, store = validate(path), open_store(path)
    proof = prove(store, ratio=RATIO, draws=DRAWS)
    picture = folder / f"{data.name}.png"
    write_picture(picture_store(read_subject(store, ShowRequest(ratio=RATIO))), picture)
    losses = two_steps(data, path)
    sizes = sorted({store.num_points(number) for number in range(len(store))})
    row = (
        data.name,
        f"{manifest.num_trajectories} x {manifest.num_frames // manifest.num_trajectories} frames x {sizes[-1]}",
        f"{seconds:.1f} s",
        "yes" if report.ok else f"no: {report.problems[0]}",
        f"{max(abs(row.z) for row in proof.rows):.2f} ({proof.z_limit:.2f})",
        str(picture),
        " ".join(f"{loss:.3f}" for loss in losses),
    )
    return row, report.ok and proof.ok and len(losses) == 2


def two_steps(data: RealData, path: Path) -> list[float]:
    """Train for two steps on a fifth of the points and evaluate; return the losses."""
    content = {
        "data": {"batch_size": 8, "test_samples": 2, **data.data, "store": str(path)},
        "sampler": {"kind": "importance", "ratio": RATIO},
        "model": {"width": 32, **data.model},
        "steps": 2,
        "evaluations": 1,
    }
    return [record.loss for record in train(parse_record(TrainConfig, content, where="study_real")).records]


if __name__ == "__main__":
    sys.exit(main())
