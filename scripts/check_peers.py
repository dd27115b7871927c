#!/usr/bin/env python
"""Convert files that the peers' own code writes, and hold every value of the stores against what is in the files.

* PDEBench's `gen_diff_react.simulator` and `gen_diff_sorp.simulator` (package pdebench 0.1.0, MIT), on 24 x 16 nodes;
  with `--fortran` its `gen_radial_dam_break.simulator` too, which solves by clawpack 5.14.0: that is published as
  Fortran sources, which pip builds in some minutes where there is a Fortran compiler;
* The Well's `the_well.utils.dummy_data` (package the-well 1.2.0, BSD-3-Clause), read by h5py; and one with all that its
  layout has (a tensor, fields that do not vary along an axis, or from trajectory to trajectory), read by `WellDataset`;
* neuraloperator's own data: Darcy and Burgers (package neuraloperator 0.3.0);
* NetCDF and Zarr as xarray writes them.

The packages are fetched by pip, each of one version with its SHA-256, into a folder of their own (`--cache`), and run
in a process that sees them beside this environment: what they pin is not installed here. Files are compared through
h5py, torch, xarray and `WellDataset` alone, axis by axis. Exit status 1 where a bit differs.

Example: scripts/check_peers.py
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import rich.console
import rich.table
import torch
import xarray
from jaxtyping import Shaped

from machine import machine_line
from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from preprocess.sources.datasets import fetch
from preprocess.validate import validate
from ups_data.storage import open_store

CONSOLE = rich.console.Console(highlight=False, width=None if sys.stdout.isatty() else 120)
PACKAGES = """
pdebench==0.1.0 --hash=sha256:129587e81f02ddc787952631845a1b628ff6e9046576e30f9162008942a2ea3b
the-well==1.2.0 --hash=sha256:0bc4e6e94099786ad92729ee13b00a7c898ffd6cf11a43dbbbe1e91e76b9ad54
"""
CLAWPACK = "clawpack==5.14.0"
NEEDED = (
    "hydra-core==1.3.2",
    "omegaconf==2.3.0",
    "antlr4-python3-runtime==4.9.3",
    "python-dotenv==1.1.1",
    "einops==0.8.1",
)
PDEBENCH = """
import sys
from omegaconf import OmegaConf
from pdebench.data_gen import gen_diff_react, gen_diff_sorp
for seed in (0, 1):
    time = {"t": 2.0, "tdim": 6, "xdim": 24}
    settings = {"output_path": sys.argv[1] + "/2D_diff-react_NA_NA.h5", "sim": {**time, "ydim": 16}}
    gen_diff_react.simulator(OmegaConf.create(settings), seed)
    settings = {"output_path": sys.argv[1] + "/1D_diff-sorp_NA_NA.h5", "sim": time}
    gen_diff_sorp.simulator(OmegaConf.create(settings), seed)
"""
DAM_BREAK = """
import sys
from omegaconf import OmegaConf
from pdebench.data_gen import gen_radial_dam_break
sim = {"gravity": 1.0, "xdim": 24, "ydim": 16, "T_end": 1.0, "n_time_steps": 5}
settings = {"output_path": sys.argv[1] + "/2D_rdb_NA_NA.h5", "upload": False, "sim": sim}
for seed in (0, 1):
    gen_radial_dam_break.simulator(OmegaConf.create(settings), seed)
"""
WELL = "import sys; from the_well.utils.dummy_data import write_dummy_data; write_dummy_data(sys.argv[1])"
WELL_DATASET = """
import sys
import numpy as np
from the_well.data.datasets import WellDataset
data = WellDataset(path=sys.argv[1], full_trajectory_mode=True, boundary_return_type=None, normalize_time_grid=False)
samples = [data[number] for number in range(len(data))]
names = [name for order in range(3) for name in data.metadata.field_names[order]]
constants = [name for order in range(3) for name in data.metadata.constant_field_names[order]]
def join(what):
    return np.stack([np.concatenate([sample[f"{side}_{what}"] for side in ("input", "output")]) for sample in samples])
np.savez(
    sys.argv[1] + "/read.npz",
    times=join("time_grid"),
    scalars=join("scalars"),
    **dict(zip(names, np.moveaxis(join("fields"), -1, 0), strict=True)),
    **dict(zip(constants, np.moveaxis(np.stack([s["constant_fields"] for s in samples]), -1, 0), strict=True)),
)
"""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Files that a peer's code wrote.

    Attributes:
        name: what they are.
        paths: the files.
        truth: field -> values of all trajectories, (trajectory, time, component, *axes in the store's order).
        options: what the source must be told.
    """

    name: str
    paths: tuple[Path, ...]
    truth: Callable[[], Mapping[str, Shaped[np.ndarray, "trajectory time component *space"]]]
    options: Mapping[str, Any]


def main() -> int:
    """Check all peers and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, help="folder to keep the packages in; none are kept by default")
    parser.add_argument("--fortran", action="store_true", help="PDEBench's radial dam break too: builds clawpack")
    arguments = parser.parse_args()
    table = rich.table.Table(title=f"Files of the peers' own code. {machine_line()}", title_justify="left")
    for column in ("files", "fields", "trajectories x frames x points", "values", "that differ"):
        table.add_column(column)
    differing = 0
    with tempfile.TemporaryDirectory() as folder:
        packages = arguments.cache or Path(folder) / "packages"
        for peer in find_peers(Path(folder), packages, fortran=arguments.fortran):
            row, wrong = check(peer, Path(folder) / "stores" / peer.name)
            table.add_row(*row)
            differing += wrong
    CONSOLE.print(table)
    return 1 if differing else 0


def find_peers(folder: Path, packages: Path, *, fortran: bool) -> Iterator[Peer]:
    """Make the files and say what must come out."""
    install(packages)
    run(packages, PDEBENCH, folder)
    yield pdebench(folder / "2D_diff-react_NA_NA.h5", ("activator", "inhibitor"), (0, 3, 2, 1))
    yield pdebench(folder / "1D_diff-sorp_NA_NA.h5", ("concentration",), (0, 2, 1))
    if fortran:
        if not (packages / "clawpack").is_dir():
            pip_install(packages, CLAWPACK)
        run(packages, DAM_BREAK, folder)
        yield pdebench(folder / "2D_rdb_NA_NA.h5", ("height",), (0, 3, 1, 2))
    run(packages, WELL, folder / "dummy.hdf5")
    yield the_well(folder / "dummy.hdf5")
    (folder / "well").mkdir()
    run(packages, WELL, folder / "well" / "whole.hdf5")
    add_fields(folder / "well" / "whole.hdf5")
    run(packages, WELL_DATASET, folder / "well")
    yield well_dataset(folder / "well")
    yield from neuraloperator()
    yield from by_xarray(folder)


def install(packages: Path) -> None:
    """Fetch the packages that are not there yet."""
    if all((packages / name).is_dir() for name in ("the_well", "pdebench", "einops")):
        return
    packages.mkdir(parents=True, exist_ok=True)
    requirements = packages / "requirements.txt"
    requirements.write_text(PACKAGES)
    pip_install(packages, "--require-hashes", "--requirement", str(requirements))
    pip_install(packages, *NEEDED)


def pip_install(packages: Path, *what: str) -> None:
    """Have pip install something there."""
    # Which Python they ask for, and what else, would stand in the way of the few functions that are called here.
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--ignore-requires-python"]
    subprocess.run([*command, "--target", str(packages), *what], check=True)


def run(packages: Path, code: str, target: Path) -> None:
    """Run the peers' code, in the folder of what it writes: it leaves logs where it stands."""
    path = os.pathsep.join([str(packages.resolve()), os.environ.get("PYTHONPATH", "")])
    folder = target if target.is_dir() else target.parent
    command = [sys.executable, "-c", code, str(target)]
    subprocess.run(command, check=True, cwd=folder, env={**os.environ, "PYTHONPATH": path})


def pdebench(path: Path, fields: tuple[str, ...], order: tuple[int, ...]) -> Peer:
    """Return a grouped file of PDEBench; `order` puts its axes as (time, component, *space)."""

    def truth() -> dict[str, Shaped[np.ndarray, "..."]]:
        with h5py.File(path) as file:
            values = np.stack([file[name]["data"][...].transpose(order) for name in sorted(file)])
        return {field: values[:, :, [number]] for number, field in enumerate(fields)}

    return Peer(name=path.stem, paths=(path,), truth=truth, options={})


def the_well(path: Path) -> Peer:
    """Return the dummy file of The Well: a vector, a scalar that does not change, and a number that does."""

    def truth() -> dict[str, Shaped[np.ndarray, "..."]]:
        with h5py.File(path) as file:
            vector = np.moveaxis(file["t1_fields/field"][...], -1, 2)
            scalar = file["t0_fields/constant_field"][...]
            number = file["scalars/time_varying_scalar"][...]
        shape = (len(scalar), vector.shape[1], 1, *scalar.shape[1:])
        return {
            "constant_field": np.broadcast_to(scalar[:, None, None], shape),
            "field": vector,
            "time_varying_scalar": np.broadcast_to(number[None, :, None, None, None], shape),
        }

    return Peer(name="the_well_dummy", paths=(path,), truth=truth, options={})


def add_fields(path: Path) -> None:
    """Add to a dummy file of The Well what it lacks of the layout: a tensor, and fields that do not vary with all."""
    random = np.random.default_rng(0)
    content = {
        "t2_fields/stress": ((2, 10, 32, 32, 2, 2), (True, True), (True, True)),
        "t0_fields/tide": ((10, 1, 32), (False, True), (False, True)),
        "t0_fields/depth": ((32, 1), (True, False), (False, False)),
        "t1_fields/slope": ((2, 1, 32, 2), (False, True), (True, False)),
    }
    with h5py.File(path, "r+") as file:
        for key, (shape, along, (by_sample, by_time)) in content.items():
            field = file.create_dataset(key, data=random.normal(size=shape).astype(np.float32))
            field.attrs.update({"dim_varying": along, "sample_varying": by_sample, "time_varying": by_time})
            if key.startswith("t2"):
                field.attrs.update({"symmetric": False, "antisymmetric": False})
            group = field.parent
            group.attrs["field_names"] = [*group.attrs["field_names"], key.partition("/")[2]]
        for name in ("time", "x", "y"):
            file["dimensions"][name].attrs["time_varying"] = False


def well_dataset(folder: Path) -> Peer:
    """Return a file of The Well, as its own `WellDataset` reads it."""
    names = {"constant_field": [""], "depth": [""], "tide": [""], "field": ["_x", "_y"], "slope": ["_x", "_y"]}
    names["stress"] = ["_xx", "_xy", "_yx", "_yy"]

    def truth() -> dict[str, Shaped[np.ndarray, "..."]]:
        with np.load(folder / "read.npz") as read:
            trajectories, frames = read["times"].shape
            values = {
                name: np.stack([read[name + component] for component in components], axis=1)
                for name, components in names.items()
            }
            values["time_varying_scalar"] = read["scalars"][..., 0][:, None, :, None, None]
        # (trajectory, component, time, x, y), without time where a field does not change.
        shape = (trajectories, frames, 32, 32)
        return {
            name: np.moveaxis(
                np.broadcast_to(
                    field if field.ndim == 5 else field[:, :, None], (shape[0], field.shape[1], *shape[1:])
                ),
                1,
                2,
            )
            for name, field in values.items()
        }

    return Peer(name="the_well_dataset", paths=(folder / "whole.hdf5",), truth=truth, options={})


def neuraloperator() -> Iterator[Peer]:
    """Return what ships with neuraloperator."""
    darcy, burgers = fetch("neuraloperator-darcy")["test_32"], fetch("neuraloperator-burgers")["lowres"]

    def load(path: Path) -> Any:
        return torch.load(path, weights_only=True)

    def darcy_truth() -> dict[str, Shaped[np.ndarray, "..."]]:
        content = load(darcy)
        return {
            "permeability": content["x"].numpy()[:, None, None].astype(np.float32),
            "pressure": content["y"].numpy()[:, None, None],
        }

    def burgers_truth() -> dict[str, Shaped[np.ndarray, "..."]]:
        return {"velocity": load(burgers)["output"].numpy()[:, :, None]}

    yield Peer(name="neuraloperator_darcy", paths=(darcy,), truth=darcy_truth, options={})
    yield Peer(name="neuraloperator_burgers", paths=(burgers,), truth=burgers_truth, options={"time_step": 1 / 16})


def by_xarray(folder: Path) -> Iterator[Peer]:
    """Write a data set by xarray, as NetCDF and as Zarr, with its axes in another order than the store's."""
    random = np.random.default_rng(0)
    values = random.normal(size=(5, 7, 4)).astype(np.float32)
    axes = {"time": np.arange(4.0), "lat": np.linspace(-60, 60, 5), "lon": np.arange(7) * 20.0}
    units = {"time": "s", "lat": "degrees_north", "lon": "degrees_east"}
    data = xarray.Dataset(
        {"u": (("lat", "lon", "time"), values)},
        {name: (name, nodes, {"units": units[name]}) for name, nodes in axes.items()},
    )

    def truth() -> dict[str, Shaped[np.ndarray, "..."]]:
        # Axes of a store are longitude, latitude.
        return {"u": values.transpose(2, 1, 0)[None, :, None]}

    data.to_netcdf(folder / "xarray.nc")
    data.to_zarr(folder / "xarray.zarr", zarr_format=3, consolidated=False)
    for suffix in ("nc", "zarr"):
        options = {"time": "time"}
        yield Peer(name=f"xarray_{suffix}", paths=(folder / f"xarray.{suffix}",), truth=truth, options=options)


def check(peer: Peer, path: Path) -> tuple[tuple[str, ...], int]:
    """Convert and compare; return the row of the table and how many values differ."""
    convert(open_source(peer.paths, options=peer.options), path, ConvertSettings())
    assert validate(path).ok
    store, truth = open_store(path), peer.truth()
    names = [field.name for field in store.manifest.fields]
    assert sorted(names) == sorted(truth), (names, list(truth))
    wanted = np.concatenate([truth[name] for name in names], axis=2)
    differing = 0
    for number in range(len(store)):
        found = store.read_dense(number, range(wanted.shape[1]))
        own = wanted[number].reshape(found.shape)
        assert found.dtype == own.dtype, (found.dtype, own.dtype)
        differing += int((found.view(f"u{found.itemsize}") != np.ascontiguousarray(own).view(f"u{own.itemsize}")).sum())
    shape = f"{len(store)} x {wanted.shape[1]} x {store.num_points(0)}"
    return (peer.name, ", ".join(names), shape, str(wanted.size), str(differing)), differing


if __name__ == "__main__":
    sys.exit(main())
