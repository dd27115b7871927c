"""PDEBench's HDF5 files: scalar equations, compressible flow, and the files with one group a trajectory.

Layouts (B trajectories, T frames):

* scalar: `tensor` (B, T, X), as written by its own generators also (1, B, T, X); Darcy `tensor` (B, 1, X, Y) with the
  coefficient in `nu` (B, X, Y) and no time. File attributes `beta`, `Nu`, `rho` are parameters.
* flow: `density`, `pressure`, `Vx`, `Vy`, `Vz`, each (B, T, X[, Y[, Z]]). Attributes `eta`, `zeta`, `M`.
* incompressible flow: `velocity` (B, T, X, Y, 2), `particles` (B, T, X, Y, 1), `force` (B, X, Y, 2), the same in all
  frames, and `t` (B, T). Nodes are no data: they are the centres of equal cells of the domain, [0, L] per axis with
  `domain_size` of the attribute `config`, or as the option of that name says.
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
from typing import Any, ClassVar, Self

from preprocess.sources.hdf5_files import has_hdf5_magic, open_hdf5
from preprocess.sources.hdf5_source import HDF5Source, Layout
from preprocess.sources.pdebench_layouts import PDEBenchOptions, find_layout
from ups_data.errors import SourceError, UnknownFormatError
from ups_data.yaml_records import parse_record


class PDEBenchSource(HDF5Source):
    """One or several files of one PDEBench problem."""

    format: ClassVar[str] = "pdebench"
    summary: ClassVar[str] = (
        "PDEBench .hdf5/.h5 files: 1-D equations, Darcy, compressible and incompressible flow, grouped 2-D files"
    )
    marks: ClassVar[frozenset[str]] = frozenset({"tensor", "x-coordinate", "t-coordinate", "density", "pressure", "Vx"})

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
        chosen = parse_record(PDEBenchOptions, options, where="options of format 'pdebench'")
        return cls(paths, [_describe(path, chosen) for path in paths])


def _describe(path: Path, options: PDEBenchOptions) -> Layout:
    with open_hdf5(path) as file:
        describe = find_layout(file)
        if describe is None:
            raise UnknownFormatError(
                f"{path} has none of PDEBench's layouts (`tensor`; `density`, `pressure`, `Vx`; `velocity`, "
                f"`particles`, `force`, `t`; groups with `data` and `grid`); it holds "
                f"{', '.join(list(file)[:8]) or 'nothing'}"
            )
        return describe(file, path, options)
