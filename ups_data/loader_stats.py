"""What a loader has handed out, and what that took."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ups_data.collate import SparseBatch


@dataclass(frozen=True, kw_only=True)
class LoaderStats:
    """What a loader has handed out so far, and what that took; `later - earlier` is what lies between.

    Attributes:
        num_batches: batches.
        num_samples: samples, those that only fill a batch not counted.
        num_padding: samples that only fill a batch, which a tail or an uneven number of ranks leaves.
        num_points: drawn points; where each target frame has its own, those of all frames.
        effective_points: the sum over samples of (sum w)^2 / sum w^2, over all of those: how many points of one weight
            they are worth where the loss is the same everywhere.
        read_bytes: bytes read from the store.
        read_ranges: contiguous ranges that they came from.
        decoded_bytes: bytes of the rows that were decoded from them, and from what a cache had.
        shipped_bytes: bytes of the batches.
        read_seconds: time that the store took, added up over workers.
        build_seconds: time that building batches took, reading included, added up over workers.
        wait_seconds: time that this process waited for batches; with `num_workers=0` it builds them meanwhile.
        transfer_seconds: time that this process spent on bringing batches to the device; see `DeviceLoader`.
    """

    num_batches: int = 0
    num_samples: int = 0
    num_padding: int = 0
    num_points: int = 0
    effective_points: float = 0.0
    read_bytes: int = 0
    read_ranges: int = 0
    decoded_bytes: int = 0
    shipped_bytes: int = 0
    read_seconds: float = 0.0
    build_seconds: float = 0.0
    wait_seconds: float = 0.0
    transfer_seconds: float = 0.0

    @property
    def effective_points_per_batch(self) -> float:
        """How many points of one weight the points of a batch are worth, in the mean; 0 before the first batch."""
        return self.effective_points / max(1, self.num_batches)

    @classmethod
    def of(cls, batch: SparseBatch, *, wait_seconds: float) -> LoaderStats:
        """Return the figures of one batch."""
        assert batch.cost is not None, "loaders note what their batches cost"
        num_samples = int((batch.sample_ids >= 0).sum())
        return cls(
            num_batches=1,
            num_samples=num_samples,
            num_padding=len(batch) - num_samples,
            num_points=int(batch.query_mask.sum()),
            effective_points=float(batch.effective_points.sum()),
            shipped_bytes=batch.num_bytes,
            wait_seconds=wait_seconds,
            **asdict(batch.cost),
        )

    def __add__(self, other: LoaderStats) -> LoaderStats:
        return LoaderStats(**{key: value + getattr(other, key) for key, value in asdict(self).items()})

    def __sub__(self, other: LoaderStats) -> LoaderStats:
        return LoaderStats(**{key: value - getattr(other, key) for key, value in asdict(self).items()})
