"""Blocks of frames: parts of a long trajectory that have a page layout of their own.

What is sharp moves, so one importance map for all frames of a long trajectory is true of none of them. A block begins
every `frames_per_block` frames and reaches some frames into the next one, which are stored with both, so that the
targets of a window lie whole in the block in which the first of them lies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameBlocks:
    """Where the blocks of some trajectories begin, and how many frames they hold.

    Attributes:
        num_blocks: blocks of each trajectory (n,).
        start: first frame of each block in its trajectory, trajectory after trajectory (B,).
        frames: frames that are stored with each block (B,).
    """

    num_blocks: Int64[np.ndarray, " trajectory"]
    start: Int64[np.ndarray, " block"]
    frames: Int64[np.ndarray, " block"]

    @property
    def trajectory(self) -> Int64[np.ndarray, " block"]:
        """Number of each block's trajectory (B,)."""
        return np.repeat(np.arange(len(self.num_blocks)), self.num_blocks)


def cut_blocks(
    num_frames: Int64[np.ndarray, " trajectory"], *, frames_per_block: int | None, target_span: int
) -> FrameBlocks:
    """Cut trajectories into blocks.

    Args:
        num_frames: frames of each trajectory (n,).
        frames_per_block: frames from the beginning of a block to that of the next; None for one block a trajectory.
        target_span: frames that any window's targets may span; a block reaches `target_span - 1` frames into the next.
    """
    if frames_per_block is None:
        return FrameBlocks(num_blocks=np.ones_like(num_frames), start=np.zeros_like(num_frames), frames=num_frames)
    num_blocks = -(-num_frames // frames_per_block)
    first = np.repeat(np.cumsum(num_blocks) - num_blocks, num_blocks)
    start = (np.arange(num_blocks.sum()) - first) * frames_per_block
    left = np.repeat(num_frames, num_blocks) - start
    return FrameBlocks(num_blocks=num_blocks, start=start, frames=np.minimum(left, frames_per_block + target_span - 1))
