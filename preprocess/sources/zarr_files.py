"""Zarr arrays in directories: opened only after their metadata name nothing but known codecs, read part by part.

A codec may be any class that an installed package announces, and numcodecs has one that unpickles: whatever is not on
the list here is refused before Zarr sees the metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from jaxtyping import Shaped

from ups_data.errors import SourceError, suggest
from ups_data.schema import MANIFEST_NAME

_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zmetadata")
_MAX_METADATA_BYTES = 16 * 2**20
_CODECS = frozenset(
    {
        *("bytes", "transpose", "sharding_indexed", "gzip", "zstd", "blosc", "crc32c"),
        *("adler32", "bz2", "crc32", "delta", "fixedscaleoffset", "fletcher32", "lz4", "lzma", "shuffle", "zlib"),
    }
)
# Bytes 4 to 15 are sizes: of what it holds, of a block of it, and of all of the chunk (Blosc 1, README_CHUNK_FORMAT).
_BLOSC_HEADER_BYTES = 16
_UNREADABLE = (OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError, ArithmeticError)


def is_zarr(path: Path) -> bool:
    """Tell whether a directory holds Zarr's metadata."""
    return path.is_dir() and any((path / name).is_file() for name in _METADATA)


def list_zarr_arrays(path: Path) -> tuple[str, ...]:
    """Return the keys of all arrays below a directory; "" is the directory itself."""
    files = [file for name in ("zarr.json", ".zarray") for file in sorted(path.rglob(name))]
    return tuple(dict.fromkeys(_key_of(path, file) for file in files if _describes_array(file)))


def has_named_dimensions(path: Path) -> bool:
    """Tell whether a directory is a group of Zarr whose arrays name their dimensions, as xarray writes them.

    A finished store of this project is none: it is no source.
    """
    if not is_zarr(path) or (path / MANIFEST_NAME).is_file():
        return False
    keys = [key for key in list_zarr_arrays(path) if key and "/" not in key]
    return bool(keys) and all(_names_dimensions(path / key) for key in keys)


def refuse_lost_metadata(path: Path) -> None:
    """Refuse a group with a folder that no metadata describe: Zarr would go on without that array.

    Raises:
        SourceError: naming the folder.
    """
    for folder in sorted(path.iterdir()):
        if folder.is_dir() and not folder.name.startswith(".") and not is_zarr(folder):
            raise SourceError(
                f"{path.name}: {folder.name} holds no metadata of Zarr; they are lost, or it is no part of it"
            )


def check_zarr_arrays(path: Path) -> None:
    """Refuse a directory of which any array names a codec that is not on the list, or holds chunks of Blosc that lie.

    For readers that open whole groups, and decode some arrays, such as coordinates, before anyone asks for them.

    Raises:
        SourceError: naming the array, and the codec or the chunk.
    """
    for key in list_zarr_arrays(path):
        folder, where = _locate(path, key)
        # The metadata of either version: it is the reader that chooses.
        for file in _metadata_files(folder):
            _check_codecs(_read_metadata(file), where)
        _check_blosc_chunks(folder, where)


def open_zarr_array(path: Path, key: str) -> zarr.Array[Any]:
    """Open an array of real numbers for reading.

    Args:
        path: directory of the array, or of the group that it lies in.
        key: name of the array in the group, "" for the directory itself.

    Raises:
        SourceError: not there, damaged, with a codec that is not on the list, empty, or no real numbers.
    """
    folder, where = _locate(path, key)
    file = next(_metadata_files(folder), None)
    if file is None or not _describes_array(file):
        keys = list_zarr_arrays(path)
        raise SourceError(f"{path} has no Zarr array {key!r}. {suggest(key, (name or '(itself)' for name in keys))}")
    _check_codecs(_read_metadata(file), where)
    try:
        array = zarr.open_array(folder, mode="r")
    except _UNREADABLE as error:
        raise SourceError(f"{where} cannot be opened; its metadata are damaged: {_one_line(error)}") from error
    if 0 in array.chunks:
        raise SourceError(f"{where} has chunks of {array.chunks}; its metadata are damaged")
    if array.dtype.kind not in "biuf":
        raise SourceError(f"{where} holds {array.dtype} where real numbers must stand")
    if array.size == 0:
        raise SourceError(f"{where} has shape {array.shape} and holds nothing")
    return array


def zarr_shape(path: Path, key: str) -> tuple[int, ...] | None:
    """Return the shape of an array as its metadata tell, also of an empty one; None where there is no such array.

    Raises:
        SourceError: metadata that tell none.
    """
    file = next(_metadata_files(path / key), None)
    if file is None or not _describes_array(file):
        return None
    shape = _read_metadata(file).get("shape")
    if not isinstance(shape, list) or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise SourceError(f"{path.name}: {key} has shape {shape!r:.80} where a list of sizes must stand")
    return tuple(shape)


def read_zarr_attributes(path: Path, key: str = "") -> dict[str, Any]:
    """Return the attributes of an array or a group, none where it has none.

    Raises:
        SourceError: they are no JSON object.
    """
    folder = path / key if key else path
    if (folder / "zarr.json").is_file():
        content = _read_metadata(folder / "zarr.json").get("attributes", {})
    else:
        content = _read_metadata(folder / ".zattrs") if (folder / ".zattrs").is_file() else {}
    if not isinstance(content, dict):
        raise SourceError(f"{folder} has attributes of type {type(content).__name__} where an object must stand")
    return content


def read_zarr_part(array: zarr.Array[Any], place: tuple[int | slice, ...], *, where: str) -> Shaped[np.ndarray, "..."]:
    """Read a part of an array.

    Raises:
        SourceError: its bytes are damaged or cut short.
    """
    try:
        return np.asarray(array[place])
    except _UNREADABLE as error:
        raise SourceError(f"{where} cannot be read; a chunk is damaged or cut short: {_one_line(error)}") from error


def note_absent_chunks(path: Path, key: str) -> str | None:
    """Say how many chunks of an array are not stored, None if all are: Zarr reads them as the fill value.

    Raises:
        SourceError: as `check_zarr_chunks`.
    """
    array = open_zarr_array(path, key)
    check_zarr_chunks(path, key, array)
    absent = array.nchunks - array.nchunks_initialized
    if absent <= 0:
        return None
    _, where = _locate(path, key)
    return f"{where}: {absent} of {array.nchunks} chunks are not stored and were read as {array.fill_value}"


def check_zarr_chunks(path: Path, key: str, array: zarr.Array[Any]) -> None:
    """Refuse chunks that are not there though nothing says what they hold, and chunks of Blosc that lie.

    A chunk that is not stored stands for the fill value, and no metadata of Zarr tell a lost one from one that was
    never written; but where the fill value is null, as it may be in version 2, nothing stands for it. Blosc's decoder
    takes memory, and reads, as the header of a chunk says: it must say the size of the file, and of the chunk. Chunks
    inside of shards are not looked at.

    Raises:
        SourceError: naming the first such file, or how many are not there.
    """
    folder, where = _locate(path, key)
    if array.metadata.fill_value is None and array.nchunks_initialized < array.nchunks:
        raise SourceError(
            f"{where}: {array.nchunks - array.nchunks_initialized} of {array.nchunks} chunks are not stored, and its "
            f"fill value is null, so nothing says what they hold"
        )
    _check_blosc_chunks(folder, where)


def _check_blosc_chunks(folder: Path, where: str) -> None:
    metadata = _read_metadata(next(_metadata_files(folder)))
    codecs = metadata.get("codecs") or [metadata.get("compressor")]
    names = [str(codec.get("name", codec.get("id"))).removeprefix("numcodecs.") for codec in codecs if codec]
    if not names or names[-1] != "blosc":
        return
    try:
        array = zarr.open_array(folder, mode="r")
    except _UNREADABLE:
        # Told when it is opened to be read.
        return
    plain = set(names[:-1]) <= {"bytes", "transpose"} and not metadata.get("filters")
    wanted = int(np.prod(array.chunks, dtype=np.int64)) * array.dtype.itemsize if plain else None
    for file in folder.rglob("*"):
        if file.is_file() and not file.name.startswith((".z", "zarr.json")):
            _check_blosc_header(file, wanted, f"{where}: chunk {file.relative_to(folder).as_posix()}")


def _check_blosc_header(file: Path, wanted: int | None, where: str) -> None:
    with file.open("rb") as handle:
        header = handle.read(_BLOSC_HEADER_BYTES)
    size = file.stat().st_size
    told, block, length = (int.from_bytes(header[at : at + 4], "little") for at in (4, 8, 12))
    if len(header) < _BLOSC_HEADER_BYTES or length != size:
        raise SourceError(f"{where} is damaged or cut short: {size} bytes are there, its header says {length}")
    if (wanted is not None and told != wanted) or not 0 < block <= max(told, 1):
        raise SourceError(
            f"{where} is damaged: its header says {told} bytes in blocks of {block}, and a chunk has "
            f"{'some' if wanted is None else wanted}"
        )


def _locate(path: Path, key: str) -> tuple[Path, str]:
    """Return the directory of an array, and its name for messages."""
    return (path / key, f"{path.name}: {key}") if key else (path, path.name)


def _metadata_files(folder: Path) -> Iterator[Path]:
    """Go through the metadata of an array that are there, of version 3 and of version 2."""
    return (file for name in ("zarr.json", ".zarray") if (file := folder / name).is_file())


def _key_of(path: Path, file: Path) -> str:
    key = file.parent.relative_to(path).as_posix()
    return "" if key == "." else key


def _describes_array(file: Path) -> bool:
    if file.name == ".zarray":
        return True
    try:
        return _read_metadata(file).get("node_type") == "array"
    except SourceError:
        # The array's own error is told when it is opened.
        return True


def _names_dimensions(folder: Path) -> bool:
    if (folder / ".zarray").is_file():
        attributes = folder / ".zattrs"
        return attributes.is_file() and "_ARRAY_DIMENSIONS" in _read_metadata(attributes)
    return _read_metadata(folder / "zarr.json").get("dimension_names") is not None


def _read_metadata(file: Path) -> dict[str, Any]:
    if file.stat().st_size > _MAX_METADATA_BYTES:
        raise SourceError(f"{file} is {file.stat().st_size} bytes long; metadata of an array are not")
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{file} is no valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise SourceError(f"{file} holds a {type(content).__name__} where an object must stand")
    return content


def _check_codecs(metadata: dict[str, Any], where: str) -> None:
    for name in _codec_names(metadata):
        if name not in _CODECS:
            raise SourceError(
                f"{where} has the codec {name!r}; only these are run: {', '.join(sorted(_CODECS))}. Write the array "
                f"anew with one of them"
            )


def _codec_names(metadata: dict[str, Any]) -> Iterator[str]:
    """Go through all codecs, those inside of others too, of version 2 or 3."""
    found = [metadata.get("codecs"), metadata.get("compressor"), metadata.get("filters")]
    if metadata.get("storage_transformers"):
        yield "storage_transformers"
    while found:
        item = found.pop()
        if isinstance(item, list):
            found.extend(item)
        elif isinstance(item, dict):
            yield str(item.get("name", item.get("id"))).removeprefix("numcodecs.")
            inner = item.get("configuration")
            found.extend(inner.get(key) for key in ("codecs", "index_codecs") if isinstance(inner, dict))
        elif item is not None:
            yield str(item).removeprefix("numcodecs.")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
