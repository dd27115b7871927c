"""Files in the formats' own layouts, small and made of known values, to be written whole or damaged first."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numcodecs
import numpy as np
import xarray
import zarr


def random(*shape: int, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@dataclass(kw_only=True)
class HDF5Specimen:
    """Content of one HDF5 file: data sets by full name, attributes by the full name of their item ("/" is the file)."""

    format: str
    name: str
    datasets: dict[str, Any]
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        path = folder / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            for key, values in self.datasets.items():
                file.create_dataset(key, data=values)
            for item, content in self.attributes.items():
                target = file.require_group(item) if item not in file else file[item]
                for key, value in content.items():
                    # An empty list is an array of no text in The Well, of no numbers to NumPy.
                    target.attrs[key] = np.array([], dtype="S1") if isinstance(value, list) and not value else value
        return path


def well_specimen(name: str = "made.hdf5", *, seed: int = 0, count: int = 3, frames: int = 4) -> HDF5Specimen:
    """Three trajectories of four frames on a 6 x 5 grid, with a field of each kind that The Well has."""
    datasets = {
        "dimensions/time": np.linspace(0.0, 1.5, frames, dtype="f4"),
        "dimensions/x": np.arange(6, dtype="f4") / 6,
        "dimensions/y": np.linspace(-1.0, 1.0, 5, dtype="f4"),
        "boundary_conditions/x_periodic/mask": np.array([True, False, False, False, False, True]),
        "boundary_conditions/y_wall/mask": np.array([True, False, False, False, True]),
        "scalars/viscosity": np.array(0.01),
        "scalars/speed": random(count, dtype="float64", seed=seed + 1),
        "scalars/forcing": random(frames, seed=seed + 2),
        "t0_fields/density": random(count, frames, 6, 5, seed=seed + 3),
        "t0_fields/gravity": random(1, 5, seed=seed + 4),
        "t0_fields/depth": random(count, 6, 5, seed=seed + 5),
        "t1_fields/velocity": random(count, frames, 6, 5, 2, seed=seed + 6),
        "t2_fields/stress": random(count, frames, 6, 5, 2, 2, seed=seed + 7),
    }

    def flags(sample: bool, time: bool, **more: Any) -> dict[str, Any]:
        return {"sample_varying": sample, "time_varying": time, **more}

    both = [True, True]
    boundary = {"associated_fields": [], **flags(False, False)}
    attributes: dict[str, dict[str, Any]] = {
        "/": {
            "dataset_name": "made",
            "grid_type": "cartesian",
            "n_spatial_dims": 2,
            "n_trajectories": count,
            "simulation_parameters": ["viscosity"],
            "viscosity": 0.01,
        },
        "dimensions": {"spatial_dims": ["x", "y"]},
        "dimensions/time": flags(False, True),
        "dimensions/x": flags(False, False),
        "dimensions/y": flags(False, False),
        "boundary_conditions/x_periodic": {"bc_type": "PERIODIC", "associated_dims": ["x"], **boundary},
        "boundary_conditions/y_wall": {"bc_type": "WALL", "associated_dims": ["y"], **boundary},
        "scalars": {"field_names": ["viscosity", "speed", "forcing"]},
        "scalars/viscosity": flags(False, False),
        "scalars/speed": flags(True, False),
        "scalars/forcing": flags(False, True),
        "t0_fields": {"field_names": ["density", "gravity", "depth"]},
        "t0_fields/density": flags(True, True, dim_varying=both),
        "t0_fields/gravity": flags(False, False, dim_varying=[False, True]),
        "t0_fields/depth": flags(True, False, dim_varying=both),
        "t1_fields": {"field_names": ["velocity"]},
        "t1_fields/velocity": flags(True, True, dim_varying=both),
        "t2_fields": {"field_names": ["stress"]},
        "t2_fields/stress": flags(True, True, dim_varying=both, symmetric=False, antisymmetric=False),
    }
    return HDF5Specimen(format="the_well", name=name, datasets=datasets, attributes=attributes)


# -- PDEArena --------------------------------------------------------------------------------------------------------


def smoke_specimen(
    name: str = "NavierStokes2D_train_1_0.5_3.h5", *, split: str = "train", count: int = 3
) -> HDF5Specimen:
    """Buoyant smoke on a 6 x 5 grid: four frames a trajectory, as PDEArena's generator writes them."""
    datasets = {
        "u": random(count, 4, 6, 5),
        "vx": random(count, 4, 6, 5, seed=1),
        "vy": random(count, 4, 6, 5, seed=2),
        "t": np.tile(np.linspace(18.0, 102.0, 4, dtype="f4"), (count, 1)),
        "dt": np.full(count, 28.0, dtype="f4"),
        "x": np.tile(np.linspace(0.0, 32.0, 6, dtype="f4"), (count, 1)),
        "dx": np.full(count, 6.4, dtype="f4"),
        "y": np.tile(np.linspace(0.0, 32.0, 5, dtype="f4"), (count, 1)),
        "dy": np.full(count, 8.0, dtype="f4"),
        "buo_y": np.linspace(0.2, 0.5, count),
    }
    return HDF5Specimen(format="pdearena", name=name, datasets={f"{split}/{key}": v for key, v in datasets.items()})


def kuramoto_specimen(name: str = "KS_train.h5", *, split: str = "train", frames: int = 4) -> HDF5Specimen:
    """Kuramoto-Sivashinsky on eight nodes: three trajectories."""
    datasets = {
        f"{split}/pde_{frames}-8": random(3, frames, 8),
        f"{split}/dt": np.full(3, 0.2),
        f"{split}/dx": np.full(3, 0.25),
        f"{split}/v": np.array([0.1, 0.2, 0.3]),
    }
    return HDF5Specimen(format="pdearena", name=name, datasets=datasets)


def maxwell_specimen(name: str = "Maxwell3D_valid.h5", *, split: str = "valid") -> HDF5Specimen:
    """Maxwell's equations on a 4 x 3 x 5 grid: two trajectories of three frames."""
    datasets = {
        f"{split}/d_field": random(2, 3, 4, 3, 5, 3),
        f"{split}/h_field": random(2, 3, 4, 3, 5, 3, seed=1),
    }
    options = {"time_step": 50.0, "spacing": 5e-7}
    return HDF5Specimen(format="pdearena", name=name, datasets=datasets, options=options)


# -- PDEBench --------------------------------------------------------------------------------------------------------

_NS_CONFIG = "sim: {NU: 0.01, DT: 5e-5, domain_size: [2, 1], seed: 3, sim_name: ns_sim_2d}\n"


def incompressible_specimen(name: str = "ns_incom_inhom_2d_512-0.h5") -> HDF5Specimen:
    """Incompressible flow on a 6 x 5 grid: two trajectories of four frames."""
    datasets = {
        "velocity": random(2, 4, 6, 5, 2),
        "particles": random(2, 4, 6, 5, 1, seed=1),
        "force": random(2, 6, 5, 2, seed=2),
        "t": np.array([[0.0, 0.1, 0.2, 0.3], [0.0, 0.2, 0.3, 0.7]], dtype="f4"),
    }
    attributes = {"/": {"config": _NS_CONFIG, "latestIndex": 3}}
    return HDF5Specimen(format="pdebench", name=name, datasets=datasets, attributes=attributes)


LATITUDES, LONGITUDES = np.linspace(90, -90, 9), np.arange(16) * 22.5


def weather(num_times: int = 6, **changes: Any) -> xarray.Dataset:
    """Return two fields on a globe, latitudes from north to south, as reanalyses have them."""
    shape = (num_times, LATITUDES.size, LONGITUDES.size)
    random = np.random.default_rng(0)
    wind, land = random.normal(size=shape).astype("float32"), random.random(shape[1:]).astype("float32")
    coordinates = {
        "time": ("time", 6.0 * np.arange(num_times), {"units": "hours since 1979-01-01"}),
        "lat": ("lat", LATITUDES, {"units": "degrees_north"}),
        "lon": ("lon", LONGITUDES, {"units": "degrees_east"}),
    }
    variables = {
        "u10": (("time", "lat", "lon"), wind, {"units": "m s-1"}),
        "orography": (("lat", "lon"), land, {"units": "m"}),
    }
    return xarray.Dataset({**variables, **changes}, coordinates)


# -- CarCFD ----------------------------------------------------------------------------------------------------------


def write_ply(
    path: Path,
    points: np.ndarray,
    *,
    kind: str = "binary_little_endian",
    faces: np.ndarray | None = np.arange(3)[None],  # noqa: B008  never written to
) -> Path:
    """Write vertices with one more property, and faces, one of the first three by default."""
    header = ["ply", f"format {kind} 1.0", "comment made", f"element vertex {len(points)}"]
    header += [f"property float {name}" for name in ("x", "y", "z", "quality")]
    if faces is not None:
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    rows = np.concatenate([points, np.ones((len(points), 1))], axis=1)
    if kind == "ascii":
        lines = [" ".join(map(repr, map(float, row))) for row in rows]
        lines += [] if faces is None else [" ".join(map(str, [len(face), *face])) for face in faces.tolist()]
        body = "\n".join([*lines, ""]).encode()
    else:
        order = "<" if "little" in kind else ">"
        body = rows.astype(f"{order}f4").tobytes()
        for face in () if faces is None else faces:
            body += bytes([len(face)]) + face.astype(f"{order}i4").tobytes()
    path.write_bytes("\n".join([*header, "end_header", ""]).encode() + body)
    return path


def car_folder(root: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Write three cars of 54, 60 and 70 vertices in a strip of triangles; return points and pressures, by id."""
    cars = {}
    for number, (car, count) in enumerate((("001", 54), ("002", 60), ("010", 70))):
        folder = root / "data" / car
        folder.mkdir(parents=True)
        points = random(count, 3, seed=number)
        write_ply(folder / "tri_mesh.ply", points, faces=np.arange(count - 2)[:, None] + np.arange(3))
        pressure = random(count + 96, seed=10 + number)
        np.save(folder / "press.npy", pressure)
        cars[car] = (points, pressure)
    (root / "train.txt").write_text("002,001")
    (root / "test.txt").write_text("010")
    return cars


def pdebench_specimens() -> dict[str, HDF5Specimen]:
    """One small file of each of PDEBench's other layouts, by the name of the layout."""
    x, y, t = ({f"{axis}-coordinate": (np.arange(size) + 0.5) / size} for axis, size in (("x", 6), ("y", 5), ("t", 4)))
    flow = {name: random(2, 4, 6, 5, seed=number) for number, name in enumerate(("density", "pressure", "Vx", "Vy"))}
    grouped = {
        f"000{group}/{name}": values
        for group in range(2)
        for name, values in {
            "data": random(4, 5, 6, 2, seed=group),
            "grid/x": np.linspace(-1, 1, 6, dtype="f4"),
            "grid/y": np.linspace(-1, 1, 5, dtype="f4"),
            "grid/t": np.arange(4.0),
        }.items()
    }
    config = {f"000{group}": {"config": "sim: {Du: 1e-3, Dv: 5e-3}"} for group in range(2)}
    content: dict[str, tuple[str, dict[str, Any], dict[str, dict[str, Any]]]] = {
        "scalar": ("1D_Burgers_Sols_Nu0.01.hdf5", {"tensor": random(3, 4, 6), **x, **t}, {"/": {"Nu": 0.01}}),
        "darcy": (
            "2D_DarcyFlow_beta1.0_Train.hdf5",
            {"tensor": random(3, 1, 6, 5), "nu": random(3, 6, 5, seed=1), **x, **y},
            {"/": {"beta": 1.0}},
        ),
        "flow": ("2D_CFD_Rand_M0.1_periodic_Train.hdf5", {**flow, **x, **y, **t}, {"/": {"eta": 0.01, "M": 0.1}}),
        "grouped": ("2D_diff-react_NA_NA.h5", grouped, config),
    }
    return {
        layout: HDF5Specimen(format="pdebench", name=name, datasets=datasets, attributes=attributes)
        for layout, (name, datasets, attributes) in content.items()
    }


HDF5_SPECIMENS = {
    "well": well_specimen(),
    "smoke": smoke_specimen(),
    "kuramoto": kuramoto_specimen(),
    "maxwell": maxwell_specimen(),
    "incompressible": incompressible_specimen(),
    **pdebench_specimens(),
}
"""Every layout of HDF5. Whoever changes one copies it first."""


# -- PhysicsNeMo-Curator ---------------------------------------------------------------------------------------------


def curator_arrays(number: int = 1, domains: tuple[str, ...] = ("surface",)) -> dict[str, np.ndarray]:
    """Return the arrays of a run as Curator's writers name them; run n has 40 + 10 n cells."""
    count = 40 + 10 * number
    arrays = {
        "stl_coordinates": random(6, 3, seed=number),
        "stl_centers": random(4, 3, seed=number + 1),
        "stl_faces": np.arange(12, dtype="f4") % 6,
        "stl_areas": np.ones(4, dtype="f4"),
        "global_params_values": np.array([38.889, 1.205], dtype="f4"),
        "global_params_reference": np.array([38.889, 1.205], dtype="f4"),
    }
    if "surface" in domains:
        arrays |= {
            "surface_mesh_centers": random(count, 3, seed=number + 2),
            "surface_normals": random(count, 3, seed=number + 3),
            "surface_areas": np.abs(random(count, seed=number + 4)) + 0.1,
            "surface_fields": random(count, 4, seed=number + 5),
        }
    if "volume" in domains:
        arrays |= {
            "volume_mesh_centers": random(count, 3, seed=number + 6),
            "volume_fields": random(count, 5, seed=number + 7),
        }
    return arrays


def write_curator(
    folder: Path,
    kind: str,
    *,
    number: int = 1,
    domains: tuple[str, ...] = ("surface",),
    arrays: dict[str, np.ndarray] | None = None,
) -> Path:
    """Write a run: `v2` and `v3` are versions of Zarr, `npz` is DoMINO's archive."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = curator_arrays(number, domains) if arrays is None else arrays
    if kind == "npz":
        path = folder / f"run_{number}.npz"
        np.savez(path, **arrays, filename=f"run_{number}", stream_velocity=38.889, air_density=1.205)  # type: ignore[arg-type]  # none is named as an option of NumPy's
        return path
    path = folder / f"run_{number}.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=2 if kind == "v2" else 3)
    for name, values in arrays.items():
        chunks = (32, *values.shape[1:])
        if kind == "v2":
            blosc = numcodecs.Blosc("zstd", 5, shuffle=numcodecs.Blosc.SHUFFLE)
            group.create_array(name, data=values, chunks=chunks, compressors=blosc)
        else:
            group.create_array(name, data=values, chunks=chunks, compressors=zarr.codecs.BloscCodec(cname="zstd"))
    constants = {"stream_velocity": 38.889, "air_density": 1.205}
    group.attrs.update({"filename": path.stem, "physics_constants": constants, "num_points": 6, "x_bound": [0.0, 1.0]})
    return path


# -- PhysicsNeMo -----------------------------------------------------------------------------------------------------

TETRAHEDRA = np.array([[0, 1, 2, 3], [1, 2, 3, 4]])
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], dtype="f4")


def mesh_arrays(*, seed: int = 0, prefix: str = "") -> dict[str, np.ndarray]:
    """Two tetrahedra with data on nodes and cells, by the keys that `physicsnemo.mesh.io.to_zarr` gives them."""
    arrays = {
        "points": CORNERS,
        "cells": TETRAHEDRA,
        "point_data/U": random(5, 3, seed=seed),
        "point_data/p": random(5, seed=seed + 1),
        "cell_data/nut": random(2, seed=seed + 2),
        "global_data/Re": np.array(100.0, dtype="f4"),
    }
    return {prefix + key: values for key, values in arrays.items()}


def write_physicsnemo(path: Path, arrays: dict[str, np.ndarray], kind: str = "Mesh") -> Path:
    """Write what nvidia-physicsnemo 2.2.2 writes: attributes of tensordict, zstd, consolidated metadata."""
    group = zarr.open_group(path, mode="w", zarr_format=3)
    for key, values in arrays.items():
        parent, _, name = key.rpartition("/")
        where = group.require_group(parent) if parent else group
        where.attrs["__tensordict__"] = {"batch_size": [], "version": 1}
        chunks = (200_000, *values.shape[1:]) if values.ndim else ()
        where.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=tuple(max(size, 1) for size in chunks),
            compressors=[zarr.codecs.ZstdCodec(level=3)],
        )[...] = values
    group.attrs["physicsnemo_mesh_type"] = kind
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(group.store)
    return path


def crash_arrays(*, seed: int = 0, frames: int = 4, nodes: int = 12) -> dict[str, np.ndarray]:
    """Nodes that fly apart, with the edges of a ring, as Curator's `MeshZarrSink` names them."""
    start = random(nodes, 3, seed=seed)
    steps = np.arange(frames, dtype="f4")[:, None, None] * random(nodes, 3, seed=seed + 1)
    return {
        "mesh_pos": (start + steps).astype("f4"),
        "edges": np.stack([np.arange(nodes), np.roll(np.arange(nodes), -1)], axis=1),
        "thickness": np.abs(random(nodes, seed=seed + 2)),
        "stress": random(nodes, 6, seed=seed + 3),
        "cell_part": random(5, seed=seed + 4),
    }


def write_crash(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """Write a store as `MeshZarrSink` does."""
    group = zarr.open_group(path, mode="w", zarr_format=3)
    for name, values in arrays.items():
        codec = zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")
        chunks = tuple(max(size, 1) for size in values.shape)
        group.create_array(name, data=values, chunks=chunks, compressors=[codec])
    group.attrs.update({"num_timesteps": len(arrays.get("mesh_pos", ())), "thickness_min": 0.0})
    return path
