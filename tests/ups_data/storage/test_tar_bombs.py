"""Small tar stores that would unfold into much are refused at once, in bounded memory."""

import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import ups_data
from preprocess.validate import validate
from tests.ups_data.storage.cases import make_store, plane
from tests.ups_data.storage.test_tar_store import pack_small, relist, rewrite
from ups_data.errors import CorruptionError, SchemaError
from ups_data.storage import TarStore, ZarrStore
from ups_data.storage.tar_format import INDEX_DTYPE, NO_ARRAY, npy_header, tar_header
from ups_data.testing.store_contract import read_digest

MOST_MIB = 64.0
INDEX, TAR = "shards/000000.index.npy", "shards/000000.tar"


class Peak:
    """The growth of this process's memory at its peak, as the kernel counts it."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")
        self._before = self._mib("VmRSS:")

    @property
    def mib(self) -> float:
        return self._mib("VmHWM:") - self._before

    def _mib(self, name: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> TarStore:
    root = tmp_path_factory.mktemp("bombs")
    make_store(plane(), root / "s", page_points=16)
    return pack_small(root / "s", root / "tar", 40_000)


@pytest.fixture
def copied(packed: TarStore, tmp_path: Path) -> Path:
    shutil.copytree(packed.location, tmp_path / "copied")
    return tmp_path / "copied"


def many_members(root: Path) -> None:
    """An index of a million JSON members, each of them sound by itself."""
    members = np.zeros(10**6, dtype=INDEX_DTYPE)
    members["array"] = NO_ARRAY
    (root / INDEX).write_bytes(npy_header(INDEX_DTYPE, len(members)) + members.tobytes())
    relist(root, INDEX)


def huge_tar(root: Path) -> None:
    """A tar file of a tebibyte, all of it but the beginning a hole."""
    with (root / TAR).open("r+b") as file:
        file.truncate(2**40)
    rewrite(root, lambda content: [one.update(size_bytes=2**40) for one in content["files"] if one["key"] == TAR])


def huge_declaration(root: Path) -> None:
    """The largest size that a manifest can state, of a file that has another."""
    rewrite(root, lambda content: [one.update(size_bytes=2**53) for one in content["files"] if one["key"] == TAR])


def nested(root: Path) -> None:
    """A tar file in gzip in gzip: 256 MiB of zeros in a few hundred bytes."""
    content = io.BytesIO()
    with gzip.GzipFile(fileobj=content, mode="wb") as file:
        for _ in range(256):
            file.write(bytes(2**20))
    (root / TAR).write_bytes(gzip.compress(content.getvalue()))
    relist(root, TAR)


def deep_manifest(root: Path) -> None:
    (root / "webdataset.json").write_text("[" * 10**6)


def deep_inner_manifest(root: Path) -> None:
    (root / "zarr/manifest.json").write_text('{"fields":' * 10**5)
    relist(root, "zarr/manifest.json")


def huge_table(root: Path) -> None:
    """The metadata of a table declare 2**50 trajectories."""
    key = "zarr/trajectories/num_frames/zarr.json"
    content = json.loads((root / key).read_text())
    content["shape"] = [2**50]
    (root / key).write_text(json.dumps(content))
    relist(root, key)


BOMBS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a million members": (many_members, r"index\.npy is listed with \d+ bytes where \d+ tell of the \d+ members"),
    "a huge tar": (huge_tar, r"000000\.tar is listed with 1099511627776 bytes, and its rows make \d+ at most"),
    "a huge declaration": (huge_declaration, r"000000\.tar has \d+ bytes, 9007199254740992 were committed"),
    "nested gzip": (nested, r"points outside of its tar file"),
    "a deep manifest": (deep_manifest, "is nested too deeply"),
    "a deep inner manifest": (deep_inner_manifest, "is nested too deeply|is not valid JSON"),
    "a huge table": (huge_table, r"num_frames/zarr\.json (?:ends before byte|is not the file that was committed)"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_when_the_store_is_opened_or_read(name: str, copied: Path) -> None:
    light, message = BOMBS[name]
    light(copied)
    peak = Peak()
    with pytest.raises((CorruptionError, SchemaError), match=message):
        read_digest(ups_data.open_store(copied))
    assert peak.mib < MOST_MIB


@pytest.mark.parametrize("name", sorted(BOMBS.keys() - {"a huge tar"}))
def test_a_bomb_is_a_problem_that_validate_tells(name: str, copied: Path) -> None:
    """A tar file that is huge on the disk, too, is read to its end, a MiB at a time: it is what was asked for."""
    BOMBS[name][0](copied)
    peak = Peak()
    report = validate(copied)
    assert not report.ok
    assert report.problems
    assert peak.mib < MOST_MIB


# -- members that come by in a pipeline ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def groups(packed: TarStore) -> list[dict[str, object]]:
    """What a pipeline hands on of the first shard."""
    found: dict[str, dict[str, object]] = {}
    with tarfile.open(Path(packed.location) / TAR) as tar:
        for member in tar.getmembers():
            key, suffix = member.name.split(".", 1)
            content = tar.extractfile(member)
            assert content is not None
            found.setdefault(key, {"__key__": key, "__url__": TAR})[suffix] = content.read()
    return list(found.values())


def bad_members(kind: str, group: dict[str, object]) -> dict[str, object]:
    array = next(name for name in group if name.endswith(".npy"))
    if kind == "deep description":
        return {**group, "json": b"[" * 10**7}
    if kind == "wide description":
        return {**group, "json": b"[" + b"[]," * 10**7 + b"[]]"}
    if kind == "a million members":
        return {**group, **dict.fromkeys(map("x{}".format, range(10**6)), b"")}
    if kind == "gzip":
        return {**group, array: gzip.compress(bytes(2**28), compresslevel=1)}
    header = npy_header(np.dtype("<f8"), 2**60)
    return {**group, array: header + bytes(64)}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("deep description", "has no description"),
        ("wide description", "has no description"),
        ("a million members", r"has members .* \(10000\d\d in all\) where"),
        ("gzip", "is no array of"),
        ("huge header", "is no array of"),
    ],
)
def test_a_bomb_in_a_pipeline_is_refused(
    kind: str, message: str, packed: TarStore, groups: list[dict[str, object]]
) -> None:
    dataset = ups_data.QueryDataset(packed, sampler=ups_data.BalancedSampler(0.5), split=next(iter(packed.splits)))
    first = next(
        place for place, group in enumerate(groups) if len(dataset.samples_of(int(str(group["__key__"])[1:10])))
    )
    assert list(ups_data.decode_queries(dataset)(groups[:first])) == []
    bad = bad_members(kind, groups[first])
    peak = Peak()
    with pytest.raises(CorruptionError, match=message) as caught:
        list(ups_data.decode_queries(dataset)([bad]))
    assert peak.mib < MOST_MIB
    assert len(str(caught.value)) < 2000


def test_a_tar_of_very_many_tiny_members_is_left_at_the_first(packed: TarStore) -> None:
    """Through a plain pipeline, which reads as it goes; a stream that never ends stands for any number of them."""
    wds = pytest.importorskip("webdataset")
    dataset = ups_data.QueryDataset(packed, sampler=ups_data.BalancedSampler(0.5), split=next(iter(packed.splits)))

    class Endless(io.RawIOBase):
        """Headers of empty members, one after another."""

        def __init__(self) -> None:
            self.count = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:
            block = tar_header(f"t{self.count:09d}-b000000.x.npy", 0)
            self.count += 1
            buffer[: len(block)] = block
            return len(block)

    endless = Endless()
    peak = Peak()
    stream = {"url": "endless.tar", "stream": io.BufferedReader(endless, buffer_size=512)}
    members = wds.tariterators.tar_file_expander([stream])
    with pytest.raises(CorruptionError, match=r"belong|must come"):
        list(ups_data.decode_queries(dataset)(wds.tariterators.group_by_keys(members)))
    assert endless.count < 1000
    assert peak.mib < MOST_MIB


def test_the_stores_here_are_sound(packed: TarStore) -> None:
    assert validate(Path(packed.location)).ok
    assert isinstance(packed, ZarrStore)
