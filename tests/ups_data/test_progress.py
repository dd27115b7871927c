"""The progress bar hands on every batch and tells what the figures of the loader say."""

import io

import pytest
import rich.console
import torch

import ups_data
from ups_data.loader_stats import LoaderStats
from ups_data.progress import describe_stats


def test_what_is_told_follows_from_the_figures() -> None:
    stats = LoaderStats(
        num_batches=4,
        effective_points=8200.0,
        read_bytes=30_000_000,
        decoded_bytes=50_000_000,
        shipped_bytes=20_000_000,
        wait_seconds=3.0,
    )
    told = "3.0 MB/s read, 5.0 MB/s decoded, 2.0 MB/s shipped, 30% waiting, 2,050 effective points a batch"
    assert describe_stats(stats, seconds=10.0) == told
    copying = LoaderStats(num_batches=1, transfer_seconds=0.5)
    assert describe_stats(copying, seconds=2.0).endswith("0% waiting, 25% copying, 0 effective points a batch")
    assert describe_stats(LoaderStats(), seconds=0.0).startswith("0.0 MB/s read")


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("on_terminal", [False, True])
def test_every_batch_is_handed_on(on_terminal: bool, on_device: bool, grid_store: ups_data.Store) -> None:
    dataset = ups_data.QueryDataset(grid_store, sampler=ups_data.BalancedSampler(0.25))
    expected = [batch.buffer for batch in ups_data.build_loader(dataset, batch_size=3)]
    loader = ups_data.build_loader(dataset, batch_size=3)
    text = io.StringIO()
    console = rich.console.Console(file=text, force_terminal=on_terminal, width=200)
    tracked = ups_data.DeviceLoader(loader, "cpu") if on_device else loader
    found = [batch.buffer for batch in ups_data.track(tracked, description="epoch 0", console=console)]
    assert len(found) == len(expected)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    if on_terminal:
        assert "epoch 0" in text.getvalue()
        assert f"{len(expected)}/{len(expected)}" in text.getvalue()
        assert "effective points a batch" in text.getvalue()
    else:
        assert not text.getvalue().strip()


def test_a_resumed_epoch_is_as_long_as_what_is_left(grid_store: ups_data.Store) -> None:
    dataset = ups_data.QueryDataset(grid_store, sampler=ups_data.BalancedSampler(0.25))
    loader = ups_data.build_loader(dataset, batch_size=3)
    loader.load_state_dict({**loader.state_dict(), "batch": 2})
    left, text = len(loader) - 2, io.StringIO()
    console = rich.console.Console(file=text, force_terminal=True, width=200)
    assert len(list(ups_data.track(loader, console=console))) == left
    assert f"{left}/{left}" in text.getvalue()
