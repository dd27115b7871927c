"""Named dimensions of a source's arrays, brought into the order that a conversion reads."""

from __future__ import annotations

import numpy as np
from jaxtyping import Shaped


def arrange(
    block: Shaped[np.ndarray, "..."], dims: tuple[str, ...], *, space: tuple[str, ...], num_frames: int
) -> Shaped[np.ndarray, "time component *space"]:
    """Order the dimensions of one trajectory's frames as time, component, space.

    Args:
        block: values, one dimension for each name in `dims`.
        dims: `time`, `component` and all of `space`, in stored order; the first two may be absent: a field that does
            not change is the same in every frame, a scalar has one component.
        space: names of the axes in the order wanted.
        num_frames: frames that an absent time stands for.
    """
    wanted = [dim for dim in ("time", "component", *space) if dim in dims]
    block = block.transpose([dims.index(dim) for dim in wanted])
    if "component" not in dims:
        block = np.expand_dims(block, 1 if "time" in dims else 0)
    if "time" not in dims:
        block = np.broadcast_to(block, (num_frames, *block.shape))
    return block
