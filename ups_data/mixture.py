"""Several datasets trained on together, each with its own store, fields and window."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping

from ups_data.dataset import QueryDataset
from ups_data.errors import DatasetError, suggest
from ups_data.order.interleave import whole_weights


class MixtureDataset:
    """Datasets that take turns: every global batch comes from one of them, and says from which.

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

    Raises:
        DatasetError: no dataset; weights that name others, are not positive or not finite; the same dataset twice.
    """

    def __init__(
        self,
        datasets: Mapping[str, QueryDataset],
        *,
        weights: Mapping[str, float] | None = None,
        epoch_batches: int | None = None,
    ) -> None:
        if not datasets:
            raise DatasetError("a mixture needs at least one dataset")
        if epoch_batches is not None and epoch_batches < 1:
            raise DatasetError(f"an epoch has at least one batch, got epoch_batches={epoch_batches}")
        self.datasets = dict(datasets)
        self.weights = None if weights is None else self._check_weights(weights)
        self.epoch_batches = epoch_batches
        self._refuse_repeats()

    def __len__(self) -> int:
        return sum(len(dataset) for dataset in self.datasets.values())

    def whole_weights(self, num_batches: Mapping[str, int]) -> tuple[int, ...]:
        """Return the shares as whole numbers, in the order of the datasets.

        Args:
            num_batches: batches of one pass over each dataset, which are the shares where none were given.
        """
        weights = num_batches if self.weights is None else self.weights
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


def _digest(dataset: QueryDataset) -> str:
    return hashlib.sha256(json.dumps(dataset.fingerprint, sort_keys=True).encode()).hexdigest()
