"""Samples from tar shards that go by: a stage for the WebDataset pipeline of a user's own.

    shards = "data/burgers-tar/shards/{000000..000007}.tar"
    pipeline = wds.WebDataset(shards, shardshuffle=8).compose(ups_data.decode_queries(dataset)).shuffle(100)

The stage holds the frames that the window of the next sample needs, and no more. It takes members as bytes, as they
come from the tar, and never decodes what it does not expect: names, order, sizes, headers and checksums of a group's
members follow from the store's tables, and whatever differs is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Shaped

from ups_data.dataset import QueryDataset
from ups_data.errors import CorruptionError, DatasetError
from ups_data.sample import SparseSample
from ups_data.storage import ZarrStore
from ups_data.storage.rows import HeldRows
from ups_data.storage.shard import ArraySpec
from ups_data.storage.tar_format import (
    MAX_DESCRIPTION_BYTES,
    Group,
    Span,
    extend_checksum,
    groups_of,
    in_tar,
    member_suffix,
    npy_header,
    own_checksum,
    parse_group_name,
    record_dtype,
)

_TOLD_MEMBERS = 8
_MEND = "pack the store again, or move stages that drop, change or reorder members behind decode_queries"

RawSample = Mapping[str, Any]
"""What a WebDataset pipeline hands on before it decodes: `__key__`, and the bytes of each member by its extension."""


def decode_queries(
    dataset: QueryDataset, *, epoch: int = 0, step: int = 0
) -> Callable[[Iterable[RawSample]], Iterator[SparseSample]]:
    """Return a stage that turns the groups of tar shards into the samples of a dataset, bit for bit.

    Trajectories must come whole and in the order of their tar, as any pipeline hands them on that shuffles shards
    alone; shuffle samples after this stage. Trajectories of other splits pass unseen.

    Args:
        dataset: what a sample is, on the same store, as tar shards or as Zarr.
        epoch: number of the epoch, which changes the drawn points.
        step: global step, for samplers with a schedule.

    Raises:
        DatasetError: the store has no rows that could come by, or queries come from another one; or, from the
            stage, the members were decoded before.
        CorruptionError: from the stage: a group is missing, out of order, of another store, or not what was written.
    """
    if not isinstance(dataset.store, ZarrStore):
        raise DatasetError(f"{type(dataset.store).__name__} has no rows that could come by in tar shards")
    dataset.on(dataset.store)  # refuses queries of another store now, not when the first member comes

    def stage(groups: Iterable[RawSample]) -> Iterator[SparseSample]:
        stream = SampleStream(dataset, epoch=epoch, step=step)
        for group in groups:
            yield from stream.take(group)
        stream.end()

    return stage


class SampleStream:
    """Takes the groups of trajectories one after another, and gives the samples that are complete.

    Args:
        dataset: what a sample is.
        epoch: number of the epoch.
        step: global step.
    """

    def __init__(self, dataset: QueryDataset, *, epoch: int, step: int) -> None:
        store = dataset.store
        assert isinstance(store, ZarrStore)
        self._store, self._epoch, self._step = store, epoch, step
        self._specs = {key: reader.spec for key, reader in store.arrays.items() if in_tar(key)}
        self._rows = {key: HeldRows(spec) for key, spec in self._specs.items()}
        self._dataset = dataset.on(store.with_rows({**store.arrays, **self._rows}))
        self._expected: Iterator[Group] = iter(())
        self._next: Group | None = None
        self._samples = range(0)
        self._held: list[Group] = []

    def take(self, raw: RawSample) -> Iterator[SparseSample]:
        """Take a group and yield the samples that it completes."""
        name = str(raw.get("__key__", "")).rsplit("/", 1)[-1]
        where = f"{raw.get('__url__', 'the stream')}: group {name!r}"
        if self._next is None:
            self._begin(name, where)
        group = self._next
        if group is None or name != group.name:
            wanted = "a trajectory from its beginning" if group is None else group.name
            raise CorruptionError(f"{where} came where {wanted} must come; {_MEND}")
        self._next = next(self._expected, None)
        if self._samples:
            self._hold(group, raw, where)
            yield from self._complete(group)
        if self._next is None:
            self._release(lambda _: True)

    def end(self) -> None:
        """Make sure that the last trajectory came whole.

        Raises:
            CorruptionError: it did not.
        """
        if self._next is not None:
            raise CorruptionError(f"the stream ends where group {self._next.name} must come; {_MEND}")

    def _begin(self, name: str, where: str) -> None:
        """Expect the groups of the trajectory that a name tells."""
        told = parse_group_name(name)
        if told is None or not told[0] < len(self._store):
            raise CorruptionError(f"{where} is none of {self._store.location}; {_MEND}")
        self._expected = groups_of(self._specs, self._store.tables, told[0])
        self._next = next(self._expected)
        self._samples = self._dataset.samples_of(told[0])

    def _hold(self, group: Group, raw: RawSample, where: str) -> None:
        checksums = self._check_description(group, raw.get("json"), where)
        wanted = {member_suffix(span.key) for span in group.spans}
        # Counted before they are compared: of a million names a set takes tens of megabytes.
        names = [key for key in raw if key != "json" and not (key.startswith("__") and key.endswith("__"))]
        if len(names) != len(wanted) or set(names) != wanted:
            told = ", ".join(sorted(names)[:_TOLD_MEMBERS])
            raise CorruptionError(
                f"{where} has members {told:.400} ({len(names)} in all) where {sorted(wanted)} belong; {_MEND}"
            )
        for span in group.spans:
            suffix = member_suffix(span.key)
            rows = _parse_member(self._specs[span.key], span, raw[suffix], checksums.get(suffix), f"{where}.{suffix}")
            self._rows[span.key].hold(span.start, rows)
        self._held.append(group)

    def _check_description(self, group: Group, text: object, where: str) -> dict[str, object]:
        """Return the checksums of a group's members from its JSON member, which must be that of this very group."""
        if isinstance(text, dict):
            raise _decoded_before(where)
        content = _parse_description(text)
        told = tuple(content.get(key) for key in ("store", "trajectory", "block", "frame"))
        if told != (self._store.manifest.fingerprint, group.trajectory, group.block, group.frame):
            raise CorruptionError(f"{where} has no description (.json) of this group of this store; {_MEND}")
        checksums = content.get("crc32c")
        return checksums if isinstance(checksums, dict) else {}

    def _complete(self, group: Group) -> Iterator[SparseSample]:
        """Yield the samples whose last frame has come, and let go of frames that no later one needs."""
        while self._samples and self._is_last(group, self._samples[0]):
            index, self._samples = self._samples[0], self._samples[1:]
            yield self._dataset.sample(index, epoch=self._epoch, step=self._step)
            if self._samples:
                first = self._dataset.locate(self._samples[0])[1]
                block = self._store.block_of(group.trajectory, [first])
                # Called at once, before the loop goes on.
                self._release(lambda held: held.block < block if held.frame is None else held.frame < first)  # noqa: B023  as above

    def _is_last(self, group: Group, index: int) -> bool:
        """Tell whether a group is the last one that a sample needs, or a later one.

        Frames of two blocks come with either; their dense values come with the last of them.
        """
        last = self._dataset.window.target_frames(self._dataset.locate(index)[1])[-1]
        block = self._store.block_of(group.trajectory, [last])
        return group.frame is not None and (group.block, group.frame) >= (block, last)

    def _release(self, done: Callable[[Group], bool]) -> None:
        for group in self._held:
            if done(group):
                for span in group.spans:
                    self._rows[span.key].drop(span.start)
        self._held = [group for group in self._held if not done(group)]


def _parse_description(text: object) -> dict[str, Any]:
    """Return the content of a JSON member, nothing where its own checksum does not hold."""
    try:
        # Looked at before it is parsed: lists of lists take twenty times their text.
        content = json.loads(text) if isinstance(text, bytes) and len(text) <= MAX_DESCRIPTION_BYTES else None
    except (ValueError, RecursionError):
        return {}
    if not isinstance(content, dict) or content.pop("own_crc32c", None) != own_checksum(content):
        return {}
    return content


def _parse_member(
    spec: ArraySpec, span: Span, content: object, checksum: object, where: str
) -> Shaped[np.ndarray, "row *chunk"]:
    """Return the values of an array member; its bytes are read as what the tables say, whatever its header says."""
    if not isinstance(content, bytes):
        raise _decoded_before(where)
    dtype, num_rows = record_dtype(spec), span.stop - span.start
    header = npy_header(dtype, num_rows)
    if len(content) != len(header) + num_rows * dtype.itemsize or not content.startswith(header):
        raise CorruptionError(f"{where} is no array of {num_rows} rows of {spec.key}; {_MEND}")
    records = np.frombuffer(content, dtype=dtype, offset=len(header))
    if extend_checksum(0, records) != checksum:
        raise CorruptionError(f"{where}: checksum mismatch; restore the tar file or pack the store again")
    return records["values"]


def _decoded_before(where: str) -> DatasetError:
    return DatasetError(
        f"{where} was decoded before it came here: put decode_queries before .decode() or instead of it"
    )
