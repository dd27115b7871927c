"""How a store was made: rounding, layout, importance, points off the grid, sources."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import pydantic

from ups_data.schema.base import MAX_POINTS, Count, CurveName, Finite, Positive, Record, SchemeName


class RoundingRule(Record):
    """How values were rounded before they were stored: to the nearest, ties to even.

    Attributes:
        mantissa_bits: bits of the mantissa that are kept, beside the leading one that is not written; None for numbers
            that a float16 holds.
    """

    mantissa_bits: Annotated[int, pydantic.Field(ge=1, le=51)] | None


class RoundingError(Record):
    """The largest errors that rounding made in one channel, over all points and frames.

    Attributes:
        channel: which.
        max_absolute: in units of the channel.
        max_relative: over the size of the value; zero has none.
    """

    channel: str
    max_absolute: Annotated[Finite, pydantic.Field(ge=0)]
    max_relative: Annotated[Finite, pydantic.Field(ge=0)]


class RoundingSpec(Record):
    """Declared rounding of a store, and what it cost."""

    rule: RoundingRule
    errors: tuple[RoundingError, ...]


class LayoutSpec(Record):
    """How points are dealt to pages; see `ups_data.pages`.

    Attributes:
        page_points: entries of a page, P.
        num_strata: bands of importance, S; a trajectory with fewer pages has fewer.
        block_points: consecutive points of the curve that share a stratum.
        curve: space-filling curve that orders the points of a stratum.
        seed: seed of the dealing shifts.
        dense: whether dense frames are stored beside the pages or rebuilt from them.
        frames_per_block: frames after which a trajectory begins another layout, with an importance map of its own; None
            for one layout a trajectory.
        target_span: frames from the first to the last target of the longest window that any block holds whole; each
            block reaches `target_span - 1` frames into the next one.
    """

    page_points: Positive
    num_strata: Annotated[int, pydantic.Field(ge=1, le=64)]
    block_points: Positive
    curve: CurveName = "hilbert"
    seed: Count = 0
    dense: Literal["stored", "rebuilt"] = "stored"
    frames_per_block: Positive | None = None
    target_span: Positive = 1


class ClipSpec(Record):
    """Where importance is cut, so that a few points do not take all draws; one of the two is given.

    Attributes:
        quantile: of the importance of those points that have any.
        times_mean: multiple of the mean importance.
    """

    quantile: Annotated[Finite, pydantic.Field(gt=0, lt=1)] | None = None
    times_mean: Annotated[Finite, pydantic.Field(ge=1)] | None = None

    @pydantic.model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.quantile is None) == (self.times_mean is None):
            raise ValueError("clip takes quantile or times_mean, one of them")
        return self


class ImportanceSpec(Record):
    """The recipe of the importance maps.

    m = sum over metrics of weight * metric; v = (m / mean(m)) ** exponent, cut as `clip` says; w = v / mean(v) + floor,
    over its mean. Each metric is the mean over its maps, each divided by its own mean, so channels count alike.
    """

    metrics: dict[str, Annotated[Finite, pydantic.Field(gt=0)]] = pydantic.Field(min_length=1)
    # Maps have mean 1, so no value exceeds the number of points: its eighth power still fits a float64.
    exponent: Annotated[Finite, pydantic.Field(gt=0, le=8)] = 2.0
    floor: Annotated[Finite, pydantic.Field(ge=0)] = 0.05
    clip: ClipSpec | None = None


class DeviationSpec(Record):
    """How far a scheme of interpolation is off at known values of one channel, at twice the spacing of the nodes.

    Every second node along each axis is left out, and the scheme asked for those that lie in the middle of what is
    left, where it is at its worst: the difference from their values, over all frames and trajectories, in physical
    units.

    Attributes:
        channel: its name.
        count: values that were compared; 0 where no grid has nodes enough, and then the others are None.
        rms, max: root mean square of the differences, and the largest.
    """

    channel: str
    count: Count
    rms: Annotated[Finite, pydantic.Field(ge=0)] | None = None
    max: Annotated[Finite, pydantic.Field(ge=0)] | None = None

    @pydantic.model_validator(mode="after")
    def _numbers_go_with_the_count(self) -> Self:
        if (self.rms is None or self.max is None) != (self.count == 0):
            raise ValueError(f"rms and max stand where values were compared and nowhere else, got {self.count} values")
        if self.rms is not None and self.max is not None and self.rms > self.max * (1 + 1e-12):
            raise ValueError(f"a root mean square of {self.rms} is over the largest difference {self.max}")
        return self


class OffGridSpec(Record):
    """How the points of a store lie between the nodes of the grids of its source, and how their values were made.

    Attributes:
        scheme: the piecewise polynomial along each axis: `linear` through 2 nodes, `cubic` through 4.
        ratio: points of a trajectory over the nodes of its grid, or
        points: how many points each trajectory has; one of the two is given.
        seed: of the places of the points.
        deviations: how far the scheme is off, one record a channel; none before it was measured.
    """

    scheme: SchemeName
    ratio: Annotated[Finite, pydantic.Field(gt=0, le=1024)] | None = None
    points: Annotated[int, pydantic.Field(ge=1, le=MAX_POINTS)] | None = None
    seed: Count = 0
    deviations: tuple[DeviationSpec, ...] = ()

    @pydantic.model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.ratio is None) == (self.points is None):
            raise ValueError("points between nodes take ratio or points, one of them")
        return self

    @property
    def degree(self) -> int:
        """Degree of the polynomials that the scheme reproduces."""
        return {"linear": 1, "cubic": 3}[self.scheme]

    def error_estimate(self, deviation: float) -> float:
        """Return what a deviation at twice the spacing comes to at the spacing itself, where the field is smooth.

        The error of polynomials of degree p falls with the (p + 1)-th power of the spacing. At a jump it does not fall
        at all, and the deviation itself is the estimate.
        """
        return deviation / float(2 ** (self.degree + 1))


class SourceFingerprint(Record):
    """Which file a store was made from: name, size, and SHA-256 of its first and its last MiB."""

    name: str
    size_bytes: Count
    sha256_ends: Annotated[str, pydantic.Field(pattern=r"[0-9a-f]{64}")]


class SourceSpec(Record):
    """The format that was read, the files, the options of the format, and what the reader notes for people."""

    format: str
    files: tuple[SourceFingerprint, ...]
    options: dict[str, pydantic.JsonValue] = pydantic.Field(default_factory=dict)
    notes: tuple[str, ...] = ()
