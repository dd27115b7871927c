"""A store as plain Zarr v3, on local files or far away: the reader."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import google_crc32c
import numpy as np
from jaxtyping import Float, Float64, Int64, Integer, Shaped

from ups_data.coordinates import coordinates_of, grid_coordinates, grid_measures
from ups_data.errors import CorruptionError, DatasetError, StoreNotFoundError
from ups_data.mesh import Mesh
from ups_data.schema import MANIFEST_NAME, MAX_MANIFEST_BYTES, FileEntry, Manifest
from ups_data.storage.base import PagePoints, Store
from ups_data.storage.byte_store import ByteStore, CheckedRange, LocalByteStore, ReadCount
from ups_data.storage.codec import CRC_BYTES
from ups_data.storage.mesh_arrays import (
    CONNECTIVITY,
    CORNERS,
    NODES,
    TYPES,
    find_rows,
    mesh_of,
    row_dtype,
    row_shape,
    total_rows,
)
from ups_data.storage.rows import RowReader
from ups_data.storage.shard import ArraySpec, spec_from_metadata
from ups_data.storage.sharded_array import ShardedArray
from ups_data.storage.tables import TABLE_DTYPES, TrajectoryTables, table_rank

TABLE_GROUP = "trajectories"
VALUES, INDEX, IMPORTANCE, COORDINATES, MEASURES = (
    "pages/values",
    "pages/index",
    "pages/importance",
    "pages/coordinates",
    "pages/measures",
)
FIELDS = "fields"
_MAX_METADATA_BYTES = 2**20


class ZarrStore(Store):
    """Reads a store of `docs/format.md` range by range; zarr-python is not needed for it.

    Opening compares the size of every file with the manifest and the hash of metadata and tables; the checksum of a
    chunk is compared whenever it is read. `ups-preprocess validate` compares every byte.

    Args:
        source: where the files lie; a path is a local directory.
    """

    def __init__(self, source: ByteStore | Path) -> None:
        source = LocalByteStore(source) if isinstance(source, Path) else source
        self.location = source.location
        self._bytes = source
        self.manifest = read_manifest(source)
        self._entries = {entry.key: entry for entry in self.manifest.files}
        source.bind(self.manifest.files)
        described = self._read_description()
        self.tables = self._read_tables(described)
        self._arrays = {key: self._open_array(key, described) for key in self._array_keys()}

    def __reduce__(self) -> tuple[Any, ...]:
        return (reopen, (type(self), self._bytes, self.fingerprint))

    @property
    def fingerprint(self) -> str:
        """What a copy is held against: that of the manifest of what is read."""
        return self.manifest.fingerprint

    @property
    def survives_fork(self) -> bool:
        """Whether a process that was forked after reads in its parent can read, too."""
        return self._bytes.survives_fork

    @property
    def is_remote(self) -> bool:
        """Whether reading several samples at once is worth while: where round trips take the time."""
        return self._bytes.is_remote

    @property
    def read_count(self) -> ReadCount:
        """Bytes and ranges that this handle has read so far."""
        return self._bytes.count

    @property
    def arrays(self) -> dict[str, RowReader]:
        """The sharded arrays by key."""
        return dict(self._arrays)

    def with_rows(self, readers: Mapping[str, RowReader]) -> Self:
        """Return this store with other readers of its arrays, by key."""
        # Copied by hand: `copy` would open the store again, as pickle does.
        other = type(self).__new__(type(self))
        vars(other).update(vars(self), _arrays=dict(readers))
        vars(other).pop("_curves", None)  # what these readers answer is not kept for others: it may be a rehearsal
        return other

    def read_file(self, entry: FileEntry) -> bytes:
        """Read a whole file and compare it with the hash that the manifest holds.

        Raises:
            CorruptionError: the bytes are not those that were committed.
        """
        return self._read_files([entry])[entry.key]

    def _read_files(self, entries: Sequence[FileEntry]) -> dict[str, bytes]:
        contents: dict[str, bytes] = {}

        def accept(entry: FileEntry, content: bytes) -> None:
            if hashlib.sha256(content).hexdigest() != entry.sha256:
                raise CorruptionError(
                    f"{self.location}/{entry.key} is not the file that was committed (SHA-256 differs); restore it or "
                    f"convert again"
                )
            contents[entry.key] = content

        self._bytes.read_checked(
            [
                CheckedRange(key=entry.key, offset=0, length=entry.size_bytes, accept=partial(accept, entry))
                for entry in entries
            ]
        )
        return contents

    def read_frames(
        self, trajectory: int, frames: Sequence[int], channels: tuple[int, ...]
    ) -> Float[np.ndarray, "time channel point"]:
        """Read chosen channels of whole frames, in point-id order."""
        chosen = self._check_frames(trajectory, frames)
        channels = self._check_channels(channels)
        if FIELDS not in self._arrays:
            return self._rebuild_frames(trajectory, frames, channels)
        array = self._arrays[FIELDS]
        first = self.tables.frame_offsets[trajectory] + chosen
        rows = first[:, None] * len(self.manifest.channel_names) + np.asarray(channels)
        values = array.read_rows(rows.reshape(-1))
        return values.reshape(len(chosen), len(channels), self.num_points(trajectory))

    def _rebuild_frames(
        self, trajectory: int, frames: Sequence[int], channels: tuple[int, ...]
    ) -> Float[np.ndarray, "time channel point"]:
        dtype = np.dtype(self.manifest.dtype)
        dense = np.empty((len(frames), self.num_points(trajectory), len(channels)), dtype=dtype)
        blocks = np.array([self.block_of(trajectory, [frame]) for frame in frames], dtype=np.int64)
        for block in np.unique(blocks).tolist():
            pages = np.arange(self.layout(trajectory, block).all_pages)
            index = self._read_index(trajectory, pages, block)
            places = np.flatnonzero(blocks == block)
            chosen = [frames[place] for place in places.tolist()]
            values = self.read_page_values(trajectory, chosen, pages, channels, block)
            dense[places[:, None], index[index >= 0]] = values[:, index >= 0]
        return dense.transpose(0, 2, 1)

    def read_page_points(self, trajectory: int, pages: Integer[np.ndarray, " page"], block: int = 0) -> PagePoints:
        """Read which points stand on the given pages of a block, and where they lie."""
        index = self._read_index(trajectory, pages, block)
        if self.manifest.geometry.kind != "grid":
            stored = self._read_static(COORDINATES, trajectory, pages, block)
            return PagePoints(index=index, coordinates=stored.transpose(0, 2, 1).reshape(index.size, stored.shape[1]))
        coordinates = coordinates_of(self.axes(trajectory), np.maximum(index, 0))
        coordinates[index < 0] = np.nan
        return PagePoints(index=index, coordinates=coordinates)

    def read_page_measures(
        self, trajectory: int, pages: Integer[np.ndarray, " page"], points: PagePoints, block: int = 0
    ) -> Float64[np.ndarray, " query"]:
        """Return the measures of the cells of the points that `read_page_points` gave for the same pages."""
        if self.manifest.geometry.kind != "grid":
            self._check_measures()
            return self._read_static(MEASURES, trajectory, pages, block).reshape(-1)
        measures = grid_measures(self.axes(trajectory), self.manifest.geometry.axes, np.maximum(points.index, 0))
        measures[points.index < 0] = np.nan
        return measures

    def read_page_values(
        self,
        trajectory: int,
        frames: Sequence[int],
        pages: Integer[np.ndarray, " page"],
        channels: tuple[int, ...],
        block: int = 0,
    ) -> Float[np.ndarray, "time query channel"]:
        """Read chosen channels of all entries of the given pages (T, Q, C), NaN on padding and where values miss."""
        chosen = self._check_frames(trajectory, frames)
        channels = self._check_channels(channels)
        held = self.block_frames(trajectory, block)
        if chosen.size and not (chosen.min() in held and chosen.max() in held):
            raise IndexError(
                f"frames {list(frames)} outside of [{held.start}, {held.stop}), those of block {block} of trajectory "
                f"{trajectory}"
            )
        number = self._check_block(trajectory, block)
        first = self.tables.value_offsets[number] + (chosen - held.start) * self.tables.block_pages[number]
        rows = (first[:, None] + self._check_pages(number, pages)).reshape(-1)
        values = self._arrays[VALUES].read_rows(rows)
        split = values.reshape(len(chosen), pages.size, *values.shape[1:])[:, :, list(channels)]
        return split.transpose(0, 1, 3, 2).reshape(len(chosen), pages.size * values.shape[-1], len(channels))

    def coordinates(self, trajectory: int) -> Float64[np.ndarray, "point dim"]:
        """Return the physical coordinates of all points (N, D), in point-id order."""
        if self.manifest.geometry.kind == "grid":
            return grid_coordinates(self.axes(trajectory))
        return self._scatter(COORDINATES, trajectory)

    def measures(self, trajectory: int) -> Float64[np.ndarray, " point"]:
        """Return the measure (length, area, volume) of each point's cell, in point-id order.

        Raises:
            DatasetError: the store holds points or meshes whose source told none.
        """
        if self.manifest.geometry.kind == "grid":
            return grid_measures(self.axes(trajectory), self.manifest.geometry.axes)
        self._check_measures()
        return self._scatter(MEASURES, trajectory)

    def _check_measures(self) -> None:
        if MEASURES not in self._arrays:
            raise DatasetError(
                f"{self.location} does not know the measures of the cells of its points, so it gives no integrals; use "
                f"estimand='mean'"
            )

    def mesh(self, trajectory: int) -> Mesh | None:
        """Return nodes and cells of a trajectory's mesh, None where the store holds no meshes.

        Raises:
            CorruptionError: what is stored makes no mesh.
        """
        number, location = self._check(trajectory), self.manifest.geometry.point_location
        if location is None:
            return None
        mesh, sizes = int(self.tables.mesh[number]), self.tables.mesh_sizes
        rows = {}
        for key in (NODES, TYPES, CORNERS, CONNECTIVITY):
            place = find_rows(sizes, key, mesh)
            rows[key] = self._arrays[key].read_rows(np.arange(place.first, place.stop))
        num_nodes, num_cells, num_corners = sizes[mesh].tolist()
        return mesh_of(rows, (num_nodes, num_cells, num_corners), location, where=f"mesh {mesh} of {self.location}")

    def importance(self, trajectory: int, block: int = 0) -> Float[np.ndarray, " point"]:
        """Return the importance map of a block of frames, in point-id order; NaN where no draw may go."""
        return self._scatter(IMPORTANCE, trajectory, block)

    def drawn_points(self, trajectory: int, block: int = 0) -> Int64[np.ndarray, " point"]:
        """Return the points that draws may take in a block, rising: those that have a value in any of its frames."""
        layout = self.layout(trajectory, block)
        if layout.num_points == self.num_points(trajectory):
            return np.arange(layout.num_points)
        index = self._read_index(trajectory, np.arange(layout.num_pages), block)
        return np.sort(index[index >= 0])

    def _scatter(self, key: str, trajectory: int, block: int = 0) -> Shaped[np.ndarray, "point *rest"]:
        """Return what stands on the pages of a block in point-id order, trailing dimensions last."""
        pages = np.arange(self.layout(trajectory, block).all_pages)
        index = self._read_index(trajectory, pages, block)
        stored = np.moveaxis(self._read_static(key, trajectory, pages, block), -1, 1)
        stored = stored.reshape(index.size, *stored.shape[2:])
        values = np.empty((self.num_points(trajectory), *stored.shape[1:]), dtype=stored.dtype)
        values[index[index >= 0]] = stored[index >= 0]
        return values

    def _read_static(
        self, key: str, trajectory: int, pages: Integer[np.ndarray, " page"], block: int
    ) -> Shaped[np.ndarray, "..."]:
        number = self._check_block(trajectory, block)
        return self._arrays[key].read_rows(self.tables.page_offsets[number] + self._check_pages(number, pages))

    def _read_index(
        self, trajectory: int, pages: Integer[np.ndarray, " page"], block: int
    ) -> Int64[np.ndarray, " query"]:
        index = self._read_static(INDEX, trajectory, pages, block).reshape(-1).astype(np.int64)
        count = self.num_points(trajectory)
        if index.size and not (index.min() >= -1 and index.max() < count):
            raise CorruptionError(
                f"{self.location}/{INDEX} names points {index.min()} to {index.max()} of trajectory {trajectory}, "
                f"which has {count}; convert again"
            )
        return index

    def _check_pages(self, number: int, pages: Integer[np.ndarray, " page"]) -> Integer[np.ndarray, " page"]:
        count = int(self.tables.block_pages[number])
        if pages.size and not (pages.min() >= 0 and pages.max() < count):
            raise IndexError(
                f"pages {pages.min()} to {pages.max()} outside of [0, {count}) of block {number} of {self.location}"
            )
        return pages

    def _array_keys(self) -> list[str]:
        keys = [VALUES, INDEX, IMPORTANCE]
        keys += [FIELDS] if self.manifest.layout.dense == "stored" else []
        keys += [] if self.manifest.geometry.kind == "grid" else [COORDINATES]
        keys += [MEASURES] if self.manifest.geometry.stored_measures else []
        return keys + ([NODES, TYPES, CORNERS, CONNECTIVITY] if self.manifest.geometry.point_location else [])

    def _read_description(self) -> dict[str, bytes]:
        """Read the metadata of all arrays and the tables, at once: far away, each request takes its time."""
        tables = {f"{TABLE_GROUP}/{name}": table_rank(name) for name in TrajectoryTables.names()}
        keys = [f"{key}/zarr.json" for key in (*self._array_keys(), *tables)]
        metadata = [self._entries[key] for key in keys if key in self._entries]
        chunks = ["/".join([key, "c", *["0"] * rank]) for key, rank in tables.items()]
        return self._read_files(
            [entry for entry in metadata if entry.size_bytes <= _MAX_METADATA_BYTES]
            + [self._entries[key] for key in chunks if key in self._entries]
        )

    def _parse_metadata(self, key: str, described: Mapping[str, bytes]) -> dict[str, Any]:
        text = described.get(f"{key}/zarr.json")
        if text is None:
            raise CorruptionError(f"the manifest of {self.location} does not list {key}/zarr.json as it must")
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CorruptionError(f"{self.location}/{key}/zarr.json is not valid JSON: {error}") from error
        if not isinstance(content, dict):
            raise CorruptionError(f"{self.location}/{key}/zarr.json holds no JSON object; convert again")
        return content

    def _open_array(self, key: str, described: Mapping[str, bytes]) -> RowReader:
        spec = spec_from_metadata(key, self._parse_metadata(key, described))
        rows = {VALUES: self.tables.value_offsets[-1], FIELDS: self.tables.frame_offsets[-1]}
        rows |= {key: total_rows(self.tables.mesh_sizes, key) for key in (NODES, TYPES, CORNERS, CONNECTIVITY)}
        expected = int(rows.get(key, self.tables.page_offsets[-1]))
        self._check_spec(spec)
        listed = all(spec.shard_key(shard) in self._entries for shard in range(spec.num_shards))
        if spec.shape[0] != expected or not listed:
            raise CorruptionError(
                f"{self.location}/{key} has {spec.shape[0]} entries where the tables ask for {expected}, or a shard "
                f"that the manifest does not list; convert again"
            )
        return self._make_reader(spec)

    def _make_reader(self, spec: ArraySpec) -> RowReader:
        return ShardedArray(spec, self._bytes)

    def _check_spec(self, spec: ArraySpec) -> None:
        """Refuse an array of another dtype, chunk or codec than the manifest asks for."""
        manifest = self.manifest
        points, channels = manifest.layout.page_points, len(manifest.channel_names)
        wanted: dict[str, tuple[str, tuple[int, ...]]] = {
            VALUES: (manifest.dtype, (1, channels, points)),
            INDEX: ("int32", (1, points)),
            IMPORTANCE: ("float32", (1, points)),
            COORDINATES: ("float64", (1, manifest.geometry.dims, points)),
            MEASURES: ("float64", (1, points)),
            FIELDS: (manifest.dtype, (1, 1, *(manifest.geometry.shape or ()))),
            **{
                key: (row_dtype(key), row_shape(key, dims=manifest.geometry.dims))
                for key in (NODES, TYPES, CORNERS, CONNECTIVITY)
            },
        }
        entries = (spec.shape[0], channels if spec.key == FIELDS else 1)
        found = (spec.dtype, spec.chunk_shape, spec.num_rows)
        is_asked_for = found == (*wanted[spec.key], math.prod(entries)) and spec.codec in ("none", manifest.codec)
        if not is_asked_for or spec.rows_per_shard > spec.num_rows:
            raise CorruptionError(
                f"{self.location}/{spec.key}/zarr.json has dtype {spec.dtype}, chunks {spec.chunk_shape}, codec "
                f"{spec.codec} and shards of {spec.rows_per_shard} of {spec.num_rows} rows, which is not what the "
                f"manifest asks for; convert again"
            )

    def _read_tables(self, described: Mapping[str, bytes]) -> TrajectoryTables:
        tables = TrajectoryTables(**{name: self._parse_table(name, described) for name in TrajectoryTables.names()})
        manifest = self.manifest
        totals = (len(tables.num_frames), int(tables.num_frames.sum()), int(tables.num_points.sum()))
        stated = (manifest.num_trajectories, manifest.num_frames, manifest.num_points)
        if totals != stated:
            raise CorruptionError(
                f"the tables of {self.location} hold {totals} trajectories, frames and points, its manifest {stated}"
            )
        splits = tuple(manifest.splits.values())
        if fault := tables.find_fault(page_points=manifest.layout.page_points, splits=splits):
            raise CorruptionError(f"the tables of {self.location} make no store: {fault}; convert again")
        return tables

    def _parse_table(self, name: str, described: Mapping[str, bytes]) -> Shaped[np.ndarray, "..."]:
        key = f"{TABLE_GROUP}/{name}"
        metadata = self._parse_metadata(key, described)
        shape, dtype = _table_shape(metadata, name), np.dtype(TABLE_DTYPES[name]).newbyteorder("<")
        if shape is None:
            raise CorruptionError(
                f"{self.location}/{key}/zarr.json does not describe {table_rank(name)} axes of {TABLE_DTYPES[name]}"
            )
        if 0 in shape:
            return np.empty(shape, dtype=dtype)
        chunk = "/".join([key, "c", *["0"] * len(shape)])
        content = described.get(chunk)
        if content is None:
            raise CorruptionError(f"the manifest of {self.location} lists no chunk of {key}")
        # What is followed by its own checksum leaves the same remainder, whatever it is: nothing need be copied, which
        # counts where a million trajectories make tables of a hundred megabytes.
        length = dtype.itemsize * math.prod(shape) + CRC_BYTES
        if len(content) != length or google_crc32c.value(content) != google_crc32c.value(bytes(CRC_BYTES)):
            raise CorruptionError(f"{self.location}/{chunk} does not hold a table of shape {shape} and {dtype}")
        return np.frombuffer(content, dtype=dtype, count=math.prod(shape)).reshape(shape)


def _table_shape(metadata: dict[str, Any], name: str) -> tuple[int, ...] | None:
    """Return the shape of a table, None where the metadata do not describe it."""
    shape = metadata.get("shape")
    if not isinstance(shape, list) or len(shape) != table_rank(name):
        return None
    sound = all(type(size) is int and size >= 0 for size in shape) and metadata.get("data_type") == TABLE_DTYPES[name]
    return tuple(shape) if sound else None


_Reopened = TypeVar("_Reopened", bound=ZarrStore)


def reopen(kind: type[_Reopened], source: ByteStore, fingerprint: str) -> _Reopened:
    """Open the store that was pickled elsewhere, and make sure that it is still the same one."""
    store = kind(source)
    if store.fingerprint != fingerprint:
        raise CorruptionError(f"{source.location} was replaced by another store since it was opened; open it again")
    return store


def read_manifest(source: ByteStore) -> Manifest:
    """Read and check the manifest of the store below a root.

    Raises:
        StoreNotFoundError: there is none.
        SchemaError: it breaks the schema, or was changed after it was written.
        CorruptionError: it is not text, or larger than a manifest can be.
    """
    parse = partial(Manifest.from_json, where=f"{source.location}/{MANIFEST_NAME}")
    try:
        return source.read_manifest(MANIFEST_NAME, parse, max_bytes=MAX_MANIFEST_BYTES)
    except StoreNotFoundError as error:
        if not isinstance(source, LocalByteStore):
            raise
        raise StoreNotFoundError(_describe_absence(source.root)) from error


def _describe_absence(root: Path) -> str:
    if root.is_file():
        return f"{root} is a file, and a store is a directory: give the directory that holds {MANIFEST_NAME}"
    if not root.exists():
        begun, retired = partial_path(root), retired_path(root)
        hint = f"; {begun} holds a conversion that did not finish: run it again" if begun.exists() else ""
        if (retired / MANIFEST_NAME).exists():
            hint += f"; {retired} is the store that it was about to replace, whole: it may be renamed back"
        return f"there is no store at {root}{hint}"
    return f"{root} holds no {MANIFEST_NAME}, so it is no finished store: convert to it, or look for the right path"


def partial_path(dest: Path) -> Path:
    """Return the directory in which a conversion to `dest` works until it is finished."""
    return dest.with_name(f".{dest.name}.partial")


def retired_path(dest: Path) -> Path:
    """Return where a store lies for a moment while another one takes its place."""
    return dest.with_name(f".{dest.name}.retired")
