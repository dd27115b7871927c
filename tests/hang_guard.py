"""A generous limit for what must end at all: reached, it tells of a hang, and where; it measures nothing."""

from __future__ import annotations

import faulthandler
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class HangError(BaseException):
    """What was guarded did not end; nothing that catches errors takes it for one."""


@contextmanager
def ends_at_all(limit_s: float = 120.0) -> Iterator[None]:
    """Fail with the stacks of all threads if the block has not ended after `limit_s`; in the main thread only."""

    def stop(number: int, frame: FrameType | None) -> None:
        faulthandler.dump_traceback(file=sys.__stderr__, all_threads=True)
        raise HangError(f"still not ended after {limit_s:g} s: this hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
