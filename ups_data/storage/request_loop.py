"""One thread of each process that runs the requests of all its remote stores.

The HTTP client below keeps threads of its own. A process that is forked after they began has them in name only, and
waits for ever for what they should do; a client made anew in the child does, too. So a forked child is refused at once.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from ups_data.errors import StoreError

_Result = TypeVar("_Result")


class RequestLoop:
    """Runs coroutines on one daemon thread, which begins with the first of them."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0
        self._starting = threading.Lock()

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Run a coroutine to its end and return what it returns; an interrupt of the caller cancels it.

        Raises:
            StoreError: this process was forked after its parent had made requests.
        """
        try:
            loop = self._started()
        except StoreError:
            work.close()
            raise
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _started(self) -> asyncio.AbstractEventLoop:
        # The process is looked at before the lock: a lock that was held during the fork stays held in the child.
        if self._process not in {0, os.getpid()}:
            raise StoreError(
                f"process {os.getpid()} was forked from process {self._process} after that one had read from a remote "
                f"store, and would hang at its first request. Start workers by 'forkserver' or 'spawn' "
                f"(multiprocessing_context='forkserver' of a loader), or fork before anything remote is opened"
            )
        with self._starting:
            if self._loop is None:
                self._process = os.getpid()
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="ups-data-requests", daemon=True).start()
            return self._loop


REQUESTS = RequestLoop()
"""The loop of this process."""
