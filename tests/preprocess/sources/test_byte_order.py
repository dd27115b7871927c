"""Files whose numbers have the other byte order, of every format: they give the same store, byte for byte."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
import pytest
import torch
import zarr
from vtkmodules.vtkIOXML import vtkXMLUnstructuredGridWriter

from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from tests.preprocess.sources import test_anemoi as anemoi
from tests.preprocess.sources.meshes import plane, with_data
from tests.preprocess.sources.specimens import (
    HDF5_SPECIMENS,
    HDF5Specimen,
    car_folder,
    crash_arrays,
    curator_arrays,
    mesh_arrays,
    random,
    weather,
    write_curator,
)
from tests.preprocess.sources.test_particles import arrays_of
from ups_data.storage import open_store


def swap(values: np.ndarray) -> np.ndarray:
    return values.astype(values.dtype.newbyteorder(">")) if values.dtype.kind in "iuf" else values


def swap_all(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: swap(values) for key, values in arrays.items()}


def write_zarr(path: Path, arrays: dict[str, np.ndarray], version: Any, attributes: dict[str, Any]) -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=version)
    for key, values in arrays.items():
        group.create_array(key, shape=values.shape, dtype=values.dtype)[...] = values
    group.attrs.update(attributes)
    return path


def mesh_at_nodes() -> dict[str, np.ndarray]:
    return {key: values for key, values in mesh_arrays().items() if not key.startswith("cell_data")}


def both_of_zarr(name: str, version: int) -> tuple[str, Any, Any]:
    """Return the format, its options, and what writes it by a change of all arrays."""
    arrays, attributes, options = {
        "particles": (arrays_of(), {}, {}),
        "crash_mesh": (crash_arrays(), {}, {"time_step": 0.1}),
        "physicsnemo_mesh": (mesh_at_nodes(), {"physicsnemo_mesh_type": "Mesh"}, {}),
        "curator": (curator_arrays(), {"filename": "run_1"}, {}),
    }[name]
    return name, options, lambda folder, change: write_zarr(folder / "a.zarr", change(arrays), version, attributes)


def write_weather_zarr(folder: Path, change: Any) -> Path:
    data = weather()
    for name in ("u10", "orography"):
        data[name] = (data[name].dims, change({"": data[name].values})[""], data[name].attrs)
    data.to_zarr(folder / "a.zarr", zarr_format=2, consolidated=False)
    return folder / "a.zarr"


def write_weather_netcdf(folder: Path, change: Any) -> Path:
    """Write the weather variable by variable: xarray writes no other byte order."""
    data, endian, mark = weather(), *(("big", ">") if change is swap_all else ("little", "<"))
    with netCDF4.Dataset(folder / "a.nc", "w") as file:
        for dim, size in data.sizes.items():
            file.createDimension(dim, size)
        for name, variable in data.variables.items():
            made = file.createVariable(name, variable.dtype.newbyteorder(mark), variable.dims, endian=endian)
            made.setncatts(variable.attrs)
            made[...] = variable.values
    with h5py.File(folder / "a.nc") as file:
        assert file["u10"].dtype == np.dtype(f"{mark}f4")
    return folder / "a.nc"


def write_classic_netcdf(folder: Path, change: Any) -> Path:
    """Write NetCDF 3, which is big-endian always, beside NetCDF 4, which is as the machine is."""
    weather().to_netcdf(folder / "a.nc", format="NETCDF3_CLASSIC" if change is swap_all else "NETCDF4")
    return folder / "a.nc"


def write_domino(folder: Path, change: Any) -> Path:
    return write_curator(folder, "npz", arrays=change(curator_arrays()))


def write_anemoi(folder: Path, change: Any) -> Path:
    anemoi.write(folder / "a.zarr")
    group = zarr.open_group(folder / "a.zarr", mode="r")
    arrays = {name: group[name][...] for name in ("data", "latitudes", "longitudes")}
    anemoi.write(folder / "a.zarr", **change(arrays))
    return folder / "a.zarr"


def write_cars(folder: Path, change: Any) -> Path:
    car_folder(folder / "cars")
    for file in (folder / "cars" / "data").rglob("press.npy"):
        np.save(file, change({"": np.load(file)})[""])
    return folder / "cars"


def write_torch(folder: Path, change: Any) -> Path:
    values = torch.arange(96.0).reshape(2, 3, 4, 4) / 7
    path = folder / "nsforcing_train_4.pt"
    torch.save({"x": values[0].clone(), "y": values[1].clone()}, path)
    if change is swap_all:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                if name.endswith("/byteorder"):
                    assert content == b"little"
                    archive.writestr(name, b"big")
                else:
                    is_data = "/data/" in name
                    archive.writestr(
                        name, np.frombuffer(content, "<f4").astype(">f4").tobytes() if is_data else content
                    )
    return path


def write_xml(folder: Path, change: Any) -> Path:
    writer = vtkXMLUnstructuredGridWriter()
    writer.SetInputData(with_data(plane()))
    writer.SetFileName(str(folder / "a.vtu"))
    if change is swap_all:
        writer.SetByteOrderToBigEndian()
    assert writer.Write()
    assert (b"BigEndian" in (folder / "a.vtu").read_bytes()) == (change is swap_all)
    return folder / "a.vtu"


def write_legacy(folder: Path, change: Any) -> Path:
    """Write the legacy format, whose binary files are big-endian always, beside one of XML."""
    if change is not swap_all:
        return write_xml(folder, change)
    with_data(plane()).save(folder / "a.vtk", binary=True)
    return folder / "a.vtk"


def write_described(kind: str) -> Any:
    def write(folder: Path, change: Any) -> Path:
        content = {"u": random(2, 3, 6), "x": np.linspace(0.0, 1.0, 6), "t": np.arange(3.0), "n": np.arange(2)}
        arrays = change(content)
        if kind == "npz":
            np.savez(folder / "a.npz", **arrays)
        elif kind == "h5":
            with h5py.File(folder / "a.h5", "w") as file:
                file.update(arrays)
        else:
            write_zarr(folder / "a.zarr", arrays, int(kind[-1]), {})
        file = f"file: a.{'zarr' if 'zarr' in kind else kind}"
        (folder / "a.yaml").write_text(
            f"dims: [trajectory, time, x]\nfields: {{u: {{{file}, key: u}}}}\naxes: {{x: {{{file}, key: x}}}}\n"
            f"times: {{{file}, key: t}}\nparameters: {{n: {{{file}, key: n}}}}\n"
        )
        return folder / "a.yaml"

    return write


def write_specimen(specimen: HDF5Specimen) -> Any:
    return lambda folder, change: replace(specimen, datasets=change(specimen.datasets)).write(folder)


BOTH_ORDERS: dict[str, tuple[str, Any, Any]] = {
    **{
        name: (specimen.format, specimen.options, write_specimen(specimen)) for name, specimen in HDF5_SPECIMENS.items()
    },
    **{
        f"{name}-{version}": both_of_zarr(name, version)
        for name in ("particles", "crash_mesh", "physicsnemo_mesh", "curator")
        for version in (2, 3)
    },
    **{f"arrays-{kind}": ("arrays", {}, write_described(kind)) for kind in ("npz", "h5", "zarr2", "zarr3")},
    "xarray-zarr": ("xarray", {}, write_weather_zarr),
    "xarray-netcdf4": ("xarray", {}, write_weather_netcdf),
    "xarray-netcdf3": ("xarray", {}, write_classic_netcdf),
    "curator-npz": ("curator", {}, write_domino),
    "anemoi": ("anemoi", {}, write_anemoi),
    "cars": ("car_cfd", {}, write_cars),
    "torch": ("neuraloperator", {}, write_torch),
    "vtk-xml": ("vtk", {}, write_xml),
    "vtk-legacy": ("vtk", {}, write_legacy),
}


@pytest.mark.parametrize("case", BOTH_ORDERS)
def test_files_of_the_other_byte_order_give_the_same_store(tmp_path: Path, case: str) -> None:
    format_name, options, write = BOTH_ORDERS[case]
    stores = []
    for name, change in (("little", dict), ("big", swap_all)):
        (tmp_path / name).mkdir()
        source = open_source([write(tmp_path / name, change)], format_name, options)
        assert source.read_frames(0, 0, 1).dtype.isnative
        convert(source, tmp_path / name / "store", ConvertSettings(name="same"))
        stores.append(tmp_path / name / "store")
    files = [{str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()} for path in stores]
    assert files[0] == files[1]
    for name in files[0] - {"manifest.json"}:
        assert (stores[0] / name).read_bytes() == (stores[1] / name).read_bytes(), name
    first, second = (open_store(path).manifest for path in stores)
    assert first.statistics == second.statistics
