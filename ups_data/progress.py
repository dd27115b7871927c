"""A progress bar over the batches of a loader, with what they take."""

from __future__ import annotations

import time
from collections.abc import Iterator

import rich.console
import rich.progress

from ups_data.collate import SparseBatch
from ups_data.loader_stats import LoaderStats
from ups_data.transfer import BatchLoader, DeviceLoader


def track(
    loader: BatchLoader | DeviceLoader, *, description: str = "batches", console: rich.console.Console | None = None
) -> Iterator[SparseBatch]:
    """Iterate over a loader behind a progress bar; where there is no terminal, without one.

        for batch in ups_data.track(loader):
            ...

    The bar shows the batches of the epoch, the time left, and what `describe_stats` says of the batches that it has
    seen.

    Args:
        loader: what `build_loader` made, or a `DeviceLoader` on it.
        description: what stands before the bar.
        console: where it is shown; the terminal of standard error by default.
    """
    console = rich.console.Console(stderr=True) if console is None else console
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
        rich.progress.TextColumn("{task.fields[told]}"),
    )
    before, began = loader.stats(), time.perf_counter()
    batches = iter(loader)
    left = len(loader) - loader.state_dict()["batch"]  # an epoch that was resumed is shorter
    with rich.progress.Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=left, told="")
        for batch in batches:
            told = describe_stats(loader.stats() - before, seconds=time.perf_counter() - began)
            bar.update(task, advance=1, told=told)
            yield batch


def describe_stats(stats: LoaderStats, *, seconds: float) -> str:
    """Return in one line what batches took that were handed out in so many seconds.

    Shares of the time that this process waited for batches and spent on bringing them to the device; bytes a second
    that were read from the store, decoded, and shipped; and what the points of a batch are worth.
    """
    seconds = max(seconds, 1e-9)
    rates = (("read", stats.read_bytes), ("decoded", stats.decoded_bytes), ("shipped", stats.shipped_bytes))
    told = [f"{count / seconds / 1e6:.1f} MB/s {what}" for what, count in rates]
    told.append(f"{stats.wait_seconds / seconds:.0%} waiting")
    if stats.transfer_seconds:
        told.append(f"{stats.transfer_seconds / seconds:.0%} copying")
    return ", ".join([*told, f"{stats.effective_points_per_batch:,.0f} effective points a batch"])
