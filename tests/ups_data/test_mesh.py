"""A mesh checks that its cells name nodes that are there."""

import numpy as np
import pytest

from ups_data.errors import SchemaError
from ups_data.mesh import Mesh


def make_mesh(**changes):
    """Two triangles and a quadrilateral over five nodes."""
    parts = {
        "location": "nodes",
        "nodes": np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 1.0]]),
        "types": np.array([5, 5, 9], dtype=np.uint8),
        "offsets": np.array([0, 3, 6, 10]),
        "connectivity": np.array([0, 1, 2, 1, 3, 2, 0, 1, 4, 3], dtype=np.int32),
    }
    return Mesh(**{**parts, **changes})


def test_a_mesh_counts_its_cells():
    assert make_mesh().num_cells == 3


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"offsets": np.array([0, 3, 6])}, "got 3 of them"),
        ({"offsets": np.array([0, 3, 6, 9])}, "10 entries"),
        ({"offsets": np.array([0, 3, 3, 10])}, "cell 1 of a mesh has no node"),
        ({"connectivity": np.array([0, 1, 2, 1, 3, 2, 0, 1, 5, 3], dtype=np.int32)}, "0 to 5, and it has 5"),
        ({"connectivity": np.array([0, 1, 2, 1, 3, 2, 0, -1, 4, 3], dtype=np.int32)}, "-1 to 4, and it has 5"),
    ],
)
def test_cells_that_do_not_fit_are_refused(changes, match):
    with pytest.raises(SchemaError, match=match):
        make_mesh(**changes)
