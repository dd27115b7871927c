"""Whether the statistics of a store are those of its frames."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from preprocess.validate.findings import Findings
from ups_data.schema import ChannelStatistics, Manifest
from ups_data.storage.zarr_store import ZarrStore

_STATISTICS_TOLERANCE = 1e-9


def counted_trajectories(store: ZarrStore) -> Int64[np.ndarray, " trajectory"]:
    """Return the trajectories that the statistics must cover."""
    return store.splits["train"] if "train" in store.splits else np.arange(len(store))


def check_statistics(found: tuple[ChannelStatistics, ...], manifest: Manifest, findings: Findings) -> None:
    """Compare the statistics of the manifest with those that were found."""
    findings.count("statistics", len(found))
    findings.expect(
        "statistics",
        manifest.statistics_split == ("train" if "train" in manifest.splits else None),
        f"statistics_split is {manifest.statistics_split}, the splits are {', '.join(manifest.splits)}",
    )
    for ours, stated in zip(found, manifest.statistics, strict=True):
        for key, value in ours.model_dump(exclude={"channel"}).items():
            written = getattr(stated, key)
            exact = key.removeprefix("delta_") in {"count", "min", "max"} or None in (value, written)
            scale = ours.delta_rms if key.startswith("delta_") else ours.rms
            agrees = value == written if exact else abs(value - written) <= _STATISTICS_TOLERANCE * (scale or 0.0)
            findings.expect(
                "statistics",
                agrees,
                f"{key} of channel {ours.channel} is {value}, the manifest says {written}; convert again",
            )


def check_parameters(store: ZarrStore, findings: Findings) -> None:
    """Compare the moments of parameters with those of the tables."""
    manifest = store.manifest
    columns = store.tables.parameters[counted_trajectories(store)].T
    for stated, column in zip(manifest.parameters, columns, strict=False):
        scale = _STATISTICS_TOLERANCE * max(float(np.abs(column).max()), 1e-300)
        for key, value in {"mean": float(column.mean()), "std": float(column.std())}.items():
            written = getattr(stated, key)
            findings.expect(
                "statistics",
                abs(value - written) <= scale,
                f"{key} of parameter {stated.name} is {value}, the manifest says {written}; convert again",
            )
