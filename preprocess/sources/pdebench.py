"""PDEBench's HDF5 files: scalar equations, compressible flow, and the files with one group a trajectory.

Layouts (B trajectories, T frames):

* scalar: `tensor` (B, T, X), as written by its own generators also (1, B, T, X); Darcy `tensor` (B, 1, X, Y) with the
  coefficient in `nu` (B, X, Y) and no time. File attributes `beta`, `Nu`, `rho` are parameters.
* flow: `density`, `pressure`, `Vx`, `Vy`, `Vz`, each (B, T, X[, Y[, Z]]). Attributes `eta`, `zeta`, `M`.
* grouped: groups `0000`, `0001`, ... with `data` and `grid/{x,y,t}`, numbers of the attribute `config` as parameters.
  The diffusion-reaction `data` is [t, y, x, c], that of the radial dam break [t, x, y, c]: told by the configuration,
  by unequal grid lengths, or by the file's name, and refused where none of them tells.

Axes come out as x, y, z. `t-coordinate` commonly has one entry more than there are frames; the first T are taken.
Whether a domain is periodic no file says; it is known of PDEBench's equations and told by the names of its flow files
(`..._periodic_...`, `..._trans_...`). Where neither helps, the axes are taken as not periodic and a note says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from jaxtyping import Float64, Shaped

from preprocess.sources.axes import grid_axis
from preprocess.sources.base import Source
from preprocess.sources.dimensions import arrange
from preprocess.sources.exact import exact_cast, stored_dtype
from preprocess.sources.hdf5_files import has_hdf5_magic, open_hdf5, read_part
from preprocess.sources.pdebench_layouts import AXES, Layout, PDEBenchOptions, find_layout
from ups_data.errors import SourceError, UnknownFormatError
from ups_data.schema import AxisSpec, GeometryKind
from ups_data.yaml_records import parse_record

if TYPE_CHECKING:
    import h5py

_GRID: GeometryKind = "grid"


class PDEBenchSource(Source):
    """One or several files of one PDEBench problem."""

    format: ClassVar[str] = "pdebench"
    summary: ClassVar[str] = "PDEBench .hdf5/.h5 files: 1-D equations, Darcy, compressible flow, grouped 2-D files"
    marks: ClassVar[frozenset[str]] = frozenset({"tensor", "x-coordinate", "t-coordinate", "density", "pressure", "Vx"})

    def __init__(self, paths: Sequence[Path], options: PDEBenchOptions) -> None:
        self.paths = tuple(paths)
        self._handles: dict[Path, h5py.File] = {}
        layouts = [self._describe(path, options) for path in paths]
        first = layouts[0]
        for path, layout in zip(paths, layouts, strict=True):
            if (layout.fields, layout.parts) != (first.fields, first.parts) or layout.periodic != first.periodic:
                raise SourceError(f"{path.name} and {paths[0].name} hold different problems; convert them one by one")
        self.name, self.fields, self.kind = first.problem, first.fields, _GRID
        self._parts, self.time_unit = first.parts, None
        self._places = tuple(place for layout in layouts for place in layout.places)
        self.dtype = stored_dtype((dtype for layout in layouts for dtype in layout.dtypes), where=paths[0].name)
        self.trajectories = tuple(place.info for place in self._places)
        self.axes = self._describe_axes(first.periodic or False)
        self.notes = tuple(dict.fromkeys(note for layout in layouts for note in layout.notes))

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell by the names of data sets and groups."""
        try:
            if not has_hdf5_magic(path):
                return False
            with open_hdf5(path) as file:
                return find_layout(file) is not None
        except (OSError, SourceError):
            return False

    @classmethod
    def open(cls, paths: Sequence[Path], options: Mapping[str, Any]) -> Self:
        """Open files of one problem; `options` are those of `PDEBenchOptions`."""
        return cls(paths, parse_record(PDEBenchOptions, options, where="options of format 'pdebench'"))

    def read_frames(self, trajectory: int, start: int, stop: int) -> Shaped[np.ndarray, "time channel *space"]:
        """Read frames [start, stop) of a trajectory; see `Source.read_frames`."""
        place = self._places[trajectory]
        file = self._handle(place.path)
        blocks = []
        for part in self._parts:
            where = f"{place.path.name}: {place.group}{part.dataset}"
            cut = (slice(start, stop),) if "time" in part.dims else ()
            values = read_part(file[place.group + part.dataset], (*place.prefix, *cut), where=where)
            block = arrange(values, part.dims, space=self._space, num_frames=stop - start)
            blocks.append(exact_cast(block, self.dtype, where=where))
        return np.concatenate(blocks, axis=1)

    def read_coordinates(self, trajectory: int) -> tuple[Float64[np.ndarray, "..."], ...]:
        """Return the nodes of every axis; see `Source.read_coordinates`."""
        return self._places[trajectory].nodes

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind: another process opens its own."""
        return {**self.__dict__, "_handles": {}}

    @property
    def _space(self) -> tuple[str, ...]:
        return AXES[: len(self._places[0].nodes)]

    def _handle(self, path: Path) -> h5py.File:
        if path not in self._handles:
            self._handles[path] = open_hdf5(path)
        return self._handles[path]

    def _describe(self, path: Path, options: PDEBenchOptions) -> Layout:
        with open_hdf5(path) as file:
            describe = find_layout(file)
            if describe is None:
                raise UnknownFormatError(
                    f"{path} has none of PDEBench's layouts (`tensor`; `density`, `pressure`, `Vx`; groups with `data` "
                    f"and `grid`); it holds {', '.join(list(file)[:8]) or 'nothing'}"
                )
            return describe(file, path, options)

    def _describe_axes(self, periodic: bool) -> tuple[AxisSpec, ...]:
        axes = []
        for number, name in enumerate(self._space):
            extents = []
            for nodes in {place.nodes[number].tobytes(): place.nodes[number] for place in self._places}.values():
                spec = grid_axis(name, nodes, periodic=periodic, where=f"{self.paths[0].name}: {name}")
                extents.append((spec.lower, spec.upper))
            lower, upper = min(low for low, _ in extents), max(high for _, high in extents)
            if periodic and len(set(extents)) > 1:
                raise SourceError(f"{self.paths[0].name}: trajectories have different periods along {name}: {extents}")
            axes.append(AxisSpec(name=name, lower=lower, upper=upper, periodic=periodic))
        return tuple(axes)
