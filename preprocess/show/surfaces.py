"""Meshes as surfaces: triangles in the plane or in space, coloured by the values at their nodes or of their cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int32, Int64, Shaped

from preprocess.report.figures import MISSING, Palette, Scale
from preprocess.show.drawing import Dots, add_colour_bar, draw_dots, set_space_axes
from ups_data.errors import SchemaError
from ups_data.mesh import Mesh
from ups_data.schema import AxisSpec

# Triangles that a panel still draws in seconds, in the plane and in space; larger meshes are shown by their points.
_MOST_TRIANGLES = {2: 400_000, 3: 80_000}
_STRIP, _POLYGON = 6, 7
_QUADRILATERAL = ((0, 1, 2), (0, 2, 3))
# Triangles of a cell by its type, between its corners.
_TRIANGLES: dict[int, tuple[tuple[int, int, int], ...]] = {
    **dict.fromkeys((5, 22, 34), ((0, 1, 2),)),
    8: ((0, 1, 3), (0, 3, 2)),
    **dict.fromkeys((9, 23, 28, 30), _QUADRILATERAL),
}
# Not of a palette, whose colours a page replaces: it becomes part of an image, light and dark pages alike.
_MESH_COLOUR = "#b9bec7"
# Where the light comes from, and how dark it is on the far side.
_LIGHT = np.array([-0.4, -0.75, 0.55])
_DARKEST = 0.85


@dataclass(frozen=True, kw_only=True, eq=False)
class Surface:
    """Triangles to draw.

    Attributes:
        nodes: coordinates (V, D) in two or three dimensions.
        triangles: their nodes (F, 3).
        cells: the cell of each (F,).
        by_cell: whether values belong to cells; to nodes otherwise.
        is_of_solids: whether they are the outer faces of solids.
    """

    nodes: Float64[np.ndarray, "node dim"]
    triangles: Int32[np.ndarray, "triangle 3"]
    cells: Int64[np.ndarray, " triangle"]
    by_cell: bool
    is_of_solids: bool

    def face_values(self, values: Float[np.ndarray, " point"]) -> Float64[np.ndarray, " triangle"]:
        """Return the value of each triangle: its cell's, or the mean of its nodes'; NaN where one is missing."""
        if self.by_cell:
            return values[self.cells].astype(np.float64)
        return values[self.triangles].mean(axis=1, dtype=np.float64)


def surface_of(mesh: Mesh, axes: tuple[AxisSpec, ...]) -> Surface | None:
    """Return what is seen of a mesh; None where that is no surface, or has too many triangles to draw.

    Cells of surfaces are cut into triangles, of solids the outer faces. A polygon is cut from its first node, which is
    exact where it is convex. Cells that reach across the seam of a periodic axis are left out.
    """
    if mesh.nodes.shape[1] not in _MOST_TRIANGLES:
        return None
    try:
        parts = list(_flat_cells(mesh))
        solid = list(_outer_faces(mesh)) if mesh.nodes.shape[1] == 3 else []
    except SchemaError:  # cells whose faces their nodes do not tell
        return None
    parts += solid
    if not parts:
        return None
    triangles, cells = (np.concatenate(group) for group in zip(*parts, strict=True))
    kept = ~_crosses_a_seam(mesh.nodes[triangles], axes)
    if not kept.any() or np.count_nonzero(kept) > _MOST_TRIANGLES[mesh.nodes.shape[1]]:
        return None
    return Surface(
        nodes=mesh.nodes,
        triangles=triangles[kept],
        cells=cells[kept],
        by_cell=mesh.location == "cells",
        is_of_solids=bool(solid),
    )


_Triangles = tuple[Int32[np.ndarray, "triangle 3"], Int64[np.ndarray, " triangle"]]


def _flat_cells(mesh: Mesh) -> Iterator[_Triangles]:
    for alike in mesh.cells_by_kind():
        for corners in _triangles_of(alike.kind, alike.corners.shape[1]):
            yield alike.corners[:, list(corners)], alike.cells


def _triangles_of(kind: int, count: int) -> tuple[tuple[int, int, int], ...]:
    if kind == _POLYGON:
        return tuple((0, corner, corner + 1) for corner in range(1, count - 1))
    if kind == _STRIP:
        return tuple((corner, corner + 1, corner + 2) for corner in range(count - 2))
    return _TRIANGLES.get(kind, ())


def _outer_faces(mesh: Mesh) -> Iterator[_Triangles]:
    for size, outer in mesh.outer_faces_of_cells().items():
        for corners in ((), (), (), ((0, 1, 2),), _QUADRILATERAL)[size]:
            yield outer.faces[:, list(corners)], outer.cells


def _crosses_a_seam(
    corners: Float64[np.ndarray, "triangle 3 dim"], axes: tuple[AxisSpec, ...]
) -> Bool[np.ndarray, " triangle"]:
    reach = np.ptp(corners, axis=1)
    half = np.array([(spec.upper - spec.lower) / 2 if spec.periodic else np.inf for spec in axes])
    return (reach > half).any(axis=1)


# -- drawing into axes -------------------------------------------------------------------------------------------------


def draw_surface(
    axes: Any,
    palette: Palette,
    *,
    surface: Surface,
    values: Float[np.ndarray, " point"],
    scale: Scale,
    labels: tuple[str, ...],
    limits: tuple[tuple[float, float], ...],
    equal: bool,
) -> None:
    """Draw values on a surface: smoothly between the nodes of a plane one, a colour a triangle in space."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable

    colours = ScalarMappable(norm=scale.norm(), cmap=colormaps[scale.colours].with_extremes(bad=MISSING))
    if len(labels) == 3:
        painted = colours.to_rgba(np.ma.masked_invalid(surface.face_values(values)))
        painted[:, :3] *= _brightness(surface)[:, None]
        _add_faces(axes, surface, painted)
    else:
        _add_plane(axes, surface, values, {"cmap": colours.cmap, "norm": colours.norm})
    set_space_axes(axes, palette, labels, limits, equal=equal)
    add_colour_bar(axes, colours, scale)


def draw_dots_on_surface(
    axes: Any,
    palette: Palette,
    *,
    surface: Surface,
    dots: Dots,
    labels: tuple[str, ...],
    limits: tuple[tuple[float, float], ...],
    equal: bool,
) -> None:
    """Draw the drawn points over the mesh."""
    from matplotlib.colors import to_rgba

    if len(labels) == 3:
        _add_faces(axes, surface, np.array(to_rgba(_MESH_COLOUR, 0.1)))
    else:
        axes.triplot(*surface.nodes.T, surface.triangles, color=_MESH_COLOUR, linewidth=0.3, rasterized=True, zorder=1)
    draw_dots(axes, palette, dots=dots, labels=labels, limits=limits, equal=equal)


def _add_plane(axes: Any, surface: Surface, values: Float[np.ndarray, " point"], colours: dict[str, Any]) -> None:
    x, y = surface.nodes.T
    if surface.by_cell or np.isnan(values).any():
        faces = np.ma.masked_invalid(surface.face_values(values))
        axes.tripcolor(x, y, surface.triangles, facecolors=faces, rasterized=True, **colours)
    else:
        axes.tripcolor(x, y, values, triangles=surface.triangles, shading="gouraud", rasterized=True, **colours)


def _add_faces(axes: Any, surface: Surface, colours: Shaped[np.ndarray, "..."]) -> None:
    faces = axes.plot_trisurf(*surface.nodes.T, triangles=surface.triangles, linewidth=0.2, rasterized=True)
    faces.set_facecolor(colours)
    # Edges in the colours of the faces close the seams that smoothing leaves between them.
    faces.set_edgecolor(colours)


def _brightness(surface: Surface) -> Float64[np.ndarray, " triangle"]:
    """Return how bright triangles are; both sides of one are alike, since meshes need not agree which is outside."""
    corners = surface.nodes[surface.triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    towards = np.abs(normals @ _LIGHT) / (np.maximum(lengths, 1e-300) * np.linalg.norm(_LIGHT))
    return _DARKEST + (1 - _DARKEST) * towards
