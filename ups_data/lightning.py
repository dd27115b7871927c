"""The loaders as a `LightningDataModule`, whose place in the stream is saved with Lightning's checkpoints."""

from __future__ import annotations

from typing import Any

from ups_data.dataset import QueryDataset
from ups_data.errors import ConfigError
from ups_data.loader import QueryLoader, build_loader
from ups_data.mixture import MixtureDataset

try:
    from lightning import LightningDataModule
except ImportError as error:
    _MISSING: ImportError | None = error
    LightningDataModule = object  # type: ignore[assignment, misc]  # the class below then refuses to be made
else:
    _MISSING = None


class QueryDataModule(LightningDataModule):
    """Serves datasets to a `lightning.Trainer`.

    Rank and world size are those of the trainer. The state of the train loader goes into every checkpoint, and
    `trainer.fit(..., ckpt_path=...)` goes on with the next batch, in mid-epoch too, on any number of workers and ranks.
    Batches are moved by Lightning, in one copy.

    Args:
        train: dataset to train on.
        batch_size: samples of a global batch.
        validation: dataset to validate on, served in its stored order; none if None.
        validation_batch_size: samples of a global batch of it; `batch_size` if None.
        **options: of `build_loader`, for both.

    Raises:
        ConfigError: Lightning is not installed.
    """

    def __init__(
        self,
        train: QueryDataset | MixtureDataset,
        *,
        batch_size: int,
        validation: QueryDataset | MixtureDataset | None = None,
        validation_batch_size: int | None = None,
        **options: Any,
    ) -> None:
        if _MISSING is not None:
            raise ConfigError('a data module needs Lightning: pip install "ups-data[lightning]"') from _MISSING
        super().__init__()
        self.train, self.validation = train, validation
        self.batch_size, self.validation_batch_size = batch_size, validation_batch_size or batch_size
        self.options = options

    def train_dataloader(self) -> QueryLoader:
        """Return the loader to train from; it shuffles unless told otherwise."""
        return build_loader(self.train, batch_size=self.batch_size, **self.options)

    def val_dataloader(self) -> QueryLoader | list[Any]:
        """Return the loader to validate with, none where there is no such dataset."""
        if self.validation is None:
            return []
        options = {**self.options, "shuffle": False}
        return build_loader(self.validation, batch_size=self.validation_batch_size, **options)
