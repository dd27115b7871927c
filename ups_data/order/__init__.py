"""Which samples make up which batch: pure functions of (seed, epoch, step), in O(1) memory, without I/O and torch."""

from ups_data.order.batches import BatchOrder, BatchRequest, Order
from ups_data.order.interleave import Interleave
from ups_data.order.mixture import BlendOrder, MixtureOrder, epoch_samples
from ups_data.order.shuffle import BlockShuffle, Shuffle, StreamShuffle

__all__ = [
    "BatchOrder",
    "BatchRequest",
    "BlendOrder",
    "BlockShuffle",
    "Interleave",
    "MixtureOrder",
    "Order",
    "Shuffle",
    "StreamShuffle",
    "epoch_samples",
]
