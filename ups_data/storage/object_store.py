"""Files of an object store or web server: ranges joined, many requests at once, each with limits, each answer checked.

What can go wrong with an answer is found in one of three places: the HTTP client (status, short body, another range
than was asked), here (size of the file, ETag), and by whoever asked, who compares checksums. All of it is tried again
within the limits of `RemoteOptions`; what remains is a `RemoteError` (no answer) or a `CorruptionError` (a wrong one).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from ups_data.errors import CorruptionError, RemoteError, StoreError, StoreNotFoundError
from ups_data.schema import FileEntry
from ups_data.storage.byte_store import ByteStore, CheckedRange, check_size
from ups_data.storage.object_client import Fault, classify, client_errors, make_client, require_client
from ups_data.storage.ranges import JoinedRange, cut_windows, join_ranges
from ups_data.storage.remote_options import RemoteOptions, check_url
from ups_data.storage.request_loop import REQUESTS

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

_Answer = TypeVar("_Answer")
_FREE_RETRIES = 50
_LIST_PAGE = 1000
_MAX_OTHERS = 1000
_MEND = "restore the file or convert again"


class ObjectByteStore(ByteStore):
    """Reads files below a URL. The client is made with the first request of a process.

    Opening a Zarr store takes one request for the manifest, one for each metadata file and table (all at once), and one
    for each 1,000 files to list their sizes on `s3://` and `gs://`. Web servers list nothing, so there the size of a
    file is compared whenever it is read.

    Args:
        url: `s3://bucket/prefix`, `gs://bucket/prefix`, or `http(s)://host/path`.
        options: where and how patiently.

    Raises:
        StoreError: no such URL.
        ConfigError: the client is not installed.
    """

    survives_fork = False
    is_remote = True

    def __init__(self, url: str, options: RemoteOptions) -> None:
        super().__init__()
        self.location = check_url(url)
        self.options = options
        self.num_attempts = options.max_attempts
        self._client: ObjectStore | None = None
        self._sizes: dict[str, int] = {}
        self._tags: dict[str, str] = {}
        require_client()

    def __getstate__(self) -> dict[str, object]:
        return {"url": self.location, "options": self.options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["url"], state["options"])  # type: ignore[misc]  # a copy starts without client and counts

    def bind(self, entries: Sequence[FileEntry]) -> None:
        """Learn which files the manifest lists; compare their sizes where the service can list them."""
        self._sizes = {entry.key: entry.size_bytes for entry in entries}
        if self.location.startswith("http"):
            return
        found = REQUESTS.run(self._within_limits(self.location, self._list))
        if found is None:
            return
        for entry in entries:
            where = f"{self.location}/{entry.key}"
            if entry.key not in found:
                raise CorruptionError(f"{where} is missing; restore it or convert again")
            check_size(where, found[entry.key], entry.size_bytes)

    def size(self, key: str) -> int:
        """Return the size of a file in bytes."""
        if key not in self._sizes:
            self._sizes[key] = REQUESTS.run(self._within_limits(self._where(key), partial(self._head, key)))
        return self._sizes[key]

    def read(self, key: str, *, max_bytes: int) -> bytes:
        """Return a whole file of at most `max_bytes`, by a request for a range, so that servers without are found."""
        stop = min(self._sizes.get(key, max_bytes), max_bytes)
        return REQUESTS.run(self._within_limits(self._where(key), partial(self._get, key, 0, stop, whole=True)))

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each (offset, length), unchecked but for their number."""
        found: dict[int, bytes] = {}
        parts = [
            CheckedRange(key=key, offset=offset, length=length, accept=partial(found.__setitem__, number))
            for number, (offset, length) in enumerate(ranges)
        ]
        self.read_checked(parts)
        return [found[number] for number in range(len(ranges))]

    def read_checked(self, ranges: Sequence[CheckedRange]) -> None:
        """Read ranges of any files and hand each to its `accept`; what it refuses is read again."""
        asked = time.perf_counter()
        try:
            for window in cut_windows(ranges):
                self._read_window(window)
        except StoreNotFoundError as error:
            raise CorruptionError(f"{error}; {_MEND}") from error
        finally:
            self.count.seconds += time.perf_counter() - asked

    def _read_window(self, window: list[CheckedRange]) -> None:
        deadline = time.monotonic() + self.options.deadline_s
        plan = self._join(window)
        for attempt in range(1, self.options.max_attempts + 1):
            refused = self._read_once(plan, deadline)
            if not refused:
                return
            error = refused[0][1]
            # Without those that passed, so that one bad range does not cost its neighbours again; together, since one
            # wrong answer spoils hundreds that were read together.
            plan = self._join([part for part, _ in refused])
            if attempt == self.options.max_attempts or time.monotonic() >= deadline or not self._may_retry(len(plan)):
                raise CorruptionError(f"{self.location}: {error} (read {attempt} times)") from error

    def _join(self, ranges: Sequence[CheckedRange]) -> list[JoinedRange]:
        return join_ranges(ranges, max_waste=self.options.max_waste, free_gap_bytes=self.options.free_gap_bytes)

    def _read_once(self, plan: list[JoinedRange], deadline: float) -> list[tuple[CheckedRange, CorruptionError]]:
        """Read once, hand out, and return what was refused."""
        refused = []
        bodies = REQUESTS.run(self._fetch(plan, deadline))
        for joined, body in zip(plan, bodies, strict=True):
            for part in joined.parts:
                begin = part.offset - joined.start
                try:
                    part.accept(body if part.length == len(body) else body[begin : begin + part.length])
                except CorruptionError as error:
                    refused.append((part, error))
        return refused

    # -- on the loop's thread ------------------------------------------------------------------------------------------

    async def _fetch(self, plan: list[JoinedRange], deadline: float) -> list[bytes]:
        """Make all requests, at most `max_in_flight` at a time; the first that fails for good ends the others."""
        gate = asyncio.Semaphore(self.options.max_in_flight)

        async def fetch(key: str, start: int, stop: int) -> bytes:
            request = partial(self._get, key, start, stop)
            return await self._within_limits(self._where(key), request, gate=gate, deadline=deadline)

        counts = [len(joined.pieces()) for joined in plan]
        tasks = [asyncio.ensure_future(fetch(joined.key, *piece)) for joined in plan for piece in joined.pieces()]
        try:
            bodies = iter(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
        return [b"".join(islice(bodies, count)) for count in counts]

    async def _within_limits(
        self,
        where: str,
        request: Callable[[], Awaitable[_Answer]],
        *,
        gate: asyncio.Semaphore | None = None,
        deadline: float | None = None,
    ) -> _Answer:
        """Make a request, again and again while its faults may pass and the limits allow."""
        deadline = time.monotonic() + self.options.deadline_s if deadline is None else deadline
        fault: Fault | None = None
        for attempt in range(1, self.options.max_attempts + 1):
            try:
                async with asyncio.timeout_at(deadline), gate or asyncio.Semaphore():
                    return await request()
            except TimeoutError:
                if fault is not None:  # what came of the attempts before tells more than that this one was cut short
                    limit = f"deadline_s={self.options.deadline_s:g}"
                    raise _final_error(where, fault, attempt, limit) from None
                raise RemoteError(
                    f"{where}: no answer within deadline_s={self.options.deadline_s:g} (attempt {attempt}); look at "
                    f"the network, or allow more by RemoteOptions"
                ) from None
            except client_errors() as error:
                fault = error if isinstance(error, Fault) else classify(error)
            reason = self._why_no_more(fault, attempt, deadline)
            if reason is not None:
                raise _final_error(where, fault, attempt, reason) from None
            await asyncio.sleep(self._pause(attempt))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _why_no_more(self, fault: Fault, attempt: int, deadline: float) -> str | None:
        """Return why a failed request is not tried again, None where it is; count it where it is."""
        if fault.final:
            return ""
        if attempt >= self.options.max_attempts:
            return f"max_attempts={self.options.max_attempts}"
        if time.monotonic() + self._pause(attempt) >= deadline:
            return f"deadline_s={self.options.deadline_s:g}"
        return None if self._may_retry(1) else f"retry_share={self.options.retry_share:g}"

    def _may_retry(self, number: int) -> bool:
        if self.count.num_retries + number > _FREE_RETRIES + self.options.retry_share * self.count.num_ranges:
            return False
        self.count.num_retries += number
        return True

    def _pause(self, attempt: int) -> float:
        """Return how long to wait after an attempt: doubling, and spread so that many processes do not come at once."""
        longest = min(self.options.max_backoff_s, self.options.backoff_s * 2 ** (attempt - 1))
        return longest * random.uniform(0.5, 1.0)  # when, not what: no draw depends on it

    async def _get(self, key: str, start: int, stop: int, *, whole: bool = False) -> bytes:
        """Read a range; with `whole`, a file that may end before it."""
        import obstore

        self.count.num_ranges += 1
        answer = await obstore.get_async(self._made(), key, options={"range": (start, stop)})
        self._check_answer(key, answer.meta)
        if whole and answer.meta["size"] > stop:
            reason = f"the file has {answer.meta['size']} bytes where at most {stop} can be right"
            raise Fault(reason, kind=CorruptionError)
        wanted = (min(stop, answer.meta["size"]) if whole else stop) - start
        parts, size = [], 0
        async for part in answer.stream(min_chunk_size=wanted):
            size += len(part)
            self.count.num_bytes += len(part)
            if size > wanted:
                break
            parts.append(bytes(part))
        if size != wanted:
            reason = f"the answer has {size} bytes or more where {wanted} from byte {start} were asked for"
            raise Fault(reason, kind=CorruptionError)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _check_answer(self, key: str, meta: ObjectMeta) -> None:
        """Compare the size of the whole file, and its ETag with that of the first answer."""
        size, tag = self._sizes.get(key), meta["e_tag"]
        if size is not None and meta["size"] != size:
            raise Fault(f"the file has {meta['size']} bytes, {size} were committed; {_MEND}", kind=CorruptionError)
        if tag and not tag.startswith("W/") and self._tags.setdefault(key, tag) != tag:
            raise Fault("the file was replaced while it was being read; open the store again", kind=CorruptionError)

    async def _head(self, key: str) -> int:
        import obstore

        self.count.num_ranges += 1
        meta = await obstore.head_async(self._made(), key)
        return meta["size"]

    async def _list(self) -> dict[str, int] | None:
        """Return the sizes of all files below the URL, None where listing is not allowed."""
        found: dict[str, int] = {}
        tags: dict[str, str] = {}
        most = 2 * len(self._sizes) + _MAX_OTHERS
        try:
            async for page in self._made().list(chunk_size=_LIST_PAGE):
                self.count.num_ranges += 1
                found.update((meta["path"], meta["size"]) for meta in page)
                tags.update((meta["path"], meta["e_tag"]) for meta in page if meta["e_tag"])
                if len(found) > most:
                    reason = f"more than {most} files lie there, and the manifest lists {len(self._sizes)}"
                    raise Fault(reason, kind=CorruptionError, final=True)
        except client_errors() as error:
            if not isinstance(error, Fault) and classify(error).denied:
                return None
            raise
        if self.location.startswith("s3://"):
            # Elsewhere the first answer tells the tag: not every service lists the tags that it answers with.
            self._tags = tags
        return found

    def _made(self) -> ObjectStore:
        if self._client is None:
            self._client = make_client(self.location, self.options)
        return self._client

    def _where(self, key: str) -> str:
        return f"{self.location}/{key}"


def _final_error(where: str, fault: Fault, attempt: int, reason: str) -> StoreError:
    limit = f" (tried {attempt} times; {reason} ended it)" if reason else ""
    return fault.kind(f"{where}: {fault.reason}{limit}")
