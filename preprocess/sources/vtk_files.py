"""Files of VTK read through pyvista: nodes, cells with their measures, data on both, and what is told of time.

VTK reads on after most faults of a file and only reports them; here every report is an error.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float64, Int32, Int64, Shaped, UInt8

from preprocess.sources.mesh_points import SizedCells
from preprocess.sources.stl_files import is_stl
from preprocess.sources.vtk_legacy import LEGACY_MAGIC, check_legacy
from ups_data.errors import SourceError, UnknownFormatError, suggest

_XML_MARK = b"<VTKFile"
_XML_COUNTS = re.compile(rb'NumberOf\w+="(\d{1,40})"')
_XML_PAYLOAD = b"<AppendedData"
# What a byte of a compressed file can stand for at most.
_MAX_PACKING = 1100
_HEAD_BYTES = 1024
_SUFFIXES = {".vtk", ".vtu", ".vtp", ".vts", ".vtr", ".vti", ".vtm", ".vtmb", ".pvtu", ".pvtp", ".stl", ".pvd"}
_TIME = ("TimeValue", "TIME")
_BOOKKEEPING = {"vtkOriginalPointIds", "vtkOriginalCellIds", "vtkGhostType", "vtkValidPointMask", "TimeValue", "TIME"}
_SIZES = ("none", "Length", "Area", "Volume")


@dataclass(frozen=True, kw_only=True, eq=False)
class VtkFile:
    """Content of one file.

    Attributes:
        cells: nodes and cells; sizes of single nodes ("vertices") are zero.
        dims: dimension of each cell: 0 single nodes, 1 lines, 2 surfaces, 3 volumes (M,).
        at_nodes, at_cells: data by name, one row a node or a cell.
        numbers: scalars that belong to the whole file.
        time: that the file tells for itself.
    """

    cells: SizedCells
    dims: Int64[np.ndarray, " cell"]
    at_nodes: Mapping[str, Shaped[np.ndarray, "node *component"]]
    at_cells: Mapping[str, Shaped[np.ndarray, "cell *component"]]
    numbers: Mapping[str, float]
    time: float | None


def looks_like_vtk(path: Path) -> bool:
    """Tell by the first bytes: legacy and XML files of VTK, and STL files."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    return head.startswith(LEGACY_MAGIC) or _XML_MARK in head or is_stl(path)


def read_vtk(path: Path, *, block: str | None = None) -> VtkFile:
    """Read one file.

    Args:
        path: any file of VTK that holds a mesh, also one that holds a grid, whose cells become those of a mesh.
        block: name of the block of a file that has several.

    Raises:
        UnknownFormatError: pyvista is not installed, or the file's name tells no format of VTK.
        SourceError: damaged or cut short, without cells, with ghost cells, or with blocks of which none is chosen.
    """
    pyvista = import_pyvista(path)
    dataset = _choose_block(_read(pyvista, path), path, block)
    _check_cells(dataset, path)
    # VTK crashes on the cast of a grid that has no cells.
    grid = dataset if hasattr(dataset, "celltypes") else dataset.cast_to_unstructured_grid()
    if not grid.n_points:
        raise SourceError(f"{path} holds no point")
    _refuse_ghosts(grid, path)
    numbers, time = _read_numbers(dataset)
    dims = _find_dims(pyvista, grid.celltypes)
    return VtkFile(
        cells=_measure(grid, dims),
        dims=dims,
        at_nodes=_arrays(grid.point_data),
        at_cells=_arrays(grid.cell_data),
        numbers=numbers,
        time=time,
    )


def measure_cells(
    nodes: Float64[np.ndarray, "node dim"], types: UInt8[np.ndarray, " cell"], corners: Int32[np.ndarray, "cell corner"]
) -> SizedCells:
    """Return cells of one number of nodes with their measures, as VTK computes them.

    Raises:
        UnknownFormatError: pyvista is not installed.
    """
    pyvista = import_pyvista(Path("a mesh of other cells than lines, triangles and tetrahedra"))
    dims = nodes.shape[1]
    listed = np.concatenate([np.full((len(corners), 1), corners.shape[1]), corners], axis=1)
    grid = pyvista.UnstructuredGrid(listed.reshape(-1), types, np.pad(nodes, ((0, 0), (0, 3 - dims))))
    measured = _measure(grid, _find_dims(pyvista, types))
    return replace(measured, nodes=nodes, centres=np.ascontiguousarray(measured.centres[:, :dims]))


def read_collection(path: Path) -> tuple[tuple[float, Path], ...]:
    """Return times and files of a `.pvd` collection, in the order of time.

    Raises:
        SourceError: no such collection, several parts at one time, or a file that is not there.
    """
    pyvista = import_pyvista(path)
    try:
        with pyvista.vtk_verbosity("off"):
            entries = pyvista.PVDReader(str(path)).datasets
    except Exception as error:
        raise SourceError(f"{path} is no collection that can be read: {_one_line(error)}") from error
    steps = sorted(((float(entry.time), path.parent / entry.path) for entry in entries), key=lambda step: step[0])
    if not steps:
        raise SourceError(f"{path} lists no file")
    for (time, _), (other, _) in pairwise(steps):
        if time == other:
            raise SourceError(f"{path} lists several parts at time {time}; merge them into one file a time")
    for _, file in steps:
        if not file.is_file():
            raise SourceError(f"{path} names {file}, which is not there")
    return tuple(steps)


def import_pyvista(path: Path) -> ModuleType:
    """Return pyvista.

    Raises:
        UnknownFormatError: it is not installed.
    """
    try:
        import pyvista
    except ImportError as error:
        raise UnknownFormatError(
            f'{path} needs pyvista, which reads what VTK writes, and it is not installed: pip install "ups-data[mesh]"'
        ) from error
    return pyvista


def _read(pyvista: ModuleType, path: Path) -> Any:
    if path.suffix.lower() not in _SUFFIXES:
        raise UnknownFormatError(
            f"{path} holds what VTK writes, which its name must tell too; it ends in one of "
            f"{', '.join(sorted(_SUFFIXES))}"
        )
    _check_promises(path)
    try:
        with pyvista.vtk_verbosity("off"), pyvista.VtkErrorCatcher(send_to_logging=False) as reports:
            dataset = pyvista.read(str(path))
    except Exception as error:
        raise SourceError(f"{path} cannot be read: {_one_line(error)}") from error
    if reports.events:
        raise SourceError(f"{path} is damaged or cut short: {_one_line(reports.events[0].alert)}")
    return dataset


def _check_promises(path: Path) -> None:
    """Refuse a file that promises more than its bytes can hold: VTK ends the process where memory does not suffice."""
    size = path.stat().st_size
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[: len(LEGACY_MAGIC)] == LEGACY_MAGIC:
            check_legacy(content, path)
            return
        end = content.find(_XML_PAYLOAD)
        for found in _XML_COUNTS.finditer(content, 0, size if end < 0 else end):
            if int(found[1]) > size * _MAX_PACKING:
                raise SourceError(f"{path} is damaged: {found[0].decode()} in a file of {size} bytes")


def _choose_block(dataset: Any, path: Path, block: str | None) -> Any:
    if not hasattr(dataset, "n_blocks"):
        if block is not None:
            raise SourceError(f"{path} has no blocks, so option block={block} fits nothing in it")
        return dataset
    blocks = dict(_leaves(dataset, ""))
    if block is None and len(blocks) != 1:
        raise SourceError(
            f"{path} holds {len(blocks)} blocks: {', '.join(blocks) or 'none'}; say which: --option block=NAME"
        )
    name = next(iter(blocks)) if block is None else block
    if name not in blocks:
        raise SourceError(f"{path} has no block {name!r}. {suggest(name, blocks)}")
    return blocks[name]


def _leaves(dataset: Any, prefix: str) -> list[tuple[str, Any]]:
    """Return all blocks that hold something, by their full name."""
    found: list[tuple[str, Any]] = []
    for number in range(dataset.n_blocks):
        name = prefix + (dataset.get_block_name(number) or str(number))
        inner = dataset[number]
        if hasattr(inner, "n_blocks"):
            found += _leaves(inner, f"{name}/")
        elif inner is not None and inner.n_points:
            found.append((name, inner))
    return found


def _refuse_ghosts(grid: Any, path: Path) -> None:
    for data, what in ((grid.point_data, "nodes"), (grid.cell_data, "cells")):
        ghosts = data.get("vtkGhostType")
        if ghosts is not None and np.any(ghosts):
            raise SourceError(
                f"{path} has {int(np.count_nonzero(ghosts))} ghost {what}, copies of those of other pieces; write it "
                f"without them (ParaView: Remove Ghost Information)"
            )


def _check_cells(dataset: Any, path: Path) -> None:
    """Refuse cells that name nodes which are not there: VTK would read beyond its arrays and take the process down."""
    getters = ("GetVerts", "GetLines", "GetPolys", "GetStrips", "GetCells")
    to_numpy = import_pyvista(path).convert_array
    for array in filter(None, (getattr(dataset, name)() for name in getters if hasattr(dataset, name))):
        if not hasattr(array, "GetOffsetsArray"):
            # The cells of a grid follow from its size.
            continue
        offsets, corners = to_numpy(array.GetOffsetsArray()), to_numpy(array.GetConnectivityArray())
        if not offsets.size or offsets[0] != 0 or offsets[-1] != corners.size or (np.diff(offsets) < 0).any():
            raise SourceError(f"{path}: the offsets of its cells do not rise from 0 to the {corners.size} nodes listed")
        if corners.size and not (corners.min() >= 0 and corners.max() < dataset.n_points):
            raise SourceError(
                f"{path}: its cells name nodes {corners.min()} to {corners.max()}, and it has {dataset.n_points}"
            )
    if hasattr(dataset, "celltypes") and dataset.n_cells:
        _check_types(dataset, path)


def _check_types(grid: Any, path: Path) -> None:
    known = {int(kind): kind for kind in import_pyvista(path).CellType}
    counts = np.diff(grid.cell_offsets)
    if len(counts) != len(grid.celltypes):
        raise SourceError(f"{path} has {len(counts)} cells, and types of {len(grid.celltypes)}")
    for number in np.unique(grid.celltypes).tolist():
        if number not in known:
            raise SourceError(f"{path} has cells of type {number}, which VTK does not know")
        try:
            wanted = known[number].n_points
        except ValueError:
            # Polygons and the like have any number of nodes.
            continue
        wrong = np.flatnonzero((grid.celltypes == number) & (counts != wanted))
        if wrong.size:
            raise SourceError(
                f"{path}: cell {wrong[0]} is a {known[number].name} of {counts[wrong[0]]} nodes, which has {wanted}"
            )


def _read_numbers(dataset: Any) -> tuple[dict[str, float], float | None]:
    numbers, time = {}, None
    for name in dataset.field_data.keys():  # noqa: SIM118  iterating goes over arrays
        values = np.asarray(dataset.field_data[name])
        if values.size == 1 and values.dtype.kind in "iuf":
            if name in _TIME:
                time = float(values.reshape(()))
            elif name not in _BOOKKEEPING:
                numbers[str(name)] = float(values.reshape(()))
    return numbers, time


def _find_dims(pyvista: ModuleType, types: Shaped[np.ndarray, " cell"]) -> Int64[np.ndarray, " cell"]:
    dims = np.zeros(256, dtype=np.int64)
    for number in np.unique(types).tolist():
        dims[number] = pyvista.CellType(number).dimension
    return dims[types]


def _measure(grid: Any, dims: Int64[np.ndarray, " cell"]) -> SizedCells:
    if not grid.n_cells:
        sizes, centres = np.zeros(0), np.zeros((0, 3))
    else:
        sized = grid.compute_cell_sizes()
        columns = [np.asarray(sized.cell_data[name]) if name != "none" else np.zeros(grid.n_cells) for name in _SIZES]
        # The volume of a cell whose nodes are listed inside out is negative.
        sizes = np.abs(np.stack(columns, axis=1, dtype=np.float64)[np.arange(grid.n_cells), dims])
        centres = np.array(grid.cell_centers(vertex=False).points, dtype=np.float64)
    return SizedCells(
        nodes=np.array(grid.points, dtype=np.float64),
        types=np.array(grid.celltypes, dtype=np.uint8),
        # VTK's integers are of C's type `long long`, which NumPy tells from its int64.
        offsets=np.array(grid.cell_offsets).astype(np.int64) if grid.n_cells else np.zeros(1, dtype=np.int64),
        connectivity=np.array(grid.cell_connectivity, dtype=np.int32),
        sizes=sizes,
        centres=centres,
    )


def _arrays(data: Any) -> dict[str, Shaped[np.ndarray, "..."]]:
    names = data.keys()  # iterating over the data themselves gives their arrays
    return {str(name): np.array(data[name]) for name in names if name and name not in _BOOKKEEPING}


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
