"""Zarr arrays: opened only with known codecs, read part by part, damage told by file and array."""

import json
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr

from preprocess.sources.array_files import find_array
from preprocess.sources.zarr_files import (
    check_zarr_arrays,
    is_zarr,
    list_zarr_arrays,
    note_absent_chunks,
    open_zarr_array,
    read_zarr_part,
    refuse_lost_metadata,
)
from ups_data.errors import SourceError

VALUES = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")


def write(folder: Path, version: int, **options: Any) -> Path:
    group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=version)
    array = group.create_array("fields/u", shape=(6, 4), chunks=(1, 4), dtype="float32", **options)
    array[...] = VALUES
    return folder / "a.zarr"


def edit(path: Path, name: str, **changes: Any) -> None:
    file = path / "fields" / "u" / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(("version", "options"), [(2, {}), (3, {}), (3, {"shards": (3, 4)})])
def test_arrays_are_found_opened_and_read(tmp_path: Path, version: int, options: dict[str, Any]) -> None:
    path = write(tmp_path, version, **options)
    assert is_zarr(path)
    assert list_zarr_arrays(path) == ("fields/u",)
    array = open_zarr_array(path, "fields/u")
    np.testing.assert_array_equal(read_zarr_part(array, (slice(1, 3), 2), where="u"), VALUES[1:3, 2])
    assert list_zarr_arrays(path / "fields" / "u") == ("",)
    np.testing.assert_array_equal(open_zarr_array(path / "fields" / "u", "")[...], VALUES)
    with pytest.raises(SourceError, match=r"has no Zarr array 'fields/v'. Did you mean 'fields/u'"):
        open_zarr_array(path, "fields/v")


def test_directories_without_metadata_are_no_zarr(tmp_path: Path) -> None:
    assert not is_zarr(tmp_path)
    (tmp_path / "zarr.json").mkdir()
    assert not is_zarr(tmp_path)


@pytest.mark.parametrize("codec", ["pickle", "json2", "vlen-utf8", "mine.codec"])
def test_codecs_that_are_not_on_the_list_are_never_run(tmp_path: Path, codec: str) -> None:
    path = write(tmp_path, 2)
    edit(path, ".zarray", filters=[{"id": codec}])
    with pytest.raises(SourceError, match=f"a.zarr: fields/u has the codec '{codec}'; only these are run: "):
        open_zarr_array(path, "fields/u")
    path = write(tmp_path, 3)
    inner = {"name": "sharding_indexed", "configuration": {"codecs": [{"name": f"numcodecs.{codec}"}]}}
    edit(path, "zarr.json", codecs=[inner])
    with pytest.raises(SourceError, match=f"has the codec '{codec}'"):
        open_zarr_array(path, "fields/u")


def test_a_pickle_in_a_chunk_is_not_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path(tmp_path / "exploded").touch, ())

    path = write(tmp_path, 2, compressors=None)
    edit(path, ".zarray", filters=[{"id": "pickle", "protocol": 4}])
    payload = numcodecs.Pickle(protocol=4).encode(np.array([Bomb()], dtype=object))
    (path / "fields" / "u" / "0.0").write_bytes(payload)
    with pytest.raises(SourceError, match="has the codec 'pickle'"):
        open_zarr_array(path, "fields/u")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [6, "four"]}, "a.zarr: fields/u cannot be opened; its metadata are damaged"),
        ({"data_type": "float33"}, "a.zarr: fields/u cannot be opened; its metadata are damaged"),
        ({"codecs": []}, "a.zarr: fields/u cannot be opened; its metadata are damaged"),
        ({"shape": [0, 4]}, r"a.zarr: fields/u has shape \(0, 4\) and holds nothing"),
        ({"data_type": "complex64", "fill_value": [0, 0]}, "holds complex64 where real numbers must stand"),
        ({"node_type": "group"}, "has no Zarr array 'fields/u'"),
    ],
)
def test_damaged_metadata_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(tmp_path, 3)
    edit(path, "zarr.json", **changes)
    with pytest.raises(SourceError, match=message):
        open_zarr_array(path, "fields/u")


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 10**5])
def test_metadata_that_are_no_json_object_are_refused(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, 3)
    (path / "fields" / "u" / "zarr.json").write_text(text)
    with pytest.raises(SourceError, match=r"zarr.json (is no valid JSON|holds a list where an object must stand)"):
        open_zarr_array(path, "fields/u")


def test_damage_in_one_chunk_is_met_only_there(tmp_path: Path) -> None:
    path = write(tmp_path, 3)
    chunk = path / "fields" / "u" / "c" / "4" / "0"
    chunk.write_bytes(chunk.read_bytes()[:7])
    array = open_zarr_array(path, "fields/u")
    np.testing.assert_array_equal(read_zarr_part(array, (slice(0, 4),), where="u"), VALUES[:4])
    with pytest.raises(SourceError, match=r"a.zarr: fields/u cannot be read; a chunk is damaged or cut short"):
        read_zarr_part(array, (slice(3, 5),), where="a.zarr: fields/u")


def test_chunks_that_are_not_stored_are_noted(tmp_path: Path) -> None:
    path = write(tmp_path, 3)
    assert note_absent_chunks(path, "fields/u") is None
    (path / "fields" / "u" / "c" / "2" / "0").unlink()
    assert note_absent_chunks(path, "fields/u") == "a.zarr: fields/u: 1 of 6 chunks are not stored and were read as 0.0"


@pytest.mark.parametrize("version", [2, 3])
def test_chunks_that_nothing_speaks_for_are_refused(tmp_path: Path, version: int) -> None:
    path = write(tmp_path, version)
    chunk = path / "fields" / "u" / ("2.0" if version == 2 else "c/2/0")
    if version == 2:
        edit(path, ".zarray", fill_value=None)
        assert note_absent_chunks(path, "fields/u") is None
        chunk.unlink()
        with pytest.raises(SourceError, match=r"a.zarr: fields/u: 1 of 6 chunks are not stored, and its fill value is"):
            note_absent_chunks(path, "fields/u")
    else:
        # Version 3 always has one: what a lost chunk reads as is told, not hidden.
        chunk.unlink()
        assert note_absent_chunks(path, "fields/u") is not None


def blosc_chunk(folder: Path, version: int) -> tuple[Path, Path]:
    blosc = {2: numcodecs.Blosc(cname="lz4"), 3: zarr.codecs.BloscCodec(cname="lz4")}[version]
    path = write(folder, version, compressors=blosc)
    return path, path / "fields" / "u" / ("4.0" if version == 2 else "c/4/0")


LIES = {
    "cut": lambda content: content[:-3],
    "cut in its header": lambda content: content[:7],
    "empty": lambda content: b"",
    "longer": lambda content: content + b"\0",
    "its length": lambda content: content[:12] + b"\xff\xff\xff\x7f" + content[16:],
    "what it holds": lambda content: content[:4] + b"\xff\xff\xff\x7f" + content[8:],
    "less than it holds": lambda content: content[:4] + b"\x04\0\0\0" + content[8:],
    "no block": lambda content: content[:8] + b"\0\0\0\0" + content[12:],
    "a block beyond": lambda content: content[:8] + b"\xff\xff\xff\x7f" + content[12:],
}


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("lie", LIES)
def test_chunks_of_blosc_that_lie_are_refused_before_they_are_decoded(tmp_path: Path, version: int, lie: str) -> None:
    path, chunk = blosc_chunk(tmp_path, version)
    np.testing.assert_array_equal(find_array(path, "fields/u").load(), VALUES)
    chunk.write_bytes(LIES[lie](chunk.read_bytes()))
    place = rf"a.zarr: fields/u: chunk {chunk.relative_to(path / 'fields' / 'u')} is damaged"
    for look in (find_array, note_absent_chunks):
        with pytest.raises(SourceError, match=place):
            look(path, "fields/u")
    with pytest.raises(SourceError, match=place):
        check_zarr_arrays(path)


def test_whole_groups_are_checked_array_by_array(tmp_path: Path) -> None:
    path, _ = blosc_chunk(tmp_path, 2)
    dates = zarr.open_group(path, mode="a").create_array("dates", shape=(9,), chunks=(4,), dtype="<M8[s]")
    dates[...] = np.datetime64("2020-01-01", "s") + np.arange(9)
    check_zarr_arrays(path)
    chunk = path / "dates" / "1"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(SourceError, match=r"a.zarr: dates: chunk 1 is damaged or cut short"):
        check_zarr_arrays(path)


def test_a_folder_without_metadata_is_refused_in_a_group(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    group.create_array("u", shape=(2,), dtype="f4")
    (tmp_path / "g.zarr" / "README.txt").write_text("notes")
    refuse_lost_metadata(tmp_path / "g.zarr")
    (tmp_path / "g.zarr" / "u" / "zarr.json").unlink()
    with pytest.raises(SourceError, match=r"g.zarr: u holds no metadata of Zarr; they are lost"):
        refuse_lost_metadata(tmp_path / "g.zarr")
