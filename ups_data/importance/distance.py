"""Importance by nearness to a wall, a mask or a border."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from ups_data.coordinates import coordinates_of
from ups_data.errors import SchemaError
from ups_data.importance.base import CloudGeometry, Geometry, GridGeometry, ImportanceMetric, Subject
from ups_data.importance.sphere import is_on_sphere, on_unit_sphere

MISSING, EDGES = "missing", "edges"
REACH = 0.1
"""Share of the largest distance at which importance is half of that at the wall."""

_BLOCK_POINTS = 2**18


class _End(NamedTuple):
    """One end of an axis."""

    axis: int
    side: str


class DistanceMetric(ImportanceMetric):
    """1 / (1 + d / L), with d the distance of a point and L a tenth of the largest distance in the trajectory.

    Distances are Euclidean, in the unit of the axes, across the seam of a periodic axis; arcs of the unit sphere where
    the axes are a longitude and a latitude. What they are to is `target`:

    * the name of a boundary that the source tells: the ends of its axes, or the points of its mask;
    * `missing`: points that lack a value in every frame (land, walls), one map for each channel that lacks any;
    * `edges`: ends of the axes of a grid that do not wrap; the nodes of those edges or faces of a mesh that belong to
      one cell only;
    * the name of a field of 0 and one other number, which is a mask: points where it is not 0 in any frame;
    * empty: the one of these (but fields) that there is; more or fewer than one are refused.

    A trajectory that has nothing of the kind (no value missing, a mask of zeros) has a map of zeros.
    """

    target: ClassVar[str] = ""

    def __init__(self, geometry: Geometry, subject: Subject) -> None:
        super().__init__(geometry, subject)
        name = self.target or next(iter(_candidates(subject)))
        self._ends = _ends_of(name, subject)
        mask = _mask_of(name, subject)
        self._mask_channel = None if mask is None else _channel_of(mask, subject)
        self._marked: Bool[np.ndarray, " point"] = np.zeros(geometry.size, dtype=bool)
        self._mark: float | None = None
        # Which points had a value of each channel in any frame so far; True where all had one.
        self._seen: list[Bool[np.ndarray, " point"] | bool] | None = None
        if name == MISSING:
            self._seen = [not may_miss for may_miss in _may_miss(subject)]

    @classmethod
    def objection(cls, subject: Subject) -> str | None:
        """Refuse a target that is not there, or one that is not said where several may be meant."""
        if any(spec.kind != "linear" for spec in subject.specs) and not is_on_sphere(subject.specs):
            return "needs axes that are all lengths, or a longitude and a latitude alone"
        candidates = _candidates(subject)
        listed = ", ".join(f"'distance:{name}' ({told})" for name, told in candidates.items()) or "none is told here"
        masks = [field.name for field in subject.fields if len(field.components) == 1]
        hint = f"{listed}; or the name of a field that is a mask: {', '.join(masks) or 'none has one component'}"
        if not cls.target:
            return None if len(candidates) == 1 else f"must say what distances are to, as in distance:NAME. {hint}"
        known = cls.target in candidates or cls.target in masks or _ends_of(cls.target, subject)
        return None if known else f"names nothing that distances can be taken to. {hint}"

    def update(self, frame: Float[np.ndarray, "channel *space"]) -> None:
        """Look where the mask is, and where values are."""
        if self._mask_channel is not None:
            self._gather_mask(frame[self._mask_channel].reshape(-1))
        for channel, seen in enumerate(self._seen or ()):
            if seen is not True and self._seen is not None:
                there = ~np.isnan(frame[channel]).reshape(-1)
                self._seen[channel] = True if there.all() else np.logical_or(seen, there)

    def result(self) -> Float64[np.ndarray, "map *space"]:
        """Return the maps, between 1/11 and 1."""
        maps = [_fall_off(distances) for distances in self._distances()]
        return np.stack(maps or [np.zeros(self.geometry.size)]).reshape(-1, *self.geometry.shape)

    def _distances(self) -> Iterator[Float64[np.ndarray, " point"]]:
        if self._seen is not None:
            for seen in self._seen:
                if isinstance(seen, np.ndarray) and not seen.all():
                    yield _to_points(self.geometry, self.subject, ~seen)
        elif self._mask_channel is not None:
            if self._marked.any():
                yield _to_points(self.geometry, self.subject, self._marked)
        elif self._ends:
            yield _to_ends(self.geometry, self.subject, self._ends)
        else:
            assert isinstance(self.geometry, CloudGeometry)
            yield _to_border(self.geometry)

    def _gather_mask(self, values: Float[np.ndarray, " point"]) -> None:
        marked = np.nan_to_num(values) != 0
        numbers = np.unique(values[marked])
        if numbers.size and self._mark is None:
            self._mark = float(numbers[0])
        if numbers.size > 1 or (numbers.size and numbers[0] != self._mark):
            raise SchemaError(
                f"importance metric 'distance:{self.target}': the field is no mask, which holds 0 and one other "
                f"number; it holds {self._mark:g} and {float(numbers[-1]):g}"
            )
        self._marked |= marked


def distance_to(target: str) -> type[DistanceMetric]:
    """Return the metric of the distance to something."""
    return type("DistanceMetric", (DistanceMetric,), {"target": target, "__doc__": DistanceMetric.__doc__})


def _candidates(subject: Subject) -> dict[str, str]:
    """Return what distances may be to, and what it is, for those that no field must be looked at for."""
    found: dict[str, str] = {}
    for boundary in subject.boundaries:
        ends, mask = _ends_of(boundary.name, subject), _mask_of(boundary.name, subject)
        if ends:
            found[boundary.name] = ", ".join(f"{end.side} end of {subject.axes[end.axis]}" for end in ends)
        elif mask is not None:
            found[boundary.name] = f"field {mask}"
    if subject.missing_fields:
        found[MISSING] = "points that lack values"
    if subject.kind == "mesh":
        found[EDGES] = "edges or faces of one cell alone"
    elif subject.kind == "grid" and _ends_of(EDGES, subject) and not found.keys() - {MISSING}:
        found[EDGES] = "ends of the axes"
    return found


def _ends_of(name: str, subject: Subject) -> tuple[_End, ...]:
    """Return the ends of axes that a boundary lies at, none where it lies elsewhere."""
    straight = [number for number, spec in enumerate(subject.specs) if spec.kind == "linear" and not spec.periodic]
    for boundary in subject.boundaries:
        if boundary.name == name and boundary.kind != "periodic":
            numbers = [subject.axes.index(axis) for axis in boundary.axes]
            return tuple(_End(*end) for end in product(numbers, boundary.sides) if end[0] in straight)
    if name == EDGES and subject.kind == "grid":
        return tuple(_End(*end) for end in product(straight, ("lower", "upper")))
    return ()


def _mask_of(name: str, subject: Subject) -> str | None:
    """Return the field that marks a boundary, or that is the mask itself."""
    fields = [field.name for field in subject.fields if len(field.components) == 1]
    of_boundary = any(boundary.name == name for boundary in subject.boundaries)
    mask = f"{name}_mask" if of_boundary else name
    return mask if mask in fields and name not in {MISSING, EDGES} and not _ends_of(name, subject) else None


def _channel_of(name: str, subject: Subject) -> int:
    channels = [field.name for field in subject.fields for _ in field.components]
    return channels.index(name)


def _may_miss(subject: Subject) -> Iterator[bool]:
    return (field.name in subject.missing_fields for field in subject.fields for _ in field.components)


def _fall_off(distances: Float64[np.ndarray, " point"]) -> Float64[np.ndarray, " point"]:
    # Where every point lies on the wall, all are alike.
    return 1.0 / (1.0 + distances / (REACH * distances.max() or 1.0))


def _to_ends(geometry: Geometry, subject: Subject, ends: tuple[_End, ...]) -> Float64[np.ndarray, " point"]:
    least = np.full(geometry.shape, np.inf)
    for axis, side in ends:
        if isinstance(geometry, GridGeometry):
            places = geometry.axes[axis].reshape([-1 if other == axis else 1 for other in range(len(geometry.axes))])
        else:
            places = geometry.coordinates[:, axis].astype(np.float64)
        np.minimum(least, np.abs(places - getattr(subject.specs[axis], side)), out=least)
    return least.reshape(-1)


def _to_border(geometry: CloudGeometry) -> Float64[np.ndarray, " point"]:
    from scipy.spatial import cKDTree

    mesh = None if geometry.read_mesh is None else geometry.read_mesh()
    faces = {} if mesh is None else mesh.outer_faces()
    if mesh is None or not any(map(len, faces.values())):
        raise SchemaError(
            "importance metric 'distance:edges': this trajectory has no edge, since every edge or face of its mesh "
            "belongs to two cells, as those of a closed surface do; take another metric"
        )
    nodes = np.unique(np.concatenate([part.reshape(-1) for part in faces.values()]))
    distances, _ = cKDTree(mesh.nodes[nodes]).query(geometry.coordinates.astype(np.float64))
    return distances


def _to_points(
    geometry: Geometry, subject: Subject, marked: Bool[np.ndarray, " point"]
) -> Float64[np.ndarray, " point"]:
    """Return the distance to the nearest of the marked points."""
    from scipy.spatial import cKDTree

    on_sphere = is_on_sphere(subject.specs)
    rim = _rim_of(marked, geometry) if isinstance(geometry, GridGeometry) else np.flatnonzero(marked)
    box = None
    if not on_sphere and any(spec.periodic for spec in subject.specs):
        # A size of 0 is that of an axis which does not wrap.
        box = np.array([spec.upper - spec.lower if spec.periodic else 0.0 for spec in subject.specs])

    def places(points: Int64[np.ndarray, " point"]) -> Float64[np.ndarray, "point dim"]:
        if isinstance(geometry, GridGeometry):
            found = coordinates_of(geometry.axes, points)
        else:
            found = geometry.coordinates[points].astype(np.float64)
        if on_sphere:
            return on_unit_sphere(found, subject.specs)
        if box is None:
            return found
        turns = np.mod(found - np.array([spec.lower for spec in subject.specs]), np.where(box > 0, box, 1.0))
        # Rounding may put a point on the far side of the seam, which the tree has not.
        return np.where(box > 0, np.where(turns >= box, 0.0, turns), found)

    tree = cKDTree(places(rim), boxsize=box)
    distances = np.zeros(geometry.size)
    for start in range(0, geometry.size, _BLOCK_POINTS):
        block = np.arange(start, min(start + _BLOCK_POINTS, geometry.size))
        distances[block], _ = tree.query(places(block))
    distances[marked] = 0.0
    # Chords of the unit sphere are 2 sin(arc / 2) long.
    return 2 * np.arcsin(np.minimum(distances / 2, 1.0)) if on_sphere else distances


def _rim_of(marked: Bool[np.ndarray, " point"], geometry: GridGeometry) -> Int64[np.ndarray, " rim"]:
    """Return the marked points that have a neighbour which is not: no other one is nearest to any."""
    mask = marked.reshape(geometry.shape)
    inner = mask.copy()
    for axis in range(mask.ndim):
        for step in (1, -1):
            moved = np.roll(mask, step, axis=axis)
            if geometry.periods[axis] is None:
                # Beyond the end there is nothing that could be near.
                np.moveaxis(moved, axis, 0)[0 if step == 1 else -1] = True
            inner &= moved
    rim = np.flatnonzero((mask & ~inner).reshape(-1))
    return rim if rim.size else np.flatnonzero(marked)
