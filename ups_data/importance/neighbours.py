"""The nearest neighbours of scattered points, run by run, in memory that does not grow with their number."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int32, Int64

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

_RUN_POINTS = 2**15
# Search trees of runs that are kept for the next ones, near which they lie.
_MOST_TREES = 32
# Larger than what rounding takes from the distance of a box.
_ROUNDING = 1e-12


class Neighbours(NamedTuple):
    """Nearest neighbours of points.

    Attributes:
        points: numbers of the neighbours, the nearest first; the point itself where there are no more.
        distances: to them; infinite where there are no more.
    """

    points: Int32[np.ndarray, "point neighbour"]
    distances: Float64[np.ndarray, "point neighbour"]


class _RunTree(NamedTuple):
    """Where the points of a run lie.

    Attributes:
        tree: of the distinct places.
        places: the first point at each of them.
    """

    tree: cKDTree
    places: Int32[np.ndarray, " place"]


class NeighbourSearch:
    """Finds the nearest places of all points of a cloud, exactly, one run of near points after another.

    A run has a search tree of its own. What a point finds there bounds how far its neighbours lie, and the trees of
    other runs are asked only where their boxes come nearer than that. The first place that a point finds is its own.
    Of points at one place the first of its run is the neighbour of others, whichever run that is.

    Memory: some 500 bytes a point of a run, and 40 a point of the 32 runs whose trees are kept; nothing that grows with
    the cloud but 64 bytes a run.

    Args:
        coordinates: of the points (N, D).
        order: the points such that those near each other in it lie near each other, as along a space-filling curve;
            as they come if None. With any order neighbours are as near: this one makes the search fast.
        num_neighbours: how many places are wanted, the point's own included; 2 or more.
        run_points: points of a run.

    Attributes:
        num_runs: how many runs there are.
        dims: of the space, D.
    """

    def __init__(
        self,
        coordinates: Float[np.ndarray, "point dim"],
        order: Int32[np.ndarray, " point"] | None = None,
        *,
        num_neighbours: int,
        run_points: int = _RUN_POINTS,
    ) -> None:
        self._coordinates, self._order, self._wanted = coordinates, order, num_neighbours
        self._run_points = run_points
        self.dims = coordinates.shape[1]
        self.num_runs = -(-len(coordinates) // run_points)
        self._trees: OrderedDict[int, _RunTree] = OrderedDict()
        boxes = [self._box(run) for run in range(self.num_runs)]
        self._lower = np.array([lower for lower, _ in boxes])
        self._upper = np.array([upper for _, upper in boxes])

    def points_of(self, run: int) -> Int32[np.ndarray, " point"]:
        """Return the points of a run."""
        start = run * self._run_points
        stop = min(start + self._run_points, len(self._coordinates))
        return np.arange(start, stop, dtype=np.int32) if self._order is None else self._order[start:stop]

    def find(self, run: int) -> Neighbours:
        """Return the nearest places of the points of a run, in the order of `points_of`."""
        points = self.points_of(run)
        places = self.places_of(points)
        nearest = self._ask(run, places, limit=np.inf)
        lower, upper = self._lower[run], self._upper[run]
        gaps = _lengths(np.maximum(0.0, np.maximum(self._lower - upper, lower - self._upper)))
        for other in np.argsort(gaps, kind="stable").tolist():
            reach = nearest.distances[:, -1]
            if gaps[other] * (1 - _ROUNDING) >= reach.max():
                break
            if other == run:
                continue
            beyond = np.maximum(0.0, np.maximum(self._lower[other] - places, places - self._upper[other]))
            rows = np.flatnonzero(_lengths(beyond) * (1 - _ROUNDING) < reach)
            if rows.size:
                found = self._ask(other, places[rows], limit=float(reach[rows].max()))
                self._merge(nearest, rows, found)
        np.copyto(nearest.points, points[:, None], where=np.isinf(nearest.distances))
        return nearest

    def forget(self) -> None:
        """Let go of the search trees; they are made again when they are needed."""
        self._trees.clear()

    def places_of(self, points: Int32[np.ndarray, "*rest"]) -> Float64[np.ndarray, "*rest dim"]:
        """Return where points lie."""
        return self._coordinates[points].astype(np.float64, copy=False)

    def _ask(self, run: int, places: Float64[np.ndarray, "point dim"], *, limit: float) -> Neighbours:
        """Return what a run has that is nearest to places, and nearer than a limit; -1 where there is no more."""
        known = self._tree(run)
        distances, found = known.tree.query(places, k=self._wanted, distance_upper_bound=limit)
        there = np.isfinite(distances)
        return Neighbours(np.where(there, known.places[np.where(there, found, 0)], np.int32(-1)), distances)

    def _merge(self, nearest: Neighbours, rows: Int64[np.ndarray, " some"], found: Neighbours) -> None:
        """Put into some rows of what is known what else was found."""
        points, distances = nearest.points[rows], nearest.distances[rows]
        found.distances[self._is_known(found, Neighbours(points, distances))] = np.inf
        distances = np.concatenate([distances, found.distances], axis=1)
        points = np.concatenate([points, found.points], axis=1)
        first = np.argsort(distances, axis=1, kind="stable")[:, : self._wanted]
        nearest.distances[rows] = np.take_along_axis(distances, first, axis=1)
        nearest.points[rows] = np.take_along_axis(points, first, axis=1)

    def _is_known(self, found: Neighbours, known: Neighbours) -> Bool[np.ndarray, "point found"]:
        """Tell which places are known already: there may be points of one in two runs."""
        alike = found.distances[:, :, None] == known.distances[:, None, :]
        row, new, old = np.nonzero(alike & np.isfinite(found.distances[:, :, None]))
        same = (self._coordinates[found.points[row, new]] == self._coordinates[known.points[row, old]]).all(axis=1)
        result = np.zeros(found.distances.shape, dtype=bool)
        result[row[same], new[same]] = True
        return result

    def _tree(self, run: int) -> _RunTree:
        from scipy.spatial import cKDTree

        if run not in self._trees:
            points = self.points_of(run)
            places = self.places_of(points)
            first = first_of_each_place(places)
            self._trees[run] = _RunTree(cKDTree(places[first]), points[first])
            if len(self._trees) > _MOST_TREES:
                self._trees.popitem(last=False)
        self._trees.move_to_end(run)
        return self._trees[run]

    def _box(self, run: int) -> tuple[Float64[np.ndarray, " dim"], Float64[np.ndarray, " dim"]]:
        places = self.places_of(self.points_of(run))
        return places.min(axis=0), places.max(axis=0)


def first_of_each_place(coordinates: Float64[np.ndarray, "point dim"]) -> Int64[np.ndarray, " place"]:
    """Return the first of the points at each place, in order."""
    order = np.lexsort(coordinates.T)
    new = (np.diff(coordinates[order], axis=0) != 0).any(axis=1)
    return np.sort(order[np.concatenate([[True], new])])


def _lengths(ways: Float64[np.ndarray, "way dim"]) -> Float64[np.ndarray, " way"]:
    return np.sqrt(np.square(ways).sum(axis=1))
