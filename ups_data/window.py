"""Which frames of a trajectory make a sample."""

from __future__ import annotations

from dataclasses import dataclass

from ups_data.errors import DatasetError
from ups_data.random import Stream, generator
from ups_data.samplers import DrawKey


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which frames make one sample.

    With the first input frame at f, the inputs are f, f + stride, ... (`inputs` of them) and the targets are
    last input + lead * stride, last input + (lead + 1) * stride, ... (`targets` of them).

    With `drawn_targets`, a sample has so many of these target frames, drawn without replacement for each sample and
    epoch, whatever points are drawn. Every frame is drawn with probability drawn_targets / targets exactly, so the mean
    over a sample's frames is an unbiased estimate of that over all target frames of the window. `target_frames` and
    `target_times` tell which they are. A sample has the same points at all of its target frames; with
    `drawn_targets=1` each frame has points of its own.

    Attributes:
        inputs: number of input frames, at least 1.
        targets: number of target frames, at least 1.
        stride: frames from one to the next.
        lead: strides from the last input to the first target; 0 for a steady problem, where input fields and target
            fields belong to the same frame.
        drawn_targets: target frames that a sample has, from 1 to `targets`; all of them if None.
    """

    inputs: int = 1
    targets: int = 1
    stride: int = 1
    lead: int = 1
    drawn_targets: int | None = None

    def __post_init__(self) -> None:
        if min(self.inputs, self.targets, self.stride) < 1 or self.lead < 0:
            raise DatasetError(
                f"a window needs inputs, targets and stride of at least 1 and lead of at least 0, got {self}"
            )
        if self.drawn_targets is not None and not 1 <= self.drawn_targets <= self.targets:
            raise DatasetError(f"drawn_targets lies between 1 and targets={self.targets}, got {self.drawn_targets}")

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
