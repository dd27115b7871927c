"""Malformed sources, generated from sound ones of every format: each refused with a typed error that names its place.

A case is a specimen, an item in it (a data set, an attribute, an array, a file) and one way to spoil that item. Before
it is spoilt, a specimen converts: so what is refused is the damage.

What is spoilt, by format ("-" where the format has no such thing):

    damage               PDEBench, The Well, PDEArena  arrays  torch  NetCDF, Zarr  anemoi  particles  meshes  VTK  cars
    cut short            all                           all     all    all, GRIB     all     all        all     all  all
    missing item         data sets, attributes         all     all    all           all     all        all     all  all
    wrong rank, text     all                           all     all    all           all     all        all     all  all
    ragged, empty        all                           HDF5    all    damaged file  -       -          -       -    -
    zero-length          all                           all     all    all           all     all        all     all  all
    axes or times that
    repeat, fall, or
    are not finite       all                           all     -      all           all     all        all     PVD  -

Files of the other byte order are no damage: see `test_byte_order`.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numcodecs
import numpy as np
import pytest
import torch
import zarr

from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources import SOURCES, open_source
from tests.preprocess.sources import test_anemoi as anemoi
from tests.preprocess.sources.grib_messages import weather_grib
from tests.preprocess.sources.meshes import plane, with_data
from tests.preprocess.sources.specimens import (
    HDF5_SPECIMENS,
    HDF5Specimen,
    car_folder,
    crash_arrays,
    curator_arrays,
    mesh_arrays,
    weather,
    well_specimen,
    write_crash,
    write_curator,
    write_physicsnemo,
)
from tests.preprocess.sources.test_particles import arrays_of
from tests.preprocess.sources.test_particles import write as write_particles
from tests.preprocess.sources.test_pdearena_shallow_water import collect
from ups_data.errors import UpsDataError

Spoil = Callable[[np.ndarray], Any]
WriteArrays = Callable[..., Path]


class Ragged(list):
    """Rows of unequal length, which HDF5 stores with a type of variable length."""


ANY: dict[str, Spoil] = {
    "missing": lambda values: None,
    "text": lambda values: np.full(values.shape, b"three"),
    "ragged": lambda values: Ragged([np.arange(2.0), np.arange(3.0)]),
    "empty": lambda values: h5py.Empty("f4"),
    "zero-length": lambda values: np.empty((0, *values.shape[1:]), values.dtype),
    "complex": lambda values: values.astype("complex64"),
    "rank": lambda values: np.stack([values, values], axis=-1),
}
AXIS: dict[str, Spoil] = {
    "short": lambda values: values[..., :-2],
    "repeated": lambda values: values[..., [0, *range(values.shape[-1] - 1)]],
    "falling": lambda values: values[..., ::-1],
    "nan": lambda values: np.where(np.arange(values.shape[-1]) == 1, np.nan, values),
    "infinite": lambda values: np.where(np.arange(values.shape[-1]) == 1, np.inf, values),
    "swapped-bytes": lambda values: values.astype("f8").byteswap(),
}
AXES = {"time", "x", "y", "t", "x-coordinate", "y-coordinate", "t-coordinate"}
UNREAD = {"train/dt", "train/dx", "train/dy"}
"""Of Navier-Stokes files: they restate what `t`, `x` and `y` tell."""
OPTIONAL = {"train/buo_y", "train/v", "boundary_conditions/x_periodic/mask", "boundary_conditions/y_wall/mask"}
"""Files without them are sound."""


def read_all(path: Path, format_name: str, options: Any = None) -> None:
    """Do all that a conversion does; told the format, so that what is refused is not the recognition."""
    convert(open_source([path], format_name, options), path.parent / "store", ConvertSettings())


def check_refused(path: Path, format_name: str, options: Any, *places: str) -> None:
    with pytest.raises(UpsDataError) as raised:
        read_all(path, format_name, options)
    for place in places:
        assert place in str(raised.value)
    assert not (path.parent / "store").exists()


# -- HDF5 ------------------------------------------------------------------------------------------------------------


def dataset_cases() -> list[Any]:
    cases = []
    for name, specimen in HDF5_SPECIMENS.items():
        for item in specimen.datasets:
            if name == "smoke" and item in UNREAD:
                continue
            ways = {**ANY, **(AXIS if item.rpartition("/")[2] in AXES else {})}
            if item in OPTIONAL:
                del ways["missing"]
            cases += [pytest.param(name, item, spoil, id=f"{name}-{item}-{way}") for way, spoil in ways.items()]
    return cases


def replace_dataset(path: Path, item: str, values: Any, attributes: dict[str, Any]) -> None:
    with h5py.File(path, "r+") as file:
        if item in file:
            del file[item]
        if isinstance(values, Ragged):
            dataset = file.create_dataset(item, (len(values),), dtype=h5py.vlen_dtype("f8"))
            for row, entries in enumerate(values):
                dataset[row] = entries
        else:
            dataset = file.create_dataset(item, data=values)
        dataset.attrs.update(attributes)


@pytest.mark.parametrize("name", HDF5_SPECIMENS)
def test_the_specimens_themselves_convert(tmp_path: Path, name: str) -> None:
    specimen = HDF5_SPECIMENS[name]
    read_all(specimen.write(tmp_path), specimen.format, specimen.options)
    assert (tmp_path / "store" / "manifest.json").exists()


@pytest.mark.parametrize(("name", "item", "spoil"), dataset_cases())
def test_a_spoilt_data_set_is_refused(tmp_path: Path, name: str, item: str, spoil: Spoil) -> None:
    specimen = copy.deepcopy(HDF5_SPECIMENS[name])
    values = spoil(specimen.datasets.pop(item))
    attributes = specimen.attributes.pop(item, {})
    path = specimen.write(tmp_path)
    if values is not None:
        replace_dataset(path, item, values, attributes)
    # The name of this one tells its size; without it, the kind of name is told.
    told = "pde_" if values is None and "pde_" in item else item.rpartition("/")[2]
    check_refused(path, specimen.format, specimen.options, specimen.name, told)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
@pytest.mark.parametrize("name", HDF5_SPECIMENS)
def test_a_value_that_is_no_field_s_is_refused(tmp_path: Path, name: str, value: float) -> None:
    specimen = copy.deepcopy(HDF5_SPECIMENS[name])
    item = max(specimen.datasets, key=lambda key: specimen.datasets[key].size)
    # All in float64: the data sets of one kind must have one type, and float32 holds no 1e200.
    specimen.datasets = {key: values.astype("f8") for key, values in specimen.datasets.items()}
    specimen.datasets[item][(-1,) * specimen.datasets[item].ndim] = value
    check_refused(specimen.write(tmp_path), specimen.format, specimen.options, specimen.name, "holds", "point (")


@pytest.mark.parametrize("kept", [0, 8, 100, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("name", HDF5_SPECIMENS)
def test_a_file_cut_short_is_refused(tmp_path: Path, name: str, kept: float) -> None:
    specimen = HDF5_SPECIMENS[name]
    path = specimen.write(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])
    check_refused(path, specimen.format, specimen.options, specimen.name)


VALUES = {"missing": None, "text": "seven", "number": 7.5, "empty": h5py.Empty("f4")}
UNTOLD = {"symmetric", "antisymmetric", "viscosity"}
"""Attributes that only tell what the numbers are like, or that a scalar tells too."""
ANY_TEXT = {"dataset_name", "bc_type"}


def attribute_cases() -> list[Any]:
    """Return every attribute of a file of The Well, without those of the axes, which have defaults."""
    return [
        pytest.param(item, attribute, value, id=f"{item}-{attribute}-{way}")
        for item, content in well_specimen().attributes.items()
        for attribute in content
        for way, value in VALUES.items()
        if not item.startswith("dimensions/") and attribute not in UNTOLD
        if way != "text" or attribute not in ANY_TEXT
    ]


@pytest.mark.parametrize(("item", "attribute", "value"), attribute_cases())
def test_a_spoilt_attribute_of_the_well_is_refused(tmp_path: Path, item: str, attribute: str, value: Any) -> None:
    specimen = well_specimen()
    del specimen.attributes[item][attribute]
    if value is not None:
        specimen.attributes[item][attribute] = value
    named = attribute if item == "/" else item.rpartition("/")[2]
    check_refused(specimen.write(tmp_path), "the_well", None, specimen.name, named)


PARAMETERS = [("scalar", "Nu"), ("darcy", "beta"), ("flow", "eta"), ("flow", "M")]


@pytest.mark.parametrize("value", ["seven", h5py.Empty("f4"), np.nan, [1.0, 2.0, 3.0]], ids=str)
@pytest.mark.parametrize(("name", "attribute"), PARAMETERS)
def test_a_spoilt_parameter_of_pdebench_is_refused(tmp_path: Path, name: str, attribute: str, value: Any) -> None:
    specimen = copy.deepcopy(HDF5_SPECIMENS[name])
    specimen.attributes["/"][attribute] = value
    check_refused(specimen.write(tmp_path), "pdebench", None, specimen.name, attribute)


@pytest.mark.parametrize("value", [7.5, h5py.Empty("f4"), "sim: [1", "sim: !!python/object:os.system {}"], ids=str)
@pytest.mark.parametrize(("name", "item"), [("incompressible", "/"), ("grouped", "0001")])
def test_a_spoilt_configuration_of_pdebench_is_refused(tmp_path: Path, name: str, item: str, value: Any) -> None:
    specimen = copy.deepcopy(HDF5_SPECIMENS[name])
    specimen.attributes[item]["config"] = value
    check_refused(specimen.write(tmp_path), "pdebench", None, specimen.name, "config")


@pytest.mark.parametrize("value", [None, "sim: 7", "seven"])
def test_a_group_of_pdebench_with_other_parameters_is_refused(tmp_path: Path, value: str | None) -> None:
    specimen = copy.deepcopy(HDF5_SPECIMENS["grouped"])
    specimen.attributes["0001"] = {} if value is None else {"config": value}
    check_refused(specimen.write(tmp_path), "pdebench", None, specimen.name, "0001")


# -- described arrays ------------------------------------------------------------------------------------------------

NUMPY_ANY: dict[str, Spoil] = {
    "text": lambda values: np.full(values.shape, "three"),
    "objects": lambda values: np.full(values.shape, None),
    "zero-length": lambda values: np.empty((0, *values.shape[1:])),
    "complex": lambda values: values.astype("complex64"),
    "rank": lambda values: np.stack([values, values], axis=-1),
    "short": lambda values: values[..., :-1],
}


@pytest.mark.parametrize(
    ("kind", "way"),
    # Neither HDF5 nor Zarr stores Python's objects.
    [(kind, way) for kind in ("npy", "h5", "zarr") for way in NUMPY_ANY if kind == "npy" or way != "objects"],
)
def test_a_spoilt_array_is_refused(write_arrays: WriteArrays, tmp_path: Path, kind: str, way: str) -> None:
    values = NUMPY_ANY[way](np.load(write_arrays().parent / "velocity.npy"))
    name = f"velocity.{kind}"
    if values.dtype.kind == "U" and kind == "h5":
        values = values.astype("S")
    if kind == "npy":
        np.save(tmp_path / name, values, allow_pickle=True)
    elif kind == "h5":
        with h5py.File(tmp_path / name, "w") as file:
            file["u"] = values
    else:
        group = zarr.open_group(tmp_path / name, mode="w", zarr_format=2)
        group.create_array("u", shape=values.shape, dtype=values.dtype)[...] = values
    path = tmp_path / "made.yaml"
    entry = f"file: {name}" + ("" if kind == "npy" else ", key: u")
    path.write_text(path.read_text().replace("file: velocity.npy", entry))
    check_refused(path, "arrays", None, name)


@pytest.mark.parametrize("way", ["cut", "longer", "lying"])
@pytest.mark.parametrize("version", [2, 3])
def test_a_damaged_chunk_of_described_zarr_is_refused(
    write_arrays: WriteArrays, tmp_path: Path, version: int, way: str
) -> None:
    path = write_arrays()
    values = np.load(tmp_path / "velocity.npy")
    blosc: Any = numcodecs.Blosc() if version == 2 else zarr.codecs.BloscCodec()
    group = zarr.open_group(tmp_path / "velocity.zarr", mode="w", zarr_format=version)
    group.create_array("u", shape=values.shape, dtype=values.dtype, compressors=blosc)[...] = values
    path.write_text(path.read_text().replace("file: velocity.npy", "file: velocity.zarr, key: u"))
    read_all(path, "arrays")
    shutil.rmtree(tmp_path / "store")
    damage_chunk(tmp_path / "velocity.zarr" / "u", way)
    check_refused(path, "arrays", None, "velocity.zarr: u")


def test_described_zarr_with_chunks_of_nothing_is_refused(write_arrays: WriteArrays, tmp_path: Path) -> None:
    path = write_arrays(("file: velocity.npy", "file: velocity.zarr, key: u"))
    zarr.create_array(tmp_path / "velocity.zarr" / "u", data=np.load(tmp_path / "velocity.npy"), zarr_format=2)
    (tmp_path / "velocity.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    read_all(path, "arrays")
    shutil.rmtree(tmp_path / "store")
    file = tmp_path / "velocity.zarr" / "u" / ".zarray"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chunks": [0] * 5}))
    check_refused(path, "arrays", None, "velocity.zarr: u")


def damage_chunk(folder: Path, way: str) -> None:
    """Cut the first chunk of an array of Zarr, make it longer, or have its first bytes say that it holds 2 GiB."""
    chunk = min(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith((".z", "zarr.json")))
    content = chunk.read_bytes()
    changed = {
        "cut": content[:-2],
        "longer": content + b"\0\0\0",
        "lying": content[:4] + b"\xff\xff\xff\x7f" + content[8:],
    }
    chunk.write_bytes(changed[way])


@pytest.mark.parametrize("way", AXIS)
def test_a_spoilt_axis_of_described_arrays_is_refused(write_arrays: WriteArrays, tmp_path: Path, way: str) -> None:
    path = write_arrays(y=AXIS[way](np.linspace(0.0, 1.5, 6)))
    check_refused(path, "arrays", None, "rest.npz: y")


TIMES = ("{start: 0.0, step: 0.05, unit: s}", "{file: rest.npz, key: t}")
SEEDLING = ("seedling: {values: [1, 2, 3.5]}", "seedling: {file: rest.npz, key: nu}")


def test_described_arrays_with_times_and_parameters_in_files_convert(write_arrays: WriteArrays, tmp_path: Path) -> None:
    read_all(write_arrays(TIMES, SEEDLING, t=np.linspace(0.0, 1.5, 4), nu=np.arange(3.0)), "arrays")
    assert (tmp_path / "store" / "manifest.json").exists()


@pytest.mark.parametrize("way", ["text", "complex", "zero-length", "rank", *AXIS])
def test_spoilt_times_of_described_arrays_are_refused(write_arrays: WriteArrays, tmp_path: Path, way: str) -> None:
    path = write_arrays(TIMES, t={**NUMPY_ANY, **AXIS}[way](np.linspace(0.0, 1.5, 4)))
    check_refused(path, "arrays", None, "rest.npz: t")


@pytest.mark.parametrize("way", ["text", "complex", "zero-length", "rank", "nan", "infinite"])
def test_a_spoilt_parameter_of_described_arrays_is_refused(write_arrays: WriteArrays, tmp_path: Path, way: str) -> None:
    path = write_arrays(SEEDLING, nu={**NUMPY_ANY, **AXIS}[way](np.arange(3.0)))
    check_refused(path, "arrays", None, "rest.npz: nu")


@pytest.mark.parametrize("way", ["ragged", "empty", "group", "cut"])
def test_a_damaged_hdf5_file_of_described_arrays_is_refused(
    write_arrays: WriteArrays, tmp_path: Path, way: str
) -> None:
    path = write_arrays(("file: velocity.npy", "file: velocity.h5, key: u"))
    values = np.load(tmp_path / "velocity.npy")
    file = tmp_path / "velocity.h5"
    with h5py.File(file, "w") as content:
        content["u"] = values
    read_all(path, "arrays")
    shutil.rmtree(tmp_path / "store")
    if way == "group":
        with h5py.File(file, "r+") as content:
            del content["u"]
            content.create_group("u")
    elif way == "cut":
        file.write_bytes(file.read_bytes()[:-1000])
    else:
        replace_dataset(file, "u", ANY[way](values), {})
    check_refused(path, "arrays", None, "velocity.h5")


@pytest.mark.parametrize("name", ["velocity.npy", "rest.npz"])
def test_a_missing_file_of_described_arrays_is_refused(write_arrays: WriteArrays, tmp_path: Path, name: str) -> None:
    path = write_arrays()
    (tmp_path / name).unlink()
    check_refused(path, "arrays", None, name)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("axes:", "axes: {{{", "not valid YAML"),
        ("axes:", "axes: !!python/object:os.system\n ", "not valid YAML"),
        ("times:", "tmies:", "tmies"),
        ("stop: 1.0", "stop: one", "axes.x.stop"),
        ("stop: 1.0", "stop: .nan", "cannot be read"),
        ("step: 0.05", "step: 0", "made.yaml: times"),
        ("{train: 2, test: 1}", "{train: 2, test: 2}", "split"),
        ("[1, 2, 3.5]", "[1, 2]", "parameters.seedling"),
        ("[1, 2, 3.5]", "[1, 2, three]", "parameters.seedling"),
        ("component, x, y]", "component, x]", "velocity"),
        ("components: [x, y]", "components: [x, y, z]", "velocity"),
    ],
)
def test_a_spoilt_description_of_arrays_is_refused(write_arrays: WriteArrays, old: str, new: str, told: str) -> None:
    check_refused(write_arrays((old, new)), "arrays", None, told)


@pytest.mark.parametrize("kept", [0, 3, 60, 200])
@pytest.mark.parametrize("name", ["velocity.npy", "rest.npz"])
def test_arrays_cut_short_are_refused(write_arrays: WriteArrays, tmp_path: Path, name: str, kept: int) -> None:
    path = write_arrays()
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:kept])
    check_refused(path, "arrays", None, name)


# -- torch files -----------------------------------------------------------------------------------------------------

TENSORS = {
    "darcy_train_4.pt": {"x": torch.ones(3, 4, 4, dtype=torch.bool), "y": torch.ones(3, 4, 4)},
    "nsforcing_train_4.pt": {"x": torch.ones(3, 4, 4), "y": torch.ones(3, 4, 4)},
    "burgers_train.pt": {"input": torch.ones(3, 4), "output": torch.ones(3, 5, 4), "visc": torch.ones(1, 1)},
}
TENSOR_ANY: dict[str, Callable[[torch.Tensor], Any]] = {
    "missing": lambda tensor: None,
    "text": lambda tensor: "three",
    "list": lambda tensor: tensor.tolist(),
    "zero-length": lambda tensor: tensor[:0],
    "complex": lambda tensor: tensor.to(torch.complex64),
    "rank": lambda tensor: torch.stack([tensor, tensor], dim=-1),
    "ragged": lambda tensor: [tensor[:1], tensor[:2]],
}


@pytest.mark.parametrize("way", TENSOR_ANY)
@pytest.mark.parametrize(("name", "key"), [(name, key) for name, content in TENSORS.items() for key in content])
def test_a_spoilt_tensor_is_refused(tmp_path: Path, name: str, key: str, way: str) -> None:
    options = {"time_step": 0.1} if "burgers" in name else {}
    read_all(save(tmp_path / "sound" / name, TENSORS[name]), "neuraloperator", options)
    spoilt = TENSOR_ANY[way](TENSORS[name][key])
    content = {**TENSORS[name], key: spoilt}
    if spoilt is None:
        del content[key]
    check_refused(save(tmp_path / name, content), "neuraloperator", options, name, key)


UNUSABLE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sparse": lambda tensor: tensor.float().to_sparse(),
    "no values": lambda tensor: torch.empty(tensor.shape, device="meta"),
    "float8": lambda tensor: tensor.to(torch.float8_e4m3fn),
}
USABLE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "bfloat16": lambda tensor: tensor.bfloat16(),
    "parameter": lambda tensor: torch.nn.Parameter(tensor.float()),
}


@pytest.mark.parametrize("way", UNUSABLE)
@pytest.mark.parametrize(("name", "key"), [(name, key) for name, content in TENSORS.items() for key in content])
def test_a_tensor_that_numpy_does_not_have_is_refused(tmp_path: Path, name: str, key: str, way: str) -> None:
    path = save(tmp_path / name, {**TENSORS[name], key: UNUSABLE[way](TENSORS[name][key])})
    check_refused(path, "neuraloperator", {"time_step": 0.1} if "burgers" in name else {}, name, key)


@pytest.mark.parametrize("way", USABLE)
def test_tensors_that_only_torch_has_come_out_exactly(tmp_path: Path, way: str) -> None:
    values = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    path = save(tmp_path / "nsforcing_train_4.pt", {"x": torch.ones(3, 4, 4), "y": USABLE[way](values)})
    source = open_source([path], "neuraloperator")
    assert source.dtype == np.float32
    np.testing.assert_array_equal(source.read_frames(1, 0, 1)[0, 1], values[1].float().numpy())


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
@pytest.mark.parametrize("key", ["x", "y"])
def test_a_value_of_a_tensor_that_is_no_field_s_is_refused(tmp_path: Path, key: str, value: float) -> None:
    content = {name: torch.ones(3, 4, 4, dtype=torch.float64) for name in ("x", "y")}
    content[key][-1, -1, -1] = value
    channel = {"x": "forcing", "y": "vorticity"}[key]
    check_refused(save(tmp_path / "nsforcing_train_4.pt", content), "neuraloperator", None, "nsforcing", channel)


@pytest.mark.parametrize("key", ["x", "y"])
def test_integers_that_float64_does_not_hold_are_refused(tmp_path: Path, key: str) -> None:
    content = {"x": torch.ones(3, 4, 4), "y": torch.ones(3, 4, 4)}
    content[key] = torch.full((3, 4, 4), 2**53 + 1)
    check_refused(save(tmp_path / "nsforcing_train_4.pt", content), "neuraloperator", None, "nsforcing", f": {key}")


@pytest.mark.parametrize("kept", [0, 3, 100, 0.5, 0.99])
def test_torch_files_cut_short_are_refused(tmp_path: Path, kept: float) -> None:
    for name, tensors in TENSORS.items():
        path = save(tmp_path / name, tensors)
        content = path.read_bytes()
        path.write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])
        check_refused(path, "neuraloperator", None, name)


def save(path: Path, content: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    torch.save(content, path)
    return path


# -- cars, NetCDF ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", NUMPY_ANY)
def test_a_spoilt_pressure_of_a_car_is_refused(tmp_path: Path, way: str) -> None:
    car_folder(tmp_path / "cars")
    file = tmp_path / "cars" / "data" / "001" / "press.npy"
    np.save(file, NUMPY_ANY[way](np.load(file)), allow_pickle=True)
    check_refused(tmp_path / "cars", "car_cfd", None, "001", "press.npy")


@pytest.mark.parametrize("name", ["tri_mesh.ply", "press.npy"])
@pytest.mark.parametrize("kept", [None, 0, 2, 50, 200])
def test_a_file_of_a_car_missing_or_cut_short_is_refused(tmp_path: Path, name: str, kept: int | None) -> None:
    car_folder(tmp_path / "cars")
    file = tmp_path / "cars" / "data" / "010" / name
    content = file.read_bytes()
    file.unlink()
    if kept is not None:
        file.write_bytes(content[:kept])
    check_refused(tmp_path / "cars", "car_cfd", None, "010", name)


@pytest.mark.parametrize("content", [b"", b" , ", b"777", b"\xff\xfe\x00", b"001,001", b"../001", b"001\n010"])
@pytest.mark.parametrize("name", ["train.txt", "test.txt"])
def test_a_spoilt_list_of_cars_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    car_folder(tmp_path / "cars")
    (tmp_path / "cars" / name).write_bytes(content)
    check_refused(tmp_path / "cars", "car_cfd", None, "cars", name)


NETCDF_AXIS = {way: spoil for way, spoil in AXIS.items() if way not in {"short", "falling"}}
"""Latitudes may fall, and a dimension has as many coordinates as it has entries."""


@pytest.mark.parametrize("way", NETCDF_AXIS)
@pytest.mark.parametrize("axis", ["time", "lat", "lon"])
def test_a_spoilt_coordinate_of_netcdf_is_refused(tmp_path: Path, axis: str, way: str) -> None:
    data = weather()
    spoilt = NETCDF_AXIS[way](data[axis].values)
    path = tmp_path / "weather.nc"
    data.assign_coords({axis: (axis, spoilt, data[axis].attrs)}).to_netcdf(path)
    check_refused(path, "xarray", None, "weather.nc", axis)


NOT_NUMBERS: dict[str, Any] = {
    "text": np.full((6, 9, 16), "three"),
    "complex": np.ones((6, 9, 16), "complex64"),
    "nan": np.full((6, 9, 16), np.nan),
    "infinite": np.full((6, 9, 16), np.inf),
    "huge": np.full((6, 9, 16), 1e200),
}


@pytest.mark.parametrize("way", NOT_NUMBERS)
@pytest.mark.parametrize("kind", ["nc", "zarr"])
def test_a_variable_that_holds_no_numbers_is_refused(tmp_path: Path, kind: str, way: str) -> None:
    if (kind, way) == ("nc", "complex"):
        return  # the library does not write them
    data = weather(u10=(("time", "lat", "lon"), NOT_NUMBERS[way]))
    path = tmp_path / f"weather.{kind}"
    if kind == "nc":
        data.to_netcdf(path)
    else:
        data.to_zarr(path, zarr_format=2, consolidated=False)
    check_refused(path, "xarray", None, "weather", "u10")


@pytest.mark.parametrize("axis", ["time", "lat", "lon"])
@pytest.mark.parametrize("kind", ["nc", "zarr"])
def test_an_axis_without_entries_is_refused(tmp_path: Path, kind: str, axis: str) -> None:
    path, data = tmp_path / f"weather.{kind}", weather().isel({axis: slice(0, 0)})
    if kind == "nc":
        data.to_netcdf(path)
    else:
        data.to_zarr(path, zarr_format=2, consolidated=False)
    check_refused(path, "xarray", None, "weather", axis)


NETCDF_ATTRIBUTES = [
    *(
        ("u10", name, value)
        for name in ("_FillValue", "missing_value", "scale_factor", "add_offset", "valid_min", "valid_range")
        for value in ("seven", h5py.Empty("f4"))
    ),
    *(("u10", name, [1.0, 2.0, 3.0]) for name in ("scale_factor", "add_offset", "valid_max", "valid_range")),
    *(("time", "units", value) for value in (None, 7.5, h5py.Empty("f4"), "seven")),
    ("lat", "units", "seven"),
]


@pytest.mark.parametrize(("item", "attribute", "value"), NETCDF_ATTRIBUTES, ids=str)
def test_a_spoilt_attribute_of_netcdf_is_refused(tmp_path: Path, item: str, attribute: str, value: Any) -> None:
    path = tmp_path / "weather.nc"
    weather().to_netcdf(path)
    with h5py.File(path, "r+") as file:
        file[item].attrs.pop(attribute, None)
        if value is not None:
            file[item].attrs[attribute] = value
    check_refused(path, "xarray", None, "weather.nc", item, attribute if item == "u10" else "")


@pytest.mark.parametrize("way", ["missing", *(way for way in ANY if way != "missing")])
@pytest.mark.parametrize("item", ["time", "lat", "lon"])
def test_a_spoilt_data_set_of_a_coordinate_of_netcdf_is_refused(tmp_path: Path, item: str, way: str) -> None:
    path = tmp_path / "weather.nc"
    weather().to_netcdf(path)
    with h5py.File(path, "r+") as file:
        values = ANY[way](file[item][...])
        attributes = {key: value for key, value in file[item].attrs.items() if "_LIST" not in key}
        del file[item]
    if values is not None:
        replace_dataset(path, item, values, attributes)
    # The NetCDF library does not tell what it stumbled over.
    check_refused(path, "xarray", None, "weather.nc")


@pytest.mark.parametrize("kept", [0, 3, 8, 0.3, 0.9])
def test_netcdf_cut_short_is_refused(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "weather.nc"
    weather().to_netcdf(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])
    check_refused(path, "xarray", None, "weather.nc")


# -- meshes ----------------------------------------------------------------------------------------------------------

VTK_FILES = {"xml": ("vtu", True), "xml-text": ("vtu", False), "surface": ("vtp", True), "legacy": ("vtk", True)}


def write_vtk(folder: Path, kind: str) -> Path:
    suffix, binary = VTK_FILES[kind]
    grid: Any = with_data(plane())
    if suffix == "vtp":
        grid = grid.extract_surface(algorithm="geometry")
    folder.mkdir(parents=True, exist_ok=True)
    grid.save(folder / f"made.{suffix}", binary=binary)
    return folder / f"made.{suffix}"


@pytest.mark.parametrize("kept", [0, 20, 100, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", VTK_FILES)
def test_a_mesh_cut_short_is_refused(tmp_path: Path, kind: str, kept: float) -> None:
    path = write_vtk(tmp_path, kind)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])
    check_refused(path, "vtk", {"location": "nodes"}, path.name)


LEGACY = """# vtk DataFile Version 3.0
made
ASCII
DATASET UNSTRUCTURED_GRID
POINTS 5 double
0 0 0  2 0 0  2 1 0  0 1 0  4 0.5 0
CELLS 2 9
4 0 1 2 3
3 1 4 2
CELL_TYPES 2
9 5
POINT_DATA 5
SCALARS p double 1
LOOKUP_TABLE default
1 2 3 4 5
"""
LEGACY_CHANGES = {
    "no version": ("Version 3.0", "Version three"),
    "another kind": ("UNSTRUCTURED_GRID", "SOMETHING_ELSE"),
    "no points": ("POINTS 5 double", "POINTS 0 double"),
    "too many points": ("POINTS 5 double", "POINTS 9 double"),
    "text for a number": ("2 1 0", "2 one 0"),
    "not finite": ("4 0.5 0", "4 nan 0"),
    "a node that is not there": ("3 1 4 2", "3 1 5 2"),
    "a node before the first": ("3 1 4 2", "3 1 -4 2"),
    "a type of other nodes": ("9 5\n", "12 5\n"),
    "a type that is none": ("9 5\n", "9 99\n"),
    "a cell without extent": ("3 1 4 2", "3 1 1 2"),
    "cells cut short": ("CELLS 2 9", "CELLS 3 9"),
    "a node of no cell": ("3 1 4 2", "3 1 3 2"),
    "no data": ("SCALARS p double 1\nLOOKUP_TABLE default\n1 2 3 4 5\n", ""),
    "too little data": ("1 2 3 4 5\n", "1 2 3\n"),
    "data that are not finite": ("1 2 3 4 5", "1 2 nan 4 5"),
    "data that are too large": ("1 2 3 4 5", "1 2 1e200 4 5"),
}


def test_the_mesh_itself_converts(tmp_path: Path) -> None:
    (tmp_path / "made.vtk").write_text(LEGACY)
    read_all(tmp_path / "made.vtk", "vtk")
    assert (tmp_path / "store" / "manifest.json").exists()


@pytest.mark.parametrize("change", LEGACY_CHANGES)
def test_a_spoilt_mesh_is_refused(tmp_path: Path, change: str) -> None:
    old, new = LEGACY_CHANGES[change]
    assert old in LEGACY
    (tmp_path / "made.vtk").write_text(LEGACY.replace(old, new))
    check_refused(tmp_path / "made.vtk", "vtk", None, "made.vtk" if "that are" not in change else "made")


XML_CHANGES = {
    "other counts": ('NumberOfPoints="5"', 'NumberOfPoints="9"'),
    "more cells than there are": ('NumberOfCells="2"', 'NumberOfCells="7"'),
    "no connectivity": ('Name="connectivity"', 'Name="nothing"'),
    "no types": ('Name="types"', 'Name="sorts"'),
    "no points": ("<Points>", "<Dots>"),
    "text for numbers": ('type="Float32"', 'type="String"'),
    "other components": ('NumberOfComponents="3"', 'NumberOfComponents="2"'),
}


@pytest.mark.parametrize("change", XML_CHANGES)
def test_a_spoilt_xml_mesh_is_refused(tmp_path: Path, change: str) -> None:
    path, (old, new) = write_vtk(tmp_path, "xml-text"), XML_CHANGES[change]
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))
    check_refused(path, "vtk", {"location": "nodes"}, path.name)


@pytest.mark.parametrize("value", [None, "three", "nan", "inf", "1e200"])
def test_a_spoilt_number_of_an_xml_mesh_is_refused(tmp_path: Path, value: str | None) -> None:
    path = write_vtk(tmp_path, "xml-text")
    lines = path.read_text().split("\n")
    row = next(number for number, line in enumerate(lines) if 'Name="p"' in line) + 1
    numbers = lines[row].split()
    lines[row] = " ".join([*numbers[:3], *([] if value is None else [value]), *numbers[4:]])
    path.write_text("\n".join(lines).replace('type="Float32" Name="p"', 'type="Float64" Name="p"'))
    check_refused(path, "vtk", {"location": "nodes"}, "made")


STEP = '<DataSet timestep="{}" file="made.vtu"/>'
COLLECTIONS = {
    "a file that is not there": '<DataSet timestep="0" file="no.vtu"/>',
    "no file": '<DataSet timestep="0"/>',
    "repeated times": STEP.format(1) + STEP.format(1),
    "text for a time": STEP.format("soon"),
    "times that are not finite": STEP.format("nan") + STEP.format(1),
    "no times": '<DataSet file="made.vtu"/>' * 2,
    "nothing": "",
}


@pytest.mark.parametrize("way", COLLECTIONS)
def test_a_spoilt_collection_is_refused(tmp_path: Path, way: str) -> None:
    write_vtk(tmp_path, "xml")
    path = tmp_path / "run.pvd"
    head = '<?xml version="1.0"?><VTKFile type="Collection" version="0.1"><Collection>'
    path.write_text(f"{head}{COLLECTIONS[way]}</Collection></VTKFile>")
    check_refused(path, "vtk", {"location": "nodes"}, "run.pvd")


# -- PhysicsNeMo-Curator ---------------------------------------------------------------------------------------------

NEEDED = ("surface_mesh_centers", "surface_fields", "surface_areas")


@pytest.mark.parametrize(
    "way", ["missing", *(way for way in NUMPY_ANY if way not in {"objects", "short"}), "other count"]
)
@pytest.mark.parametrize("name", [*NEEDED, "surface_normals"])
@pytest.mark.parametrize("kind", ["v2", "npz"])
def test_a_spoilt_array_of_a_run_is_refused(tmp_path: Path, kind: str, name: str, way: str) -> None:
    if (name, way) == ("surface_normals", "missing"):
        return  # then there is a field less
    arrays = curator_arrays(1, ("surface",))
    values = arrays.pop(name)
    if way == "other count":
        arrays[name] = values[:-1]
    elif way != "missing":
        arrays[name] = NUMPY_ANY[way](values)
    if kind == "v2" and way == "text":
        arrays[name] = arrays[name].astype("S")
    path = write_curator(tmp_path, kind, arrays=arrays)
    check_refused(path, "curator", None, path.name, name)


@pytest.mark.parametrize("kept", [0, 3, 0.3, 0.9])
@pytest.mark.parametrize("name", NEEDED)
def test_a_run_cut_short_is_refused(tmp_path: Path, name: str, kept: float) -> None:
    path = write_curator(tmp_path, "v2")
    chunk = next(file for file in (path / name).iterdir() if file.name.startswith("0"))
    content = chunk.read_bytes()
    chunk.write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])
    check_refused(path, "curator", None, path.name, name)
    archive = write_curator(tmp_path, "npz")
    archive.write_bytes(archive.read_bytes()[: int(kept * 1000)])
    check_refused(archive, "curator", None, archive.name)


@pytest.mark.parametrize("way", ["text", "complex", "nan", "infinite"])
@pytest.mark.parametrize("kind", ["v2", "npz"])
def test_spoilt_parameters_of_a_run_are_refused(tmp_path: Path, kind: str, way: str) -> None:
    arrays = curator_arrays()
    spoilt = {**NUMPY_ANY, **AXIS}[way](arrays["global_params_values"])
    arrays["global_params_values"] = spoilt.astype("S") if spoilt.dtype.kind == "U" and kind == "v2" else spoilt
    path = write_curator(tmp_path, kind, arrays=arrays)
    check_refused(path, "curator", None, path.name, "global_params_values")


@pytest.mark.parametrize("name", NEEDED)
def test_a_run_with_values_that_are_not_finite_is_refused(tmp_path: Path, name: str) -> None:
    arrays = curator_arrays(1, ("surface",))
    arrays[name][5] = np.nan
    path = write_curator(tmp_path, "npz", arrays=arrays)
    check_refused(path, "curator", None, path.stem, "nan")


# -- PhysicsNeMo -----------------------------------------------------------------------------------------------------


def mesh_only() -> dict[str, np.ndarray]:
    arrays = mesh_arrays()
    del arrays["cell_data/nut"]
    return arrays


@pytest.mark.filterwarnings("ignore:The data type:zarr.errors.UnstableSpecificationWarning")  # of text
@pytest.mark.parametrize("way", ["missing", "zero-length", "complex", "text", "rank", "short", "nan"])
@pytest.mark.parametrize("key", ["points", "cells", "point_data/U", "point_data/p", "global_data/Re"])
def test_a_spoilt_array_of_a_physicsnemo_mesh_is_refused(tmp_path: Path, key: str, way: str) -> None:
    if (key, way) in {
        ("cells", "missing"),  # a cloud
        ("cells", "zero-length"),
        ("cells", "short"),
        ("point_data/U", "missing"),  # a field less
        ("point_data/p", "missing"),
        ("point_data/p", "rank"),  # two components
        ("point_data/U", "rank"),
        ("global_data/Re", "missing"),
        ("global_data/Re", "rank"),
        ("global_data/Re", "zero-length"),
        ("global_data/Re", "short"),
        ("cells", "nan"),
        ("point_data/U", "short"),  # two components
    }:
        return
    arrays = mesh_only()
    values = arrays.pop(key)
    if way == "nan":
        arrays[key] = np.full_like(values, np.nan)
    elif way != "missing":
        arrays[key] = as_stored(NUMPY_ANY[way](values))
    path = write_physicsnemo(tmp_path / "made.zarr", arrays)
    # A field is told by its name, and nodes that cells do not have by the store.
    named = {"nan": key.rpartition("/")[2], "short": ""}.get(way, key)
    check_refused(path, "physicsnemo_mesh", None, "made", named)


def as_stored(values: np.ndarray) -> np.ndarray:
    """Return text as bytes, as Zarr has it."""
    return values.astype("S") if values.dtype.kind == "U" else values


@pytest.mark.parametrize("way", ["cut", "longer", "lying"])
@pytest.mark.parametrize("key", ["points", "cells", "point_data/U", "point_data/p", "global_data/Re"])
def test_a_chunk_of_a_physicsnemo_mesh_that_is_damaged_is_refused(tmp_path: Path, key: str, way: str) -> None:
    path = write_physicsnemo(tmp_path / "made.zarr", mesh_only())
    damage_chunk(path / key, way)
    check_refused(path, "physicsnemo_mesh", None, "made.zarr", key)


@pytest.mark.parametrize("kind", ["Meshes", "", "DomainMesh"])
def test_a_physicsnemo_mesh_of_another_kind_is_refused(tmp_path: Path, kind: str) -> None:
    check_refused(write_physicsnemo(tmp_path / "made.zarr", mesh_only(), kind), "physicsnemo_mesh", None, "made.zarr")


@pytest.mark.filterwarnings("ignore:The data type:zarr.errors.UnstableSpecificationWarning")  # of text
@pytest.mark.parametrize("way", ["missing", "zero-length", "complex", "text", "rank", "short", "nan"])
@pytest.mark.parametrize("key", ["mesh_pos", "edges", "thickness"])
def test_a_spoilt_array_of_a_crash_is_refused(tmp_path: Path, key: str, way: str) -> None:
    if (key, way) in {
        ("edges", "missing"),
        ("edges", "zero-length"),
        ("edges", "nan"),
        ("thickness", "missing"),
        ("thickness", "rank"),
    }:
        return
    arrays = crash_arrays()
    values = arrays.pop(key)
    if way == "nan":
        arrays[key] = np.full_like(values, np.nan)
    elif way != "missing":
        arrays[key] = as_stored(NUMPY_ANY[way](values))
    path = write_crash(tmp_path / "made.zarr", arrays)
    check_refused(path, "crash_mesh", {"time_step": 0.1}, "made", key)


@pytest.mark.parametrize("kept", [0, 3, 0.3, 0.9])
def test_a_crash_cut_short_is_refused(tmp_path: Path, kept: float) -> None:
    path = write_crash(tmp_path / "made.zarr", crash_arrays())
    chunk = path / "mesh_pos" / "c" / "0" / "0" / "0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])
    check_refused(path, "crash_mesh", {"time_step": 0.1}, "made.zarr: mesh_pos")


@pytest.mark.parametrize("way", NETCDF_AXIS)
@pytest.mark.parametrize("axis", ["time", "lat", "lon"])
def test_a_spoilt_coordinate_of_zarr_is_refused(tmp_path: Path, axis: str, way: str) -> None:
    data = weather()
    spoilt = NETCDF_AXIS[way](data[axis].values)
    path = tmp_path / "weather.zarr"
    data.assign_coords({axis: (axis, spoilt, data[axis].attrs)}).to_zarr(path, zarr_format=3, consolidated=False)
    check_refused(path, "xarray", None, "weather.zarr", axis)


@pytest.mark.parametrize("kept", [None, 0, 3, 0.5])
@pytest.mark.parametrize("name", [".zgroup", "u10/.zarray", "lat/.zarray", "u10/.zattrs", "u10/0.0.0", "lat/0"])
def test_a_file_of_zarr_missing_or_cut_short_is_refused(tmp_path: Path, name: str, kept: float | None) -> None:
    path = tmp_path / "weather.zarr"
    weather().drop_vars("orography").to_zarr(path, zarr_format=2, consolidated=False)
    file = path / name
    content = file.read_bytes()
    file.unlink()
    if kept is not None:
        file.write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])
    check_refused(path, "xarray", None, "weather.zarr")


METADATA: dict[str, Any] = {
    "shape": [6, 9],
    "chunks": [0],
    "dtype": "<q9",
    "fill_value": "seven",
    "order": 7,
    "zarr_format": 7,
    "filters": [{"id": "pickle"}],
    "compressor": {"id": "nothing"},
}


@pytest.fixture(scope="module")
def zarr_of_xarray(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weather and runs of shallow water, which convert as they are, by their format."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("xarray", "pdearena_shallow_water")}
    paths = {name: folder / "train.zarr" for name, folder in folders.items()}
    weather().rename(u10="u").to_zarr(paths["xarray"], zarr_format=2, consolidated=False)
    collect(folders["pdearena_shallow_water"], "train", 1, 2)
    (paths["pdearena_shallow_water"] / ".zmetadata").unlink()
    for name, path in paths.items():
        read_all(path, name)
    return paths


@pytest.mark.parametrize("entry", [*METADATA, "_ARRAY_DIMENSIONS"])
@pytest.mark.parametrize("key", ["u", "lat", "time"])
@pytest.mark.parametrize("format_name", ["xarray", "pdearena_shallow_water"])
def test_spoilt_metadata_of_an_array_of_zarr_are_refused(
    zarr_of_xarray: dict[str, Path], tmp_path: Path, format_name: str, key: str, entry: str
) -> None:
    path = shutil.copytree(zarr_of_xarray[format_name], tmp_path / "train.zarr")
    file = path / key / (".zattrs" if entry == "_ARRAY_DIMENSIONS" else ".zarray")
    content = json.loads(file.read_text())
    assert entry in content
    file.write_text(json.dumps({**content, entry: METADATA.get(entry, 7)}))
    check_refused(path, format_name, None, "train.zarr", key)


@pytest.mark.parametrize("kept", [3, 8, 0.3, 0.9])
def test_grib_cut_short_is_refused(tmp_path: Path, kept: float) -> None:
    content = weather_grib(tmp_path / "whole.grib2").read_bytes()
    path = tmp_path / "weather.grib2"
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    check_refused(path, "xarray", None, "weather.grib2")


@pytest.mark.parametrize("way", [way for way in NUMPY_ANY if way != "objects"])
@pytest.mark.parametrize("name", ["positions", "velocities", "time"])
def test_a_spoilt_array_of_particles_is_refused(tmp_path: Path, name: str, way: str) -> None:
    arrays = arrays_of()
    arrays[name] = NUMPY_ANY[way](arrays[name])
    check_refused(write_particles(tmp_path / "run.zarr", arrays, 2), "particles", None, "run.zarr", name)


@pytest.mark.parametrize("way", AXIS)
def test_spoilt_times_of_particles_are_refused(tmp_path: Path, way: str) -> None:
    path = write_particles(tmp_path / "run.zarr", {**arrays_of(), "time": AXIS[way](np.arange(1.0, 6.0))})
    check_refused(path, "particles", None, "run.zarr", "time")


@pytest.mark.parametrize("kept", [0, 3, 0.5])
@pytest.mark.parametrize("name", ["positions", "velocities", "density", "time"])
def test_particles_cut_short_are_refused(tmp_path: Path, name: str, kept: float) -> None:
    path = write_particles(tmp_path / "run.zarr", arrays_of(), 2)
    cut_chunk(path / name, kept)
    check_refused(path, "particles", None, "run.zarr", name)


def cut_chunk(folder: Path, kept: float) -> None:
    """Keep some bytes, or a share, of the first chunk of an array of Zarr of version 2."""
    chunk = min(file for file in folder.iterdir() if not file.name.startswith("."))
    content = chunk.read_bytes()
    chunk.write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])


@pytest.mark.parametrize("name", ["positions", "time"])
def test_particles_that_lack_an_array_are_refused(tmp_path: Path, name: str) -> None:
    arrays = arrays_of()
    del arrays[name]
    check_refused(write_particles(tmp_path / "run.zarr", arrays, 2), "particles", None, "run.zarr", name)


@pytest.mark.parametrize("value", ["seven", [1.0, 2.0], {}, "nan"], ids=str)
@pytest.mark.parametrize("attribute", ["radius", "dt"])
def test_a_spoilt_attribute_of_particles_is_refused(tmp_path: Path, attribute: str, value: Any) -> None:
    arrays = arrays_of()
    del arrays["time"]
    path = write_particles(tmp_path / "run.zarr", arrays, 2, **{"dt": 0.1, attribute: value})
    check_refused(path, "particles", None, "run.zarr", attribute)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
@pytest.mark.parametrize("name", ["positions", "velocities", "density"])
def test_a_value_of_particles_that_is_no_field_s_is_refused(tmp_path: Path, name: str, value: float) -> None:
    arrays = {key: values.astype("f8") if values.dtype.kind == "f" else values for key, values in arrays_of().items()}
    arrays[name].reshape(-1)[-1] = value
    told = {"positions": "position", "velocities": "velocity.z"}.get(name, name)
    check_refused(write_particles(tmp_path / "run.zarr", arrays, 2), "particles", None, "run", told)


ANEMOI = ("data", "dates", "latitudes", "longitudes")


@pytest.mark.parametrize("way", ["missing", *(way for way in NUMPY_ANY if way != "objects")])
@pytest.mark.parametrize("name", [*ANEMOI, "has_nans"])
def test_a_spoilt_array_of_anemoi_is_refused(tmp_path: Path, name: str, way: str) -> None:
    anemoi.write(tmp_path / "sound.zarr")
    values = np.asarray(zarr.open_array(tmp_path / "sound.zarr" / name, mode="r")[...])
    anemoi.write(tmp_path / "a.zarr", **{name: None if way == "missing" else as_stored(NUMPY_ANY[way](values))})
    # Where nothing tells of gaps, they are values that are not finite.
    told = "sst" if (name, way) == ("has_nans", "missing") else name
    check_refused(tmp_path / "a.zarr", "anemoi", None, "a.zarr", told)


@pytest.mark.parametrize("way", ["repeated", "falling"])
def test_spoilt_dates_of_anemoi_are_refused(tmp_path: Path, way: str) -> None:
    anemoi.write(tmp_path / "a.zarr", dates=AXIS[way](anemoi.DATES).copy())
    check_refused(tmp_path / "a.zarr", "anemoi", None, "a.zarr", "dates")


@pytest.mark.parametrize("kept", [0, 3, 0.5])
@pytest.mark.parametrize("name", ANEMOI)
def test_anemoi_cut_short_is_refused(tmp_path: Path, name: str, kept: float) -> None:
    anemoi.write(tmp_path / "a.zarr")
    cut_chunk(tmp_path / "a.zarr" / name, kept)
    check_refused(tmp_path / "a.zarr", "anemoi", None, "a.zarr", name)


@pytest.mark.parametrize("value", [7, "x", {"a": 1}, [1, 2, 3]], ids=str)
@pytest.mark.parametrize("attribute", ["variables", "missing_dates"])
def test_a_spoilt_attribute_of_anemoi_is_refused(tmp_path: Path, attribute: str, value: Any) -> None:
    anemoi.write(tmp_path / "a.zarr", attributes={attribute: value})
    check_refused(tmp_path / "a.zarr", "anemoi", None, "a.zarr", attribute)


# -- every format ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"\0" * 512, b"\x89HDF\r\n\x1a\n" * 20, b"PK\x03\x04" * 50, b"hello\n", b"\xff\xfe{"]
)
@pytest.mark.parametrize("format_name", SOURCES)
def test_a_file_of_something_else_is_refused_by_every_format(tmp_path: Path, format_name: str, content: bytes) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    check_refused(path, format_name, None, "a.bin")
    (tmp_path / "folder").mkdir()
    check_refused(tmp_path / "folder", format_name, None, "folder")


def test_there_are_more_than_a_hundred_of_them() -> None:
    assert len(dataset_cases()) > 100
    assert {specimen.format for specimen in HDF5_SPECIMENS.values()} <= SOURCES.keys()
    assert isinstance(HDF5_SPECIMENS["well"], HDF5Specimen)
