"""Encoder, latent operator and decoder as one model that takes a batch."""

from __future__ import annotations

from typing import Annotated

import pydantic
import torch
from jaxtyping import Bool, Float

from ups_data.collate import SparseBatch
from ups_data.errors import ConfigError, DatasetError
from ups_data.models.decoder import AnyPointDecoder, DecoderConfig
from ups_data.models.grid_encoder import GridEncoder, GridEncoderConfig
from ups_data.models.latent_operator import LatentOperator, LatentOperatorConfig
from ups_data.models.lattice import Lattice, interpolate
from ups_data.models.point_encoder import PointEncoder, PointEncoderConfig
from ups_data.models.problem import ProblemSpec
from ups_data.schema import Record


class OperatorConfig(Record):
    """Size and kind of the reference operator.

    Attributes:
        width: width of a token, E.
        grid_encoder: settings where the geometry is a grid.
        point_encoder: settings where it is a cloud or a mesh.
        latent_operator: settings of the step in time.
        decoder: settings of the any-point decoder.
        residual: predict the change from the last input frame, interpolated to the query points; for grids whose target
            fields are input fields too. The tokens then carry only what changes.
    """

    width: Annotated[int, pydantic.Field(ge=4)] = 64
    grid_encoder: GridEncoderConfig = GridEncoderConfig()
    point_encoder: PointEncoderConfig = PointEncoderConfig()
    latent_operator: LatentOperatorConfig = LatentOperatorConfig()
    decoder: DecoderConfig = DecoderConfig()
    residual: bool = False


class NeuralOperator(torch.nn.Module):
    """Full encoder, latent operator, any-point decoder: a batch in, (B, T_out, Q, C) out, normalised as the batch is.

    Args:
        config: settings.
        problem: geometry, fields, times and parameters of the data.

    Raises:
        ConfigError: settings that do not fit the problem.
    """

    parameter_mean: torch.Tensor
    parameter_scale: torch.Tensor

    def __init__(self, config: OperatorConfig, problem: ProblemSpec) -> None:
        super().__init__()
        self.config, self.problem = config, problem
        width, periodic = config.width, problem.periodic
        heads = config.latent_operator.heads
        if width % heads:
            raise ConfigError(f"model.width={width} is no multiple of model.latent_operator.heads={heads}")
        self.encoder: GridEncoder | PointEncoder
        if problem.geometry == "grid":
            self.encoder = GridEncoder(config.grid_encoder, problem, width=width)
        else:
            self.encoder = PointEncoder(config.point_encoder, problem, width=width)
        self.latent_operator = LatentOperator(
            config.latent_operator, width=width, num_parameters=len(problem.parameter_mean), periodic=periodic
        )
        channels = {field.name: field.channels for field in problem.target_fields}
        self.decoder = AnyPointDecoder(config.decoder, channels, periodic=periodic, width=width)
        if config.residual and problem.geometry != "grid":
            raise ConfigError(f"model.residual needs a grid, the data are {problem.geometry}; set it to false")
        if config.residual:
            problem.target_channels_in_input()
        self.register_buffer("parameter_mean", torch.tensor(problem.parameter_mean), persistent=False)
        self.register_buffer("parameter_scale", torch.tensor(problem.parameter_scale), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the weights lie; batches must be brought there."""
        return next(self.parameters()).device

    def encode(self, batch: SparseBatch) -> Lattice:
        """Encode the whole input of a batch to tokens (B, L, E).

        Raises:
            DatasetError: the batch holds a grid and the model was made for points, or the reverse.
        """
        if isinstance(self.encoder, GridEncoder):
            if batch.input_axes is None:
                raise DatasetError("this model encodes grids, the batch holds points")
            if batch.input_mask is not None:
                raise DatasetError(
                    "this model encodes whole grids, those of the batch are padded; use batches of one shape"
                )
            return self.encoder(self.with_validity(batch.inputs, batch.input_valid), batch.input_axes)
        if batch.input_coords is None:
            raise DatasetError("this model encodes points, the batch holds a grid")
        return self.encoder(self.with_validity(batch.inputs, batch.input_valid), batch.input_coords, batch.input_mask)

    def with_validity(
        self,
        inputs: Float[torch.Tensor, "batch time_in channel *space"],
        valid: Bool[torch.Tensor, "batch time_in channel *space"] | None,
    ) -> Float[torch.Tensor, "batch time_in encoded *space"]:
        """Return the input, and after its channels where those that may lack values have them.

        Raises:
            DatasetError: the model was made for inputs that lack values, and `valid` is None.
        """
        if not self.problem.missing_inputs:
            return inputs
        if valid is None:
            raise DatasetError("this model was made for inputs that lack values, the batch does not tell which")
        return torch.cat([inputs, valid[:, :, list(self.problem.missing_inputs)].to(inputs.dtype)], dim=2)

    def advance(self, latent: Lattice, batch: SparseBatch, frame: int) -> Lattice:
        """Take the tokens to target frame `frame`, from the frame before it (or from the last input)."""
        before = batch.input_times[:, -1] if frame == 0 else batch.target_times[:, frame - 1]
        return self.step(latent, start=before, stop=batch.target_times[:, frame], parameters=batch.parameters)

    def step(
        self,
        latent: Lattice,
        *,
        start: Float[torch.Tensor, " batch"],
        stop: Float[torch.Tensor, " batch"],
        parameters: Float[torch.Tensor, "batch parameter"],
    ) -> Lattice:
        """Take the tokens from one time to another; times and parameters are physical."""
        return self.latent_operator(
            latent,
            time=start / self.problem.time_span,
            step=(stop - start) / self.problem.time_step,
            parameters=(parameters - self.parameter_mean) / self.parameter_scale,
        )

    def rollout(self, batch: SparseBatch, *, start: Lattice | None = None, frames: int | None = None) -> list[Lattice]:
        """Return the tokens at the target times.

        Args:
            batch: whose input is encoded.
            start: the tokens of its input, where they are known already.
            frames: how many of the target frames, the first ones; all if None.
        """
        latents, latent = [], self.encode(batch) if start is None else start
        for frame in range(batch.target_times.shape[1] if frames is None else frames):
            latent = self.advance(latent, batch, frame)
            latents.append(latent)
        return latents

    def decode(
        self, latent: Lattice, points: Float[torch.Tensor, "batch query dim"]
    ) -> Float[torch.Tensor, "batch query channel"]:
        """Decode all target channels at physical points, which need not be nodes."""
        fields = self.decoder(self.problem.unit_coordinates(points), latent)
        return torch.cat([fields[field.name] for field in self.problem.target_fields], dim=-1)

    def forward(self, batch: SparseBatch) -> Float[torch.Tensor, "batch time query channel"]:
        """Predict the target frames of a batch at its query points."""
        return self.answer(self.rollout(batch), batch, batch.query_coords)

    @torch.no_grad()
    def predict(
        self, batch: SparseBatch, *, query_chunk: int = 65536
    ) -> Float[torch.Tensor, "batch time query channel"]:
        """Predict as `forward` does, `query_chunk` points of all samples together at a time: memory is bounded."""
        latents = self.rollout(batch)
        size = max(query_chunk // len(batch), 1)
        parts = [self.answer(latents, batch, points) for points in batch.query_coords.split(size, dim=-2)]
        return torch.cat(parts, dim=2)

    def last_input(
        self, batch: SparseBatch, points: Float[torch.Tensor, "batch query dim"]
    ) -> Float[torch.Tensor, "batch query channel"]:
        """Return the target channels of the last input frame at physical points: linear between nodes, exact on them.

        Raises:
            ConfigError: a target field that is no input field.
            DatasetError: the batch holds points.
        """
        return interpolate(self.last_frame(batch), self.problem.unit_coordinates(points))

    def last_frame(self, batch: SparseBatch) -> Lattice:
        """Return the target channels of the last input frame, on the nodes of the grid.

        Raises:
            ConfigError: a target field that is no input field.
            DatasetError: the batch holds points.
        """
        if batch.input_axes is None:
            raise DatasetError("fields between points of a cloud are not known; this needs a grid")
        values = batch.inputs[:, -1, list(self.problem.target_channels_in_input())].flatten(2).transpose(1, 2)
        axes = tuple(self.problem.unit_axis(number, axis) for number, axis in enumerate(batch.input_axes))
        return Lattice(values=values.contiguous(), axes=axes, periodic=self.problem.periodic)

    def answer(
        self, latents: list[Lattice], batch: SparseBatch, points: Float[torch.Tensor, "batch *frame query dim"]
    ) -> Float[torch.Tensor, "batch time query channel"]:
        """Return the target channels at physical points, at the times of the tokens.

        Args:
            latents: tokens of the first target frames.
            batch: whose input they come from.
            points: (B, Q, D), or (B, T_out, Q, D) where each target frame has its own.
        """
        fresh = points.ndim > 3
        where = [points[:, frame] if fresh else points for frame in range(len(latents))]
        answers = torch.stack([self.decode(latent, at) for latent, at in zip(latents, where, strict=True)], dim=1)
        if not self.config.residual:
            return answers
        # One look at the input for all frames.
        known = self.last_input(batch, torch.cat(where, dim=1) if fresh else points)
        return answers + (known.unflatten(1, (len(where), -1)) if fresh else known[:, None])
