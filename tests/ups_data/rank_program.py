"""What torchrun starts for test_ranks.py: serve a store, note every batch, train a line on it, maybe be killed."""

import argparse
import hashlib
import json
import os
import signal
from pathlib import Path

import torch

import ups_data

EPOCHS = 2


def build(store: str, num_workers: int) -> ups_data.QueryLoader:
    schedule = ups_data.Linear(start=0.5, end=0.2, steps=6)
    dataset = ups_data.QueryDataset(
        ups_data.open_store(store), sampler=ups_data.ImportanceSampler(ratio=schedule), seed=3
    )
    return ups_data.build_loader(dataset, batch_size=5, num_workers=num_workers)


def rows_of(batch: ups_data.SparseBatch) -> list[tuple[int, str]]:
    """Return id and hash of all tensors of each sample, those left out that only fill the batch."""
    rows = []
    for row, sample in enumerate(batch.sample_ids.tolist()):
        if sample >= 0:
            parts = (getattr(batch, section.name)[row].contiguous().numpy().tobytes() for section in batch.sections)
            rows.append((sample, hashlib.sha256(b"".join(parts)).hexdigest()))
    return rows


def train_step(model: torch.nn.Module, batch: ups_data.SparseBatch, world_size: int) -> list[float]:
    """Return the gradient of the mean over the global batch, which DDP averages over ranks."""
    assert batch.origin is not None
    errors = model(batch.query_coords)[:, None] - batch.query_targets
    by_sample = (batch.query_weights[:, None, :, None] * errors**2).sum(dim=(1, 2, 3))
    model.zero_grad()
    (by_sample.sum() * world_size / batch.origin.global_samples).backward()
    return [float(value) for parameter in model.parameters() for value in parameter.grad.flatten()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store")
    parser.add_argument("output", type=Path)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--kill-at", type=int, default=-1)
    chosen = parser.parse_args()
    torch.distributed.init_process_group("gloo")
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    torch.manual_seed(0)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 3))
    loader = build(chosen.store, chosen.workers)
    if chosen.state is not None:
        loader.load_state_dict(json.loads(chosen.state.read_text()))
    with (chosen.output / f"rank{rank}.jsonl").open("w") as log:
        while loader.epoch < EPOCHS:
            for batch in loader:
                assert batch.origin is not None
                if rank == 1 and batch.origin.step == chosen.kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                gradient = train_step(model, batch, world_size)  # waits for all ranks
                log.write(json.dumps({"step": batch.origin.step, "rows": rows_of(batch), "gradient": gradient}) + "\n")
                log.flush()
                torch.distributed.barrier()
                if rank == 0:
                    staged = chosen.output / "state.partial"
                    staged.write_text(json.dumps(loader.state_dict()))
                    staged.replace(chosen.output / "state.json")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
