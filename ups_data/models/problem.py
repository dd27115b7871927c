"""What a model must know of a data set before it sees a batch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import pydantic
import torch
from jaxtyping import Float

from ups_data.dataset import QueryDataset
from ups_data.errors import ConfigError, DatasetError
from ups_data.schema import GeometryKind, Record

CONSTANT = 1e-6  # a spread below this share of the mean is rounding, not variation


class FieldChannels(Record):
    """A field and how many channels it has."""

    name: str
    channels: Annotated[int, pydantic.Field(ge=1)]


class ProblemSpec(Record):
    """The fixed side of a learning problem: geometry, fields, times and parameters.

    Attributes:
        geometry: `grid`, `points` or `mesh`.
        axis_names: spatial axes, in stored order.
        lower, upper: extent of the domain, one entry an axis; on a periodic axis `upper - lower` is the period.
        periodic: one flag an axis.
        grid_axes: physical node coordinates of each axis of the training grid, None for points and meshes.
        num_input_frames: frames that the encoder sees.
        input_fields, target_fields: fields in channel order.
        missing_inputs: numbers of the input channels that may lack values; the encoder is told where.
        parameter_mean, parameter_scale: map of the parameters to order one; a constant parameter has scale 1.
        time_step: unit of steps in time: from the last input to the first target; 1 where they coincide (steady).
        time_span: unit of the model's clock: the last time of the first trajectory, 1 where that is 0.
    """

    geometry: GeometryKind
    axis_names: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    periodic: tuple[bool, ...]
    grid_axes: tuple[tuple[float, ...], ...] | None
    num_input_frames: Annotated[int, pydantic.Field(ge=1)]
    input_fields: tuple[FieldChannels, ...] = pydantic.Field(min_length=1)
    target_fields: tuple[FieldChannels, ...] = pydantic.Field(min_length=1)
    missing_inputs: tuple[int, ...] = ()
    parameter_mean: tuple[float, ...] = ()
    parameter_scale: tuple[float, ...] = ()
    time_step: Annotated[float, pydantic.Field(gt=0)] = 1.0
    time_span: Annotated[float, pydantic.Field(gt=0)] = 1.0

    @classmethod
    def of(cls, dataset: QueryDataset) -> Self:
        """Read the problem off a dataset and its store.

        Raises:
            ConfigError: grids that differ from trajectory to trajectory.
        """
        domain, window = dataset.domain, dataset.window
        times = dataset.store.times(dataset.locate(0)[0])
        step = float(times[window.target_frames(0)[0]] - times[window.input_frames(0)[-1]])
        return cls(
            geometry=dataset.geometry,  # type: ignore[arg-type]  # the manifest's own literal
            axis_names=domain.names,
            lower=domain.lower,
            upper=domain.upper,
            periodic=domain.periodic,
            grid_axes=_grid_axes(dataset),
            num_input_frames=window.inputs,
            input_fields=_channels(dataset, "input"),
            target_fields=_channels(dataset, "target"),
            missing_inputs=dataset.missing_inputs,
            parameter_mean=tuple(parameter.mean for parameter in dataset.parameters),
            parameter_scale=tuple(
                parameter.std if parameter.std > CONSTANT * abs(parameter.mean) else 1.0
                for parameter in dataset.parameters
            ),
            time_step=abs(step) or 1.0,
            time_span=float(abs(times[-1])) or 1.0,
        )

    def check_data(self, dataset: QueryDataset) -> None:
        """Refuse data of another kind than those that a model was made for; resolution and times may differ.

        Raises:
            DatasetError: another geometry or dimension, other axes that are periodic, fields or parameters; names it,
                and the store.
        """
        for (what, own), (_, other) in zip(traits_of(self), traits_of(dataset), strict=True):
            if own != other:
                raise DatasetError(
                    f"the model was made for data {what} {own}, {dataset.store.location} is {what} {other}; choose a "
                    f"store of the kind that it was trained on"
                )

    @property
    def grid_shape(self) -> tuple[int, ...] | None:
        """Nodes per axis of the training grid, None for points and meshes."""
        return None if self.grid_axes is None else tuple(len(axis) for axis in self.grid_axes)

    @property
    def dims(self) -> int:
        """Number of spatial dimensions."""
        return len(self.axis_names)

    @property
    def num_inputs(self) -> int:
        """Channels of one input frame."""
        return sum(field.channels for field in self.input_fields)

    @property
    def num_encoded(self) -> int:
        """Channels that an encoder sees of one frame: those of the input, and where some of them are valid."""
        return self.num_inputs + len(self.missing_inputs)

    @property
    def num_targets(self) -> int:
        """Channels of one target frame."""
        return sum(field.channels for field in self.target_fields)

    def target_channels_in_input(self) -> tuple[int, ...]:
        """Return, for each target channel, its number among the input channels.

        Raises:
            ConfigError: a target field that is no input field.
        """
        starts, start = {}, 0
        for field in self.input_fields:
            starts[field.name] = start
            start += field.channels
        missing = [field.name for field in self.target_fields if field.name not in starts]
        if missing:
            raise ConfigError(f"target field {missing[0]!r} is no input field, which are {', '.join(starts)}")
        return tuple(starts[field.name] + number for field in self.target_fields for number in range(field.channels))

    def unit_coordinates(self, points: Float[torch.Tensor, "*rest dim"]) -> Float[torch.Tensor, "*rest dim"]:
        """Map physical coordinates to [0, 1] per axis; a period is mapped to 1."""
        lower = torch.tensor(self.lower, dtype=points.dtype, device=points.device)
        upper = torch.tensor(self.upper, dtype=points.dtype, device=points.device)
        return (points - lower) / (upper - lower)

    def unit_axis(self, axis: int, nodes: Float[torch.Tensor, "*rest node"]) -> Float[torch.Tensor, "*rest node"]:
        """Map physical coordinates along one axis to [0, 1]."""
        return (nodes - self.lower[axis]) / (self.upper[axis] - self.lower[axis])


def traits_of(kind: ProblemSpec | QueryDataset) -> tuple[tuple[str, str], ...]:
    """Return in words what all data of one model have in common, each with its preposition, in the same order."""
    if isinstance(kind, ProblemSpec):
        axes, periodic = kind.axis_names, kind.periodic
        fields, num_parameters = (kind.input_fields, kind.target_fields), len(kind.parameter_mean)
    else:
        axes, periodic = kind.domain.names, kind.domain.periodic
        fields, num_parameters = (_channels(kind, "input"), _channels(kind, "target")), len(kind.parameters)
    return (
        ("on", "a grid" if kind.geometry == "grid" else "points"),  # of a mesh the model takes the points
        ("of", f"{len(axes)} dimensions"),
        ("with periodic axes", ", ".join(name for name, wraps in zip(axes, periodic, strict=True) if wraps) or "none"),
        ("with the input fields", _names(fields[0])),
        ("with the target fields", _names(fields[1])),
        ("with", f"{num_parameters} parameters"),
    )


def _names(fields: tuple[FieldChannels, ...]) -> str:
    return ", ".join(f"{field.name} ({field.channels})" for field in fields)


def _channels(dataset: QueryDataset, side: Literal["input", "target"]) -> tuple[FieldChannels, ...]:
    fields = dataset.input_fields if side == "input" else dataset.target_fields
    return tuple(FieldChannels(name=field.name, channels=len(field.components)) for field in fields)


def _grid_axes(dataset: QueryDataset) -> tuple[tuple[float, ...], ...] | None:
    if dataset.geometry != "grid":
        return None
    store = dataset.store
    if store.manifest.geometry.shape is None:
        raise ConfigError(
            f"{store.location} holds grids of several shapes; a model is trained on one: convert each to a store of "
            f"its own"
        )
    return tuple(tuple(axis.tolist()) for axis in store.axes(dataset.locate(0)[0]))
