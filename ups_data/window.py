"""Which frames of a trajectory make a sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ups_data.errors import DatasetError, suggest
from ups_data.random import Stream, generator
from ups_data.samplers import DrawKey

TargetPoints = Literal["same", "fresh"]


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which frames make one sample.

    With the first input frame at f, the inputs are f, f + stride, ... (`inputs` of them) and the targets are
    last input + lead * stride, last input + (lead + 1) * stride, ... (`targets` of them).

    With `drawn_targets`, a sample has so many of these target frames, drawn without replacement for each sample and
    epoch, whatever points are drawn. Every frame is drawn with probability drawn_targets / targets exactly, so the mean
    over a sample's frames is an unbiased estimate of that over all target frames of the window. `target_frames` and
    `target_times` tell which they are.

    With `points="same"` a sample has the same points at all of its target frames. With `points="fresh"` each target
    frame has a draw of its own, with its own weights, independent of those of the others and the same whichever frames
    are drawn: the mean over frames then varies less where the loss changes little from frame to frame. Every frame
    costs its own page ids and coordinates, read and shipped.

    Attributes:
        inputs: number of input frames, at least 1.
        targets: number of target frames, at least 1.
        stride: frames from one to the next.
        lead: strides from the last input to the first target; 0 for a steady problem, where input fields and target
            fields belong to the same frame.
        drawn_targets: target frames that a sample has, from 1 to `targets`; all of them if None.
        points: whether the target frames of a sample share their points (`same`) or have their own (`fresh`).
    """

    inputs: int = 1
    targets: int = 1
    stride: int = 1
    lead: int = 1
    drawn_targets: int | None = None
    points: str = "same"

    def __post_init__(self) -> None:
        if min(self.inputs, self.targets, self.stride) < 1 or self.lead < 0:
            raise DatasetError(
                f"a window needs inputs, targets and stride of at least 1 and lead of at least 0, got {self}"
            )
        if self.drawn_targets is not None and not 1 <= self.drawn_targets <= self.targets:
            raise DatasetError(f"drawn_targets lies between 1 and targets={self.targets}, got {self.drawn_targets}")
        if self.points not in get_args(TargetPoints):
            raise DatasetError(f"there are no points {self.points!r}. {suggest(self.points, get_args(TargetPoints))}")

    def __repr__(self) -> str:
        # Saved states hold it: without the points where there is nothing to tell, as before there was a choice.
        shown = [f"{name}={value!r}" for name, value in vars(self).items() if (name, value) != ("points", "same")]
        return f"Window({', '.join(shown)})"

    @property
    def span(self) -> int:
        """Frames from the first to the last of a window, both counted."""
        return (self.inputs - 1 + self.lead + self.targets - 1) * self.stride + 1

    def input_frames(self, first: int) -> tuple[int, ...]:
        """Return the input frames of the window that begins at `first`."""
        return tuple(first + number * self.stride for number in range(self.inputs))

    def target_frames(self, first: int) -> tuple[int, ...]:
        """Return all target frames of the window that begins at `first`."""
        start = first + (self.inputs - 1 + self.lead) * self.stride
        return tuple(start + number * self.stride for number in range(self.targets))

    def draw_targets(self, first: int, key: DrawKey) -> tuple[int, ...]:
        """Return the target frames, rising, of a sample whose window begins at `first`."""
        frames = self.target_frames(first)
        if self.drawn_targets is None:
            return frames
        random = generator(seed=key.seed, stream=Stream.FRAMES, words=(key.sample, key.epoch))
        chosen = random.permutation(self.targets)[: self.drawn_targets]
        return tuple(frames[number] for number in sorted(chosen.tolist()))

    def point_keys(self, first: int, frames: tuple[int, ...], key: DrawKey) -> tuple[DrawKey, ...]:
        """Return the keys of the draws of a sample: one for all its target frames `frames`, or one for each."""
        if self.points == "same":
            return (key,)
        every = self.target_frames(first)
        return tuple(key.at_frame(every.index(frame)) for frame in frames)
