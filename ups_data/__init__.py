"""Sparse, exactly weighted queries for training neural PDE surrogates.

The public names. Those of the data side that need torch are imported when they are first used, so that conversion
and page layout run without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ups_data.errors import UpsDataError

if TYPE_CHECKING:
    from ups_data.collate import SparseBatch, collate_samples
    from ups_data.dataset import QueryDataset
    from ups_data.loader import QueryLoader, build_loader, dataloader_arguments
    from ups_data.mixture import MixtureDataset
    from ups_data.order import BlockShuffle, StreamShuffle
    from ups_data.progress import track
    from ups_data.sample import SparseSample
    from ups_data.samplers import (
        AdaptiveSampler,
        BalancedSampler,
        Constant,
        Cosine,
        DenseSampler,
        Exponential,
        FeedbackRule,
        FixedSampler,
        ImportanceSampler,
        Linear,
        Step,
        StratifiedSampler,
        UniformSampler,
        Weights,
    )
    from ups_data.storage import CacheOptions, RemoteOptions, Store, open_store
    from ups_data.streaming import decode_queries
    from ups_data.transfer import DeviceLoader
    from ups_data.window import Window

__version__ = "0.1.0"

_HOMES = {
    "ups_data.collate": ("SparseBatch", "collate_samples"),
    "ups_data.dataset": ("QueryDataset",),
    "ups_data.sample": ("SparseSample",),
    "ups_data.window": ("Window",),
    "ups_data.loader": ("QueryLoader", "build_loader", "dataloader_arguments"),
    "ups_data.mixture": ("MixtureDataset",),
    "ups_data.order": ("BlockShuffle", "StreamShuffle"),
    "ups_data.progress": ("track",),
    "ups_data.samplers": (
        "AdaptiveSampler",
        "BalancedSampler",
        "Constant",
        "Cosine",
        "DenseSampler",
        "Exponential",
        "FeedbackRule",
        "FixedSampler",
        "ImportanceSampler",
        "Linear",
        "Step",
        "StratifiedSampler",
        "UniformSampler",
        "Weights",
    ),
    "ups_data.storage": ("CacheOptions", "RemoteOptions", "Store", "open_store"),
    "ups_data.streaming": ("decode_queries",),
    "ups_data.transfer": ("DeviceLoader",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AdaptiveSampler",
    "BalancedSampler",
    "BlockShuffle",
    "CacheOptions",
    "Constant",
    "Cosine",
    "DenseSampler",
    "DeviceLoader",
    "Exponential",
    "FeedbackRule",
    "FixedSampler",
    "ImportanceSampler",
    "Linear",
    "MixtureDataset",
    "QueryDataset",
    "QueryLoader",
    "RemoteOptions",
    "SparseBatch",
    "SparseSample",
    "Step",
    "Store",
    "StratifiedSampler",
    "StreamShuffle",
    "UniformSampler",
    "UpsDataError",
    "Weights",
    "Window",
    "build_loader",
    "collate_samples",
    "dataloader_arguments",
    "decode_queries",
    "open_store",
    "track",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'ups_data' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
