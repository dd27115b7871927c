"""Point ids and physical coordinates: the conventions, stated once.

* Axes keep the order of the stored array. Point ids of a grid count in C order: the last axis runs fastest.
* A grid axis is an array of strictly increasing node coordinates. On an axis that is not periodic both end nodes
  are stored. On a periodic axis the node at `lower + period` is the node at `lower` and is not stored.
* Coordinates are physical, in the unit of the axis; `Domain` maps them to [0, 1] and back.
* The cell of a grid point reaches halfway to its neighbours, and to the end of the domain at the ends of an axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Integer

from ups_data.errors import SchemaError
from ups_data.schema import AxisSpec


@dataclass(frozen=True, kw_only=True)
class Domain:
    """The box that holds all points of a data set.

    Attributes:
        names: axis names, in stored order.
        lower, upper: extents (D,), physical units; on a periodic axis `upper - lower` is the period.
        periodic: one flag an axis.
    """

    names: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    periodic: tuple[bool, ...]

    @classmethod
    def from_axes(cls, axes: tuple[AxisSpec, ...]) -> Domain:
        """Build the domain of a manifest's axes."""
        return cls(
            names=tuple(axis.name for axis in axes),
            lower=tuple(axis.lower for axis in axes),
            upper=tuple(axis.upper for axis in axes),
            periodic=tuple(axis.periodic for axis in axes),
        )

    @property
    def dims(self) -> int:
        """Number of spatial dimensions."""
        return len(self.names)


def grid_coordinates(axes: tuple[Float[np.ndarray, " _"], ...]) -> Float[np.ndarray, "point dim"]:
    """Return the coordinates of all grid nodes in point-id order (C order, last axis fastest)."""
    mesh = np.meshgrid(*axes, indexing="ij")
    return np.stack([part.reshape(-1) for part in mesh], axis=-1)


def coordinates_of(
    axes: tuple[Float[np.ndarray, " _"], ...], point_ids: Integer[np.ndarray, " query"]
) -> Float[np.ndarray, "query dim"]:
    """Return the coordinates of some grid nodes without making all of them."""
    places = np.unravel_index(point_ids, tuple(axis.size for axis in axes))
    return np.stack([axis[place] for axis, place in zip(axes, places, strict=True)], axis=-1)


def cell_lengths(nodes: Float64[np.ndarray, " node"], spec: AxisSpec) -> Float64[np.ndarray, " node"]:
    """Return the length of each node's cell along one axis.

    Cells are cut halfway between nodes, on a periodic axis across the seam too; else the first and the last one end
    where the domain does, `spec.lower` and `spec.upper`. So they add up to the extent of the domain, and are the
    weights of the trapezoidal rule where the end nodes lie on its border.

    Returns:
        Lengths in the unit of the axis; in radians for longitudes; for latitudes and colatitudes the difference of the
        sines, so that the product with a longitude's is an area of the unit sphere (steradian).
    """
    between = (nodes[1:] + nodes[:-1]) / 2
    if spec.periodic:
        seam = (nodes[-1] + nodes[0] + spec.upper - spec.lower) / 2
        edges = np.concatenate([[seam - (spec.upper - spec.lower)], between, [seam]])
    else:
        edges = np.concatenate([[spec.lower], between, [spec.upper]])
    if spec.kind == "linear":
        return np.diff(edges)
    angles = edges / spec.radian
    if spec.kind == "longitude":
        return np.diff(angles)
    return np.diff(np.sin(angles)) if spec.kind == "latitude" else -np.diff(np.cos(angles))


def grid_measures(
    axes: tuple[Float64[np.ndarray, " _"], ...],
    specs: tuple[AxisSpec, ...],
    point_ids: Integer[np.ndarray, " query"] | None = None,
) -> Float64[np.ndarray, " query"]:
    """Return the measure of the cells of some grid points, of all in point-id order by default.

    The product over the axes of `cell_lengths`.
    """
    lengths = [cell_lengths(nodes, spec) for nodes, spec in zip(axes, specs, strict=True)]
    if point_ids is None:
        measures = np.ones(1)
        for length in lengths:
            measures = np.multiply.outer(measures, length)
        return measures.reshape(-1)
    places = np.unravel_index(point_ids, tuple(axis.size for axis in axes))
    product = np.ones(len(point_ids))
    for length, place in zip(lengths, places, strict=True):
        product *= length[place]
    return product


def check_axis(values: Float64[np.ndarray, " node"], spec: AxisSpec, *, where: str) -> None:
    """Refuse node coordinates that are not finite, not strictly increasing, or outside of the axis' extent.

    Raises:
        SchemaError: naming `where`, the axis and the first offending node.
    """
    if not np.isfinite(values).all():
        raise SchemaError(
            f"{where}: axis {spec.name!r} has a coordinate that is not finite at node {_first(~np.isfinite(values))}"
        )
    if values.size > 1 and (np.diff(values) <= 0).any():
        node = _first(np.diff(values) <= 0)
        raise SchemaError(
            f"{where}: axis {spec.name!r} must increase strictly, but node {node} lies at {values[node]} and node "
            f"{node + 1} at {values[node + 1]}"
        )
    slack = 1e-6 * (spec.upper - spec.lower)
    if values[0] < spec.lower - slack or values[-1] > spec.upper + slack:
        raise SchemaError(
            f"{where}: axis {spec.name!r} runs from {values[0]} to {values[-1]}, outside of its extent "
            f"[{spec.lower}, {spec.upper}]"
        )
    if spec.periodic and values[-1] - values[0] > (spec.upper - spec.lower) * (1 - 1e-9):
        raise SchemaError(
            f"{where}: axis {spec.name!r} is periodic with period {spec.upper - spec.lower}, so the node at "
            f"{values[-1]} repeats the one at {values[0]}; leave the repeated node out"
        )


def _first(mask: Bool[np.ndarray, " node"]) -> int:
    return int(np.argmax(mask))
