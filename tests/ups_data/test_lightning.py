"""Through a real Trainer: the place in the stream goes into checkpoints, and training goes on from any of them."""

from pathlib import Path

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

import ups_data
from ups_data.lightning import QueryDataModule

# Of Lightning itself: few workers, no logger, its own use of torch's trees, folders that hold a checkpoint already.
pytestmark = pytest.mark.filterwarnings("ignore")

STEPS = 5


class Model(lightning.LightningModule):
    """A line through the values, which notes what it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.line = torch.nn.Linear(2, 3)
        self.trained: list[tuple[int, list[int], int]] = []
        self.validated: list[int] = []

    def training_step(self, batch: ups_data.SparseBatch, number: int) -> torch.Tensor:
        assert batch.origin is not None
        self.trained.append((batch.origin.step, batch.sample_ids.tolist(), int(batch.query_index.sum())))
        errors = self.line(batch.query_coords)[:, None] - batch.query_targets
        return (batch.query_weights[:, None, :, None] * errors**2).sum()

    def validation_step(self, batch: ups_data.SparseBatch, number: int) -> None:
        self.validated += batch.sample_ids.tolist()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-3)


def fit(store: ups_data.Store, folder: Path, checkpoint: Path | None = None, **options: object) -> Model:
    sampler = ups_data.ImportanceSampler(ratio=0.25)
    data = QueryDataModule(
        ups_data.QueryDataset(store, sampler=sampler, seed=3),
        batch_size=6,
        validation=ups_data.QueryDataset(store, sampler=sampler, split="test"),
        **options,
    )
    saving = ModelCheckpoint(dirpath=folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        callbacks=[saving],
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    model = Model()
    trainer.fit(model, datamodule=data, ckpt_path=checkpoint)
    return model


def test_training_goes_on_from_every_step(grid_store: ups_data.Store, tmp_path: Path) -> None:
    """Three batches an epoch, so steps 1, 2 and 4 lie in the middle of one; also with workers that were not there."""
    whole = fit(grid_store, tmp_path)
    assert [step for step, _, _ in whole.trained] == list(range(STEPS))
    assert sorted(i for _, ids, _ in whole.trained[:3] for i in ids) == list(range(16))
    assert whole.validated == list(range(6))
    for step in range(1, STEPS):
        rest = fit(grid_store, tmp_path / "rest", tmp_path / f"step={step}.ckpt", num_workers=step % 2)
        assert rest.trained == whole.trained[step:]
        assert torch.equal(rest.line.weight, whole.line.weight)


def test_without_a_validation_dataset_there_is_no_loader(grid_store: ups_data.Store) -> None:
    dataset = ups_data.QueryDataset(grid_store, sampler=ups_data.DenseSampler())
    data = QueryDataModule(dataset, batch_size=2)
    assert data.val_dataloader() == []
    assert len(data.train_dataloader()) == 8


def test_without_lightning_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, grid_store: ups_data.Store) -> None:
    monkeypatch.setattr("ups_data.lightning._MISSING", ImportError("no module named lightning"))
    dataset = ups_data.QueryDataset(grid_store, sampler=ups_data.DenseSampler())
    with pytest.raises(ups_data.UpsDataError, match=r'pip install "ups-data\[lightning\]"'):
        QueryDataModule(dataset, batch_size=2)
