"""The page layout of a trajectory: what a draw needs to know, and the table that storage keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float64, Int32, Int64, Integer

from ups_data.pages.deal import deal
from ups_data.pages.strata import cut_strata
from ups_data.random import Stream, generator

_SLICE_POINTS = 2**20
_MIN_PAGE_POINTS, _MAX_PAGE_POINTS = 8, 4096
_MAX_BLOCK_POINTS = 64
_BLOCKS_WANTED = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class PageLayout:
    """How many pages each stratum of one trajectory has.

    Attributes:
        num_points: points that may be drawn, N: all but those that hold no value in any frame.
        page_points: entries of a page, P.
        stratum_pages: pages of each stratum, R_s (S,); the strata's pages follow one another.
        stratum_mass: importance of each stratum's points, summed and divided by the total (S,).
        resting_pages: pages after those of the strata, with the points that no draw may take.
    """

    num_points: int
    page_points: int
    stratum_pages: Int64[np.ndarray, " stratum"]
    stratum_mass: Float64[np.ndarray, " stratum"]
    resting_pages: int = 0

    def __post_init__(self) -> None:
        pages = self.stratum_pages
        wanted = -(-self.num_points // self.page_points)
        if pages.size < 1 or (pages < 0).any() or pages.sum() != wanted:
            raise ValueError(f"strata of {pages} pages do not make the {wanted} pages of {self.num_points} points")
        if (pages[1:] > 0)[pages[:-1] == 0].any():
            raise ValueError(f"strata without pages must come last, got {pages}")
        if self.stratum_mass.shape != pages.shape or not np.isfinite(self.stratum_mass).all():
            raise ValueError(f"stratum_mass {self.stratum_mass} does not fit {pages.size} strata")

    @property
    def num_pages(self) -> int:
        """Pages of all strata, R."""
        return int(self.stratum_pages.sum())

    @property
    def all_pages(self) -> int:
        """Pages of all points, drawn or not."""
        return self.num_pages + self.resting_pages

    @property
    def num_strata(self) -> int:
        """Strata that hold points."""
        return int((self.stratum_pages > 0).sum())

    @property
    def stratum_points(self) -> Int64[np.ndarray, " stratum"]:
        """Points of each stratum, N_s: whole pages, and what is left in the last one."""
        ends = np.minimum(np.cumsum(self.stratum_pages) * self.page_points, self.num_points)
        return np.diff(ends, prepend=0)


@dataclass(frozen=True, kw_only=True, eq=False)
class PageTable:
    """A layout and the point that stands at every entry of every page, resting ones too; -1 for padding."""

    layout: PageLayout
    index: Int32[np.ndarray, "page entry"]


def default_page_points(num_points: int) -> int:
    """Return the power of two next below sqrt(N) / 8, kept within 8 to 4096.

    Small pages split finely among strata, large ones cost fewer checksums and index entries.
    """
    wanted = max(1, math.isqrt(num_points) // 8)
    return int(np.clip(1 << (wanted.bit_length() - 1), _MIN_PAGE_POINTS, _MAX_PAGE_POINTS))


def default_block_points(num_points: int) -> int:
    """Return the power of two that makes 1024 to 2048 blocks, at most 64 points."""
    return int(np.clip(1 << max(0, (num_points // _BLOCKS_WANTED).bit_length() - 1), 1, _MAX_BLOCK_POINTS))


def default_num_strata(num_points: int, page_points: int) -> int:
    """Return 4 strata where each can have eight pages, else 2 or 1."""
    pages = -(-num_points // page_points)
    return next(strata for strata in (4, 2, 1) if pages >= 8 * strata or strata == 1)


def build_pages(
    importance: Float[np.ndarray, " point"],
    order: Integer[np.ndarray, " point"],
    *,
    page_points: int,
    num_strata: int,
    block_points: int,
    seed: int,
    key: tuple[int, int],
    all_pages: int | None = None,
) -> PageTable:
    """Lay out points: strata by importance, curve order, dealing.

    Args:
        importance: non-negative, finite (N,), NaN for points that no draw may take.
        order: point ids in curve order (N,).
        page_points: entries of a page, P.
        num_strata: bands of importance wanted, S.
        block_points: consecutive points of the curve that share a stratum.
        seed: seed of the layout.
        key: numbers of the trajectory and of its block of frames; with the seed they key the dealing shifts.
        all_pages: pages that the table must have, those of points at rest and empty ones included; as many as are
            needed by default.
    """
    resting = np.isnan(importance)
    if not resting.any():
        table = _build_drawn(
            importance,
            order,
            page_points=page_points,
            num_strata=num_strata,
            block_points=block_points,
            random=generator(seed=seed, stream=Stream.DEAL, words=key),
        )
    else:
        # Points are numbered anew without those at rest, and get their own numbers back at the end.
        drawn = np.flatnonzero(~resting).astype(np.int32)
        places = np.cumsum(~resting, dtype=np.int32) - np.int32(1)
        table = _build_drawn(
            importance[drawn],
            places[order[~resting[order]]],
            page_points=page_points,
            num_strata=num_strata,
            block_points=block_points,
            random=generator(seed=seed, stream=Stream.DEAL, words=key),
        )
        table = PageTable(layout=table.layout, index=np.where(table.index < 0, np.int32(-1), drawn[table.index]))
    return _add_resting(table, order[resting[order]], all_pages)


def _add_resting(table: PageTable, points: Integer[np.ndarray, " point"], all_pages: int | None) -> PageTable:
    """Append pages of points that no draw may take, and empty ones up to `all_pages`."""
    size, drawn = table.layout.page_points, len(table.index)
    needed = -(-points.size // size)
    wanted = drawn + needed if all_pages is None else all_pages
    if wanted < drawn + needed:
        raise ValueError(f"{drawn} pages to draw and {needed} of points at rest do not fit on {wanted}")
    if wanted == drawn:
        return table
    rest = np.full((wanted - drawn) * size, -1, dtype=np.int32)
    rest[: points.size] = points
    return PageTable(
        layout=replace(table.layout, resting_pages=wanted - drawn),
        index=np.concatenate([table.index, rest.reshape(-1, size)]),
    )


def _build_drawn(
    importance: Float[np.ndarray, " point"],
    order: Integer[np.ndarray, " point"],
    *,
    page_points: int,
    num_strata: int,
    block_points: int,
    random: np.random.Generator,
) -> PageTable:
    bands, stratum_pages = cut_strata(
        importance, order, page_points=page_points, num_strata=num_strata, block_points=block_points
    )
    index = np.empty((int(stratum_pages.sum()), page_points), dtype=np.int32)
    mass, first = np.zeros(num_strata), 0
    for stratum, pages in enumerate(stratum_pages.tolist()):
        if pages:
            points = order[bands == stratum]
            deal(points, index[first : first + pages], random=random)
            mass[stratum] = _sum_of(importance, points)
            first += pages
    total = mass.sum()
    ends = np.minimum(np.cumsum(stratum_pages) * page_points, importance.size)
    layout = PageLayout(
        num_points=importance.size,
        page_points=page_points,
        stratum_pages=stratum_pages,
        stratum_mass=mass / total if total > 0 else np.diff(ends, prepend=0) / importance.size,
    )
    return PageTable(layout=layout, index=index)


def _sum_of(importance: Float[np.ndarray, " point"], points: Integer[np.ndarray, " some"]) -> float:
    parts = [
        importance[points[start : start + _SLICE_POINTS]].sum(dtype=np.float64)
        for start in range(0, points.size, _SLICE_POINTS)
    ]
    return float(np.sum(parts))
