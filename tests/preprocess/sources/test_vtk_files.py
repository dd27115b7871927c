"""Files of VTK that are cut short anywhere, and grids of every kind."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvista

from preprocess.sources import open_source
from tests.preprocess.sources.meshes import plane, with_data
from ups_data.errors import UpsDataError


@pytest.mark.parametrize(("suffix", "binary"), [("vtu", True), ("vtu", False), ("vtk", True), ("vtk", False)])
def test_files_cut_short_anywhere_are_refused(tmp_path: Path, suffix: str, binary: bool) -> None:
    path = tmp_path / f"a.{suffix}"
    with_data(plane()).save(path, binary=binary)
    content = path.read_bytes()
    for kept in range(len(content) - 8, 0, -29):
        path.write_bytes(content[:kept])
        with pytest.raises(UpsDataError, match=path.name):
            open_source([path], "vtk", {"fields": ["p", "U"]})


@pytest.mark.parametrize("suffix", ["vti", "vtr", "vts", "vtk"])
def test_grids_become_meshes(tmp_path: Path, suffix: str) -> None:
    grid: Any = pyvista.ImageData(dimensions=(4, 3, 2), spacing=(0.5, 1.0, 2.0))
    if suffix != "vti":
        grid = grid.cast_to_rectilinear_grid() if suffix == "vtr" else grid.cast_to_structured_grid()
    grid.point_data["p"] = np.arange(24.0)
    grid.save(tmp_path / f"a.{suffix}")
    source = open_source([tmp_path / f"a.{suffix}"])
    np.testing.assert_array_equal(source.read_frames(0, 0, 1)[0, 0], np.arange(24.0))
    np.testing.assert_array_equal(source.read_coordinates(0)[0], grid.points)
    mesh, measures = source.read_mesh(0), source.read_measures(0)
    assert mesh is not None
    assert mesh.num_cells == 6
    assert measures is not None
    assert measures.sum() == pytest.approx(6.0)
