"""Several datasets trained on together, each with its own store, fields and window."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Literal, get_args

from ups_data.dataset import QueryDataset
from ups_data.errors import DatasetError, suggest
from ups_data.order.interleave import whole_weights

Batches = Literal["homogeneous", "padded"]


class MixtureDataset:
    """Datasets that take turns: every global batch comes from one of them, and says from which.

    With `batches="padded"` a batch mixes samples of all of them instead, and `batch.origin.sources` says which is
    whose. They must have their fields, windows and normalisation in common, and may differ in size: smaller grids and
    clouds are padded, as `batch.input_mask` tells, and shares are exact in samples.

    Shares are exact, not drawn: see `ups_data.order.Interleave`. Each dataset is gone through pass after pass, every
    sample once a pass, with draws keyed by its own seed and the number of its own pass. Without weights an epoch is
    every sample of every dataset exactly once. With weights it is the fewest batches in which each dataset is gone
    through at least once, so that those with more than their size's share come by several times; `epoch_batches` sets
    another length. Streams carry on across epochs: what one epoch has not come to, the next one begins with.

    Args:
        datasets: by name; the name is what `batch.origin.dataset` holds.
        weights: share of each dataset in the batches, by name, in any unit; in proportion to their numbers of batches
            if None.
        epoch_batches: batches of an epoch, if it is to be another number.
        batches: `homogeneous`, each of one dataset, or `padded`.

    Raises:
        DatasetError: no dataset; weights that name others, are not positive or not finite; the same dataset twice; with
            `padded`, datasets whose samples make no batch, with what differs.
    """

    def __init__(
        self,
        datasets: Mapping[str, QueryDataset],
        *,
        weights: Mapping[str, float] | None = None,
        epoch_batches: int | None = None,
        batches: str = "homogeneous",
    ) -> None:
        if not datasets:
            raise DatasetError("a mixture needs at least one dataset")
        if epoch_batches is not None and epoch_batches < 1:
            raise DatasetError(f"an epoch has at least one batch, got epoch_batches={epoch_batches}")
        self.datasets = dict(datasets)
        self.weights = None if weights is None else self._check_weights(weights)
        self.epoch_batches = epoch_batches
        self.batches = batches
        self._refuse_repeats()
        if batches not in get_args(Batches):
            raise DatasetError(f"there is no way to make batches {batches!r}. {suggest(batches, get_args(Batches))}")
        if batches == "padded":
            self._refuse_unlike()

    def __len__(self) -> int:
        return sum(len(dataset) for dataset in self.datasets.values())

    def whole_weights(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Return the shares as whole numbers, in the order of the datasets.

        Args:
            sizes: of one pass over each dataset, which are the shares where none were given.
        """
        weights = sizes if self.weights is None else self.weights
        return whole_weights([weights[name] for name in self.datasets])

    @property
    def fingerprint(self) -> dict[str, str]:
        """What a saved state is held against: a hash of each dataset's own fingerprint."""
        return {name: _digest(dataset) for name, dataset in self.datasets.items()}

    def _check_weights(self, weights: Mapping[str, float]) -> dict[str, float]:
        for name in weights:
            if name not in self.datasets:
                raise DatasetError(f"weights name {name!r}, which is no dataset. {suggest(name, self.datasets)}")
        for name in self.datasets:
            weight = weights.get(name)
            if weight is None or not (math.isfinite(weight) and weight > 0):
                raise DatasetError(
                    f"the weight of dataset {name!r} is {weight}; give a positive number, or leave the dataset out of "
                    f"the mixture"
                )
        return dict(weights)

    def _refuse_repeats(self) -> None:
        names: dict[str, str] = {}
        for name, digest in self.fingerprint.items():
            if digest in names:
                raise DatasetError(
                    f"datasets {names[digest]!r} and {name!r} are the same: their draws would be equal; take one of "
                    f"them with a larger weight, or give them different seeds"
                )
            names[digest] = name

    def _refuse_unlike(self) -> None:
        first, *others = self.datasets
        expected = _common(self.datasets[first])
        for name in others:
            for what, value in _common(self.datasets[name]).items():
                if value != expected[what]:
                    raise DatasetError(
                        f"datasets {first!r} and {name!r} differ in {what}: {expected[what]} and {value}, so their "
                        f"samples make no padded batch; give them the same, or use batches='homogeneous'"
                    )


def members_of(dataset: QueryDataset | MixtureDataset) -> dict[str | None, QueryDataset]:
    """Return the datasets of a mixture by name, or the one that there is, under None."""
    members: dict[str | None, QueryDataset] = {}
    if isinstance(dataset, QueryDataset):
        members[None] = dataset
    else:
        members.update(dataset.datasets)
    return members


def _common(dataset: QueryDataset) -> dict[str, object]:
    """Return what samples must share to stand in one batch."""
    normalisers, window = dataset.normalisers, dataset.window
    maps = [(side.mean.tolist(), side.scale.tolist()) for side in (normalisers.input, normalisers.target)]
    return {
        "geometry": (dataset.geometry, len(dataset.store.manifest.geometry.axes)),
        "input fields": [field.model_dump() for field in dataset.input_fields],
        "target fields": [field.model_dump() for field in dataset.target_fields],
        "frames (window)": (window.inputs, window.targets),
        "drawn frames (window)": window.drawn_targets,
        "points of target frames (window)": window.points,
        "parameters": [parameter.name for parameter in dataset.parameters],
        "dtype": dataset.dtype,
        "estimand": dataset.estimand,
        "normalisation (statistics=)": maps,
    }


def _digest(dataset: QueryDataset) -> str:
    return hashlib.sha256(json.dumps(dataset.fingerprint, sort_keys=True).encode()).hexdigest()
