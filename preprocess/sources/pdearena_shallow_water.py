"""PDEArena's shallow water on the sphere: `train.zarr`, `valid.zarr`, `test.zarr`, or the folder that holds them.

As PDEArena's `convertnc2zarr` writes them: NetCDF files of SpeedyWeather.jl, one a run, joined by xarray along a new
dimension `b` over all seeds and runs of a split. `u`, `v` (m/s) and `vor` (1/s) are (b, time, lev, lat, lon) with one
level, `pres`, the displacement of the interface (m), is (b, time, lat, lon); latitudes are those of a Gaussian grid,
degrees from north to south. Each run is a trajectory, the name of the directory its split. A store without `b` is one
run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from preprocess.sources.xarray_files import XarraySource
from preprocess.sources.xarray_roles import XarrayOptions
from preprocess.sources.zarr_files import has_named_dimensions
from ups_data.errors import SourceError, UnknownFormatError

if TYPE_CHECKING:
    import xarray

_SPLITS = ("train", "valid", "test")
_VARIABLES = ("u", "v", "vor", "pres")
_RUNS = "b"


class ShallowWaterSource(XarraySource):
    """One or several splits of PDEArena's shallow water data."""

    format: ClassVar[str] = "pdearena_shallow_water"
    summary: ClassVar[str] = "PDEArena's shallow water, train.zarr, valid.zarr and test.zarr or the folder of them"
    is_general: ClassVar[bool] = False

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell by the names of the arrays."""
        try:
            return any(_holds_runs(folder) for folder in (path, *_splits_in(path)))
        except (OSError, SourceError):
            return False

    @classmethod
    def open(cls, paths: Sequence[Path], options: Mapping[str, Any]) -> Self:
        """Open splits; `options` are those of the format `xarray`."""
        found = [folder for path in paths for folder in (_splits_in(path) or (path,))]
        for folder in found:
            if not _holds_runs(folder):
                raise UnknownFormatError(
                    f"{folder} is no Zarr group with {', '.join(_VARIABLES)}, as PDEArena's shallow water has them"
                )
        return super().open(found, options)

    def _settle_options(self, options: XarrayOptions, dataset: xarray.Dataset) -> XarrayOptions:
        missing = [name for name in _VARIABLES if name not in dataset.data_vars]
        if missing:
            raise SourceError(f"{self.paths[0].name} lacks the variable {missing[0]!r} of PDEArena's shallow water")
        if options.trajectory is not None or _RUNS not in dataset.dims:
            return options
        return options.model_copy(update={"trajectory": _RUNS})

    def _split_of(self, path: Path) -> str | None:
        return path.stem if path.stem in _SPLITS else None


def _splits_in(path: Path) -> tuple[Path, ...]:
    return tuple(folder for split in _SPLITS if (folder := path / f"{split}.zarr").is_dir())


def _holds_runs(path: Path) -> bool:
    return has_named_dimensions(path) and all((path / name).is_dir() for name in _VARIABLES)
