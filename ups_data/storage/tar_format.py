"""Tar shards of a store: which rows stand in which member, how members are named, and the manifest that binds them.

A *group* is what a WebDataset pipeline takes as one sample: all members of one name up to the first dot. A block of
frames has a group of its own with what does not change in it (point ids, importance, coordinates), then one group for
each of its frames. Members are arrays of records, a row and its CRC32C each, so that a single page can be read and
checked by its byte range, and `numpy.load` reads a whole one. `docs/format.md` specifies all of it.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self

import google_crc32c
import numpy as np
import pydantic
from jaxtyping import Int64, Shaped

from ups_data.schema import Count, FileEntry, Fingerprinted, Record
from ups_data.storage.shard import ArraySpec
from ups_data.storage.tables import TrajectoryTables
from ups_data.storage.zarr_store import FIELDS, VALUES

TAR_MANIFEST_NAME = "webdataset.json"
ZARR_PREFIX = "zarr"
TAR_BLOCK_BYTES = 512
NO_ARRAY = 2**16 - 1
MAX_DESCRIPTION_BYTES = 4096
"""More than the JSON member of a group can have: it names a handful of arrays."""
INDEX_DTYPE = np.dtype(
    [
        ("array", "<u2"),
        ("first_row", "<i8"),
        ("num_rows", "<i8"),
        ("offset", "<i8"),
        ("size_bytes", "<i8"),
        ("rows_offset", "<i8"),
        ("crc32c", "<u4"),
    ]
)
"""One member: number of its array in the manifest's list (65535 for JSON), its rows, and where it lies in the tar."""

_GROUP = re.compile(r"t(\d{9,12})-b(\d{6,12})(?:-f(\d{9,12}))?")


@dataclass(frozen=True, kw_only=True)
class Span:
    """Rows of one array that stand in one member."""

    key: str
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class Group:
    """What stands under one name: everything of a block that all its frames share, or one frame of it.

    Attributes:
        trajectory: its number.
        block: number of the block in its trajectory.
        frame: number of the frame in its trajectory, None for what the frames share.
        spans: rows of each array, in the order of the arrays.
    """

    trajectory: int
    block: int
    frame: int | None
    spans: tuple[Span, ...]

    @property
    def name(self) -> str:
        """What the names of all its members begin with."""
        name = f"t{self.trajectory:09d}-b{self.block:06d}"
        return name if self.frame is None else f"{name}-f{self.frame:09d}"


def parse_group_name(name: str) -> tuple[int, int, int | None] | None:
    """Return trajectory, block and frame of a group's name, None where it is none."""
    found = _GROUP.fullmatch(name)
    if found is None:
        return None
    trajectory, block, frame = found.groups()
    return int(trajectory), int(block), None if frame is None else int(frame)


def member_suffix(key: str) -> str:
    """Return what follows the group's name and a dot in the name of an array's member."""
    return f"{key.replace('/', '_')}.npy"


def in_tar(key: str) -> bool:
    """Tell whether an array stands in tar shards: those whose rows belong to blocks or frames of a trajectory.

    Others, such as meshes that trajectories share, stay shards of Zarr beside the tar files.
    """
    return key == FIELDS or key.startswith("pages/")


def groups_of(specs: dict[str, ArraySpec], tables: TrajectoryTables, trajectory: int) -> Iterator[Group]:
    """Yield the groups of a trajectory in the order of the tar; together they hold each of its rows once.

    Args:
        specs: the arrays in tar shards, see `in_tar`.
        tables: of the store.
        trajectory: its number.
    """
    shared = [key for key in specs if key not in {FIELDS, VALUES}]
    first = int(tables.block_offsets[trajectory])
    starts = tables.block_start[first : int(tables.block_offsets[trajectory + 1])].tolist()
    for block, start in enumerate(starts):
        number = first + block
        pages, rows = int(tables.block_pages[number]), int(tables.page_offsets[number])
        spans = tuple(Span(key=key, start=rows, stop=rows + pages) for key in shared)
        yield Group(trajectory=trajectory, block=block, frame=None, spans=spans)
        # A frame of two blocks has pages in both, and its dense values with the last of them.
        end = starts[block + 1] if block + 1 < len(starts) else int(tables.num_frames[trajectory])
        for frame in range(start, start + int(tables.block_frames[number])):
            spans = _frame_spans(specs, tables, number, frame - start)
            if FIELDS in specs and frame < end:
                per_frame = specs[FIELDS].rows_per_index
                row = (int(tables.frame_offsets[trajectory]) + frame) * per_frame
                spans = (Span(key=FIELDS, start=row, stop=row + per_frame), *spans)
            yield Group(trajectory=trajectory, block=block, frame=frame, spans=spans)


@dataclass(frozen=True, kw_only=True, eq=False)
class MemberCounts:
    """How many members the tar files hold for each trajectory, worked out without looking at them.

    Attributes:
        arrays: members that hold rows (n,).
        groups: groups, each with a JSON member (n,).
    """

    arrays: Int64[np.ndarray, " trajectory"]
    groups: Int64[np.ndarray, " trajectory"]

    @classmethod
    def of(cls, specs: dict[str, ArraySpec], tables: TrajectoryTables) -> Self:
        """Count what `groups_of` yields, for all trajectories at once."""
        frames = np.add.reduceat(tables.block_frames, tables.block_offsets[:-1])
        shared = len(specs.keys() - {FIELDS, VALUES})
        arrays = tables.num_blocks * shared + frames * (VALUES in specs) + tables.num_frames * (FIELDS in specs)
        return cls(arrays=arrays, groups=tables.num_blocks + frames)


def _frame_spans(specs: dict[str, ArraySpec], tables: TrajectoryTables, block: int, place: int) -> tuple[Span, ...]:
    pages = int(tables.block_pages[block])
    row = int(tables.value_offsets[block]) + place * pages
    return (Span(key=VALUES, start=row, stop=row + pages),) if VALUES in specs else ()


def record_dtype(spec: ArraySpec) -> np.dtype[Any]:
    """Return the dtype of a member's entries: a row's values and the CRC32C of their bytes."""
    return np.dtype([("values", np.dtype(spec.dtype).newbyteorder("<"), spec.chunk_shape[1:]), ("crc32c", "<u4")])


def npy_header(dtype: np.dtype[Any], length: int) -> bytes:
    """Return the first bytes of a NumPy file of `length` entries; they follow from dtype and length alone."""
    buffer = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(buffer, described)
    return buffer.getvalue()


def extend_checksum(checksum: int, records: Shaped[np.ndarray, " row"]) -> int:
    """Go on with the CRC32C of a member's values, which leaves out the checksums of its rows.

    With them it would tell nothing: what is followed by its own CRC leaves the same remainder, whatever it is, so that
    two members of intact rows could never be told apart.
    """
    return int(google_crc32c.extend(checksum, np.ascontiguousarray(records["values"]).tobytes()))


def tar_header(name: str, size_bytes: int) -> bytes:
    """Return the header block of a regular file; nothing of it depends on time or user."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size_bytes, 0o644
    return info.tobuf(format=tarfile.GNU_FORMAT)


def describe_group(group: Group, checksums: dict[str, int], *, store: str) -> bytes:
    """Return the JSON member of a group: what it is, the checksum of each other member, and its own."""
    content: dict[str, Any] = {
        "store": store,
        "trajectory": group.trajectory,
        "block": group.block,
        "frame": group.frame,
        "rows": {span.key: [span.start, span.stop] for span in group.spans},
        "crc32c": checksums,
    }
    return json.dumps({**content, "own_crc32c": own_checksum(content)}).encode()


def own_checksum(content: dict[str, Any]) -> int:
    """Return the CRC32C of a JSON member's other entries, written without blanks."""
    return int(google_crc32c.value(json.dumps(content, separators=(",", ":")).encode()))


class TarShard(Record):
    """One tar file and its index.

    Attributes:
        key: of the tar, such as `shards/000000.tar`.
        index: of its index, such as `shards/000000.index.npy`.
        first_trajectory: trajectories from here on stand in it, up to those of the next shard.
        rows: for each array of the manifest's list, which rows stand in it.
    """

    key: str
    index: str
    first_trajectory: Count
    rows: tuple[tuple[Count, Count], ...]


class TarManifest(Fingerprinted):
    """What the tar shards of a store are, and size and hash of every file.

    Attributes:
        store: fingerprint of the Zarr store that they hold.
        arrays: keys of its sharded arrays.
        files: every file but this one, sorted by key; those below `zarr/` are the store's own metadata and tables.
    """

    format: Literal["ups-data-webdataset"] = "ups-data-webdataset"
    version: Literal[1] = 1
    writer: str
    store: str = pydantic.Field(pattern=r"[0-9a-f]{64}")
    arrays: tuple[str, ...]
    shards: tuple[TarShard, ...] = pydantic.Field(min_length=1)
    files: tuple[FileEntry, ...]

    @pydantic.model_validator(mode="after")
    def _parts_agree(self) -> Self:
        keys = [entry.key for entry in self.files]
        named = [name for shard in self.shards for name in (shard.key, shard.index)]
        if len(set(keys)) != len(keys) or TAR_MANIFEST_NAME in keys:
            raise ValueError("files must be listed once each, without this one")
        if missing := sorted(set(named) - set(keys)):
            raise ValueError(f"shards name {missing[:3]}, which are not among the files")
        ends = [(0, 0)] * len(self.arrays)
        for shard in self.shards:
            starts_on = len(shard.rows) == len(ends) and all(
                start == end[1] and start <= stop for (start, stop), end in zip(shard.rows, ends, strict=True)
            )
            if not starts_on:
                raise ValueError(f"rows of {shard.key} do not go on where those of the shard before it end")
            ends = list(shard.rows)
        firsts = [shard.first_trajectory for shard in self.shards]
        if firsts[0] != 0 or firsts != sorted(set(firsts)):
            raise ValueError("shards must begin at trajectory 0 and go on in order")
        return self
