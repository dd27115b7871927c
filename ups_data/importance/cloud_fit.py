"""Derivatives on scattered points by least squares over the nearest neighbours: what all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int32

from ups_data.importance.kept_runs import KeptRuns
from ups_data.importance.neighbours import Neighbours, NeighbourSearch

_BLOCK_POINTS = 2**14

Norm = Callable[[Float64[np.ndarray, " point"], Float64[np.ndarray, "point neighbour"]], Float64[np.ndarray, " point"]]
"""Gives the squared norm at some points, of a channel's values there and the changes from them to the neighbours."""


class Fit(NamedTuple):
    """The neighbourhoods of some points, made ready.

    Attributes:
        neighbours: numbers of the neighbours.
        scale: the way to the farthest of them.
        operator: what makes derivatives of the changes to them.
    """

    neighbours: Int32[np.ndarray, "point neighbour"]
    scale: Float64[np.ndarray, " point"]
    operator: Float64[np.ndarray, "point _ _"]


class CloudFit(ABC):
    """A squared norm of derivatives at every point of a cloud, made ready once and taken of many frames.

    Of points at one place one is the neighbour of others, see `NeighbourSearch`. Seams of periodic axes are not
    crossed.

    Memory: what `NeighbourSearch` and blocks of 16,384 points take, and what is made ready: in a temporary file where
    all of it is more than a GiB. Where a disk has no room for twice that, it is made again for each frame.

    Args:
        coordinates: of the points (N, D).
        order: points near each other in it lie near each other; see `NeighbourSearch`.
        folder: where a file may lie; the system's folder for temporary files if None.
        num_found: places that are searched for, the point's own included.
        fit_bytes: of what is made ready, a point.
    """

    def __init__(
        self,
        coordinates: Float[np.ndarray, "point dim"],
        order: Int32[np.ndarray, " point"] | None,
        folder: Path | None,
        *,
        num_found: int,
        fit_bytes: int,
    ) -> None:
        self._search = NeighbourSearch(coordinates, order, num_neighbours=num_found)
        self._runs = KeptRuns(num_bytes=len(coordinates) * fit_bytes, folder=folder)

    @abstractmethod
    def _choose(
        self, nearest: Neighbours
    ) -> tuple[Int32[np.ndarray, "point neighbour"], Float64[np.ndarray, " point"]]:
        """Return the neighbours of points and the way to the farthest of them, of what was found."""

    @abstractmethod
    def _solve(
        self, points: Int32[np.ndarray, " point"], offsets: Float64[np.ndarray, "point neighbour dim"]
    ) -> Float64[np.ndarray, "point _ _"]:
        """Return the operators of points, of the ways to their neighbours."""

    @abstractmethod
    def _norm(self, points: Int32[np.ndarray, " point"], fit: Fit) -> Norm:
        """Return what gives the squared norm at points, the same for all channels."""

    def squared_norms(
        self, frame: Float[np.ndarray, "channel point"]
    ) -> Iterator[tuple[Int32[np.ndarray, " some"], Float64[np.ndarray, "channel some"]]]:
        """Yield points and the squared norm of every channel at them; NaN where the value itself is missing."""
        for number in range(self._search.num_runs):
            run, points = Fit(*self._runs.take(number, self._prepare)), self._search.points_of(number)
            squares = np.empty((len(frame), len(points)))
            for block in _blocks(len(points)):
                fit = Fit(*(part[block] for part in run))
                norm = self._norm(points[block], fit)
                for channel, result in zip(frame, squares, strict=True):
                    values = channel[points[block]].astype(np.float64)
                    changes = channel[fit.neighbours].astype(np.float64) - values[:, None]
                    result[block] = norm(values, changes)
            yield points, squares
        self._search.forget()

    def _prepare(self, number: int) -> Fit:
        """Find the neighbourhoods of the points of a run, and their operators."""
        points = self._search.points_of(number)
        neighbours, scale = self._choose(self._search.find(number))
        operators = [
            self._solve(points[block], self._offsets(points[block], neighbours[block], scale[block]))
            for block in _blocks(len(points))
        ]
        return Fit(neighbours, scale, np.concatenate(operators))

    def _offsets(
        self,
        points: Int32[np.ndarray, " point"],
        neighbours: Int32[np.ndarray, "point neighbour"],
        scale: Float64[np.ndarray, " point"],
    ) -> Float64[np.ndarray, "point neighbour dim"]:
        """Return the way to each neighbour in units of the way to the farthest, so that squares stay in range."""
        ways = self._search.places_of(neighbours) - self._search.places_of(points)[:, None]
        return ways / scale[:, None, None]


def _blocks(count: int) -> Iterator[slice]:
    for start in range(0, count, _BLOCK_POINTS):
        yield slice(start, start + _BLOCK_POINTS)
