"""What a picture of a store shows: one field of one frame, the importance map, and one draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64

from preprocess.prove.draws import TrajectoryDraws
from preprocess.prove.measure import SAMPLERS
from ups_data.coordinates import coordinates_of
from ups_data.errors import DatasetError, SamplerError, suggest
from ups_data.mesh import Mesh
from ups_data.samplers import DrawKey, Sampler
from ups_data.schema import AxisSpec, Manifest
from ups_data.storage import Store


@dataclass(frozen=True, kw_only=True)
class ShowRequest:
    """What to show.

    Attributes:
        trajectory: number in the store.
        frame: of the trajectory; the middle one if None.
        field: a field (its length where it is a vector) or a channel; the first field if None.
        sampler: name of a sampler.
        ratio: drawn points / points of the trajectory.
        seed: of the draw.
    """

    trajectory: int = 0
    frame: int | None = None
    field: str | None = None
    sampler: str = "importance"
    ratio: float = 0.05
    seed: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """One frame of a trajectory, its importance, and one draw from it.

    Attributes:
        store: name of the store.
        trajectory, frame, time: where the field comes from.
        time_unit, unit: None where the store does not tell.
        field: what is shown: `pressure`, `velocity.x`, `|velocity|`.
        axes: of the domain, in stored order.
        nodes: node coordinates of each axis of a grid; None for scattered points.
        coordinates: of scattered points (N, D); None for grids.
        mesh: the cells between them, where the store has any.
        values, importance: on the nodes of a grid, or (N,).
        sampler: name of the sampler.
        points: ids of the drawn points.
        places: their coordinates (Q, D).
        stands_for: weight of each of them times N: how many points it stands for.
        num_drawn: points that draws may take, N.
    """

    store: str
    trajectory: int
    frame: int
    time: float
    time_unit: str | None
    field: str
    unit: str | None
    axes: tuple[AxisSpec, ...]
    nodes: tuple[Float64[np.ndarray, " _"], ...] | None
    coordinates: Float64[np.ndarray, "point dim"] | None
    mesh: Mesh | None
    values: Float[np.ndarray, "*space"]
    importance: Float[np.ndarray, "*space"]
    sampler: str
    points: Int64[np.ndarray, " query"]
    places: Float64[np.ndarray, "query dim"]
    stands_for: Float64[np.ndarray, " query"]
    num_drawn: int

    @property
    def effective_points(self) -> float:
        """(sum w)^2 / sum w^2 of the draw."""
        return float(self.stands_for.sum() ** 2 / np.square(self.stands_for).sum())

    @property
    def weight_sum(self) -> float:
        """Sum of the weights; 1 on average over draws."""
        return float(self.stands_for.sum() / self.num_drawn)


def read_subject(store: Store, request: ShowRequest) -> Subject:
    """Read what a picture shows, and draw.

    Raises:
        DatasetError: no such trajectory, frame or field.
        SamplerError: no such sampler, or one that cannot draw what was asked of it.
    """
    trajectory = _check_number(store, "trajectory", request.trajectory, len(store))
    num_frames = store.num_frames(trajectory)
    frame = num_frames // 2 if request.frame is None else request.frame
    _check_number(store, "frame", frame, num_frames, f" of trajectory {trajectory}")
    name, unit, channels = _choose_channels(store.manifest, request.field, store.location)
    frames = store.read_frames(trajectory, [frame], channels)[0]
    shape, on_grid = store.shape(trajectory), store.manifest.geometry.kind == "grid"
    block = store.block_of(trajectory, [frame])
    source = TrajectoryDraws(store, trajectory, block=block, seed=request.seed)
    sampler = _make_sampler(request)
    nodes = store.axes(trajectory) if on_grid else None
    coordinates = None if on_grid else store.coordinates(trajectory)
    drawn = source.points_of(
        sampler, sampler.draw(source.layout, DrawKey(seed=request.seed, epoch=0, sample=trajectory))
    )
    return Subject(
        store=store.manifest.name,
        trajectory=trajectory,
        frame=frame,
        time=float(store.times(trajectory)[frame]),
        time_unit=store.manifest.time_unit,
        field=name,
        unit=unit,
        axes=store.manifest.geometry.axes,
        nodes=nodes,
        coordinates=coordinates,
        mesh=None if on_grid else store.mesh(trajectory),
        values=(frames[0] if len(channels) == 1 else np.sqrt(np.square(frames.astype(np.float64)).sum(axis=0))).reshape(
            shape
        ),
        importance=store.importance(trajectory, block).reshape(shape),
        sampler=request.sampler,
        points=drawn.points,
        places=_find_places(nodes, coordinates, drawn.points),
        stands_for=drawn.weights * source.layout.num_points,
        num_drawn=source.layout.num_points,
    )


def _find_places(
    nodes: tuple[Float64[np.ndarray, " _"], ...] | None,
    coordinates: Float64[np.ndarray, "point dim"] | None,
    points: Int64[np.ndarray, " query"],
) -> Float64[np.ndarray, "query dim"]:
    """Return the coordinates of some points; those of a grid without making all of them."""
    if nodes is not None:
        return coordinates_of(nodes, points)
    assert coordinates is not None
    return coordinates[points]


def _check_number(store: Store, what: str, number: int, count: int, of: str = "") -> int:
    if not 0 <= number < count:
        raise DatasetError(
            f"{store.location} has no {what} {number}{of}: it holds {count}, counted from 0 to {count - 1}"
        )
    return number


def _choose_channels(manifest: Manifest, wanted: str | None, where: str) -> tuple[str, str | None, tuple[int, ...]]:
    """Return the name, the unit and the channels of a field or channel."""
    names = manifest.channel_names
    fields = {field.name: field for field in manifest.fields}
    units = {channel: field.unit for field in manifest.fields for channel in field.channel_names}
    wanted = manifest.fields[0].name if wanted is None else wanted
    if wanted in units:
        return wanted, units[wanted], (names.index(wanted),)
    if wanted not in fields:
        raise DatasetError(f"{where} has no field or channel {wanted!r}. {suggest(wanted, {*fields, *names})}")
    channels = manifest.channels_of((wanted,))
    label = f"|{wanted}|" if len(channels) > 1 else names[channels[0]]
    return label, fields[wanted].unit, channels


def _make_sampler(request: ShowRequest) -> Sampler:
    if request.sampler not in SAMPLERS:
        raise SamplerError(f"there is no sampler {request.sampler!r}. {suggest(request.sampler, SAMPLERS)}")
    return SAMPLERS[request.sampler](request.ratio)
