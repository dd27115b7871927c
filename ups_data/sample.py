"""One training sample, as a dataset gives it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int

from ups_data.statistics import Normaliser


@dataclass(frozen=True, kw_only=True, eq=False)
class Normalisers:
    """The maps that took physical values to those of a batch, for its inputs and its targets."""

    input: Normaliser
    target: Normaliser


@dataclass(frozen=True, kw_only=True, eq=False)
class QueryPoints:
    """The drawn points of one target frame, of a sample or of each sample of a batch.

    Attributes:
        coords: physical.
        weights: 0 on padding.
        index: point ids, -1 on padding.
    """

    coords: Float[torch.Tensor, "*batch query dim"]
    weights: Float[torch.Tensor, "*batch query"]
    index: Int[torch.Tensor, "*batch query"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseSample:
    """One training sample: the encoder's whole input, and the drawn points.

    Where each target frame has points of its own (`Window.points`), coordinates, weights and ids of queries, and
    `stratum_queries`, begin with T_out, and Q is that of the frame with most points; the others are padded.

    Attributes:
        sample_id: number of the sample in its dataset.
        trajectory: number of the trajectory in the store.
        input_frames, target_frames: frame numbers in the trajectory.
        inputs: (T_in, C, *space) on grids, (T_in, C, N) for points.
        input_axes: node coordinates of each axis on grids, () for points.
        input_coords: (N, D) for points, None on grids.
        query_coords: (Q, D), physical.
        query_targets: (T_out, Q, C).
        input_valid: like `inputs`, False where a value is missing and `inputs` holds 0; None where none ever is.
        target_valid: like `query_targets`, as above.
        stratum_queries: (S,), drawn points of each stratum, which the queries come in the order of; 0 for all of a
            trajectory with fewer strata than the store. None unless the sampler learns from losses.
        query_weights: (Q,), 0 on padding; the sum over q of weight * f estimates the mean of f over all points that
            have values, or its integral over the domain, see `QueryDataset`.
        query_index: (Q,), point ids, -1 on padding.
        parameters: (K,), physical.
        input_times, target_times: (T_in,), (T_out,), physical.
        normalisers: the maps that were applied to inputs and to targets.
        targets_drawn: whether target frames of the window are left out, see `Window`.
    """

    sample_id: int
    trajectory: int
    input_frames: tuple[int, ...]
    target_frames: tuple[int, ...]
    inputs: Float[torch.Tensor, "time_in channel *space"]
    input_axes: tuple[Float[torch.Tensor, " _"], ...]
    input_coords: Float[torch.Tensor, "point dim"] | None
    query_coords: Float[torch.Tensor, "*frame query dim"]
    query_targets: Float[torch.Tensor, "time_out query channel_out"]
    query_weights: Float[torch.Tensor, "*frame query"]
    query_index: Int[torch.Tensor, "*frame query"]
    parameters: Float[torch.Tensor, " parameter"]
    input_times: Float[torch.Tensor, " time_in"]
    target_times: Float[torch.Tensor, " time_out"]
    normalisers: Normalisers
    input_valid: Bool[torch.Tensor, "time_in channel *space"] | None = None
    target_valid: Bool[torch.Tensor, "time_out query channel_out"] | None = None
    stratum_queries: Int[torch.Tensor, "*frame stratum"] | None = None
    targets_drawn: bool = False

    @property
    def query_mask(self) -> Bool[torch.Tensor, "*frame query"]:
        """True on drawn points, False on padding."""
        return self.query_index >= 0

    @property
    def has_fresh_points(self) -> bool:
        """Whether each target frame has points of its own."""
        return self.query_index.ndim > 1

    def points_at(self, frame: int) -> QueryPoints:
        """Return the points of the sample's target frame of a number, from 0."""
        parts = (self.query_coords, self.query_weights, self.query_index)
        coords, weights, index = (part[frame] for part in parts) if self.has_fresh_points else parts
        return QueryPoints(coords=coords, weights=weights, index=index)
