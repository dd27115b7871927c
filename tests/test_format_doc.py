"""docs/format.md tells the truth: its reader, run from the page itself, returns what QueryDataset returns."""

import ast
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest

import ups_data
from preprocess.convert import ConvertSettings, convert
from preprocess.sources.off_grid import OffGridSource
from preprocess.sources.recipes import RECIPES
from tests.memory_source import MemorySource, wave_frames
from tests.ups_data.storage.cases import GEOMETRIES, make_store
from ups_data.random import Stream
from ups_data.schema import CodecName, CurveName, GeometryKind, Manifest, OffGridSpec, SchemeName
from ups_data.storage.tables import TABLE_DTYPES, table_rank

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "format.md").read_text()
(CODE,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
CASES = [(name, "none") for name in GEOMETRIES if name not in {"single_point", "steady"}]  # too small for strata
CASES += [("plane", codec) for codec in ("zstd", "blosc-lz4", "blosc-zstd")] + [("scattered_ragged", "zstd")]


def new_reader(root: Path) -> Any:
    names: dict[str, Any] = {}
    exec(compile(CODE, "docs/format.md", "exec"), names)
    return names["Reader"](root)


def section(number: int) -> str:
    (found,) = re.findall(rf"^## {number}\. .*?(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE)
    return found


# -- the reader ----------------------------------------------------------------------------------------------------


def test_the_reader_stands_on_its_own() -> None:
    tree = ast.parse(CODE)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"json", "pathlib", "numpy", "zarr"}


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("dense", ["auto", "rebuilt"])
def test_its_frames_are_those_of_the_source(name: str, dense: str, tmp_path: Path) -> None:
    source = GEOMETRIES[name]("float32")
    make_store(source, tmp_path / "s", dense=dense)
    reader = new_reader(tmp_path / "s")
    for trajectory, frames in enumerate(source.frames):
        for number, frame in enumerate(frames):
            np.testing.assert_array_equal(reader.read_frame(trajectory, number), frame.reshape(len(frame), -1))


@pytest.mark.parametrize(("name", "codec"), CASES)
def test_its_draws_are_those_of_a_query_dataset(name: str, codec: str, tmp_path: Path) -> None:
    """Points, values, coordinates and weights, to the bit; pages found anew from (seed, sample, epoch)."""
    store = make_store(GEOMETRIES[name]("float64"), tmp_path / "s", codec=codec, page_points=4, num_strata=3)
    reader = new_reader(tmp_path / "s")
    window = ups_data.Window(lead=0)
    samplers = {0.25: ups_data.ImportanceSampler(ratio=0.5), 1.0: ups_data.BalancedSampler(ratio=0.7)}
    for uniform_share, sampler in samplers.items():
        dataset = ups_data.QueryDataset(
            store, sampler=sampler, window=window, seed=11, normalize=False, dtype="float64", split="train"
        )
        assert reader.split("train").tolist() == store.splits["train"].tolist()
        for number in range(len(dataset)):
            for epoch in (0, 5):
                sample = dataset.sample(number, epoch=epoch)
                block = reader.block_of(sample.trajectory, sample.target_frames[0])
                count = int(reader.tables["drawn_points"][block])
                wanted = max(1, round(sampler.amount.ratio(0) * count))
                num_pages = max(1, round(wanted / count * int(reader.tables["stratum_pages"][block].sum())))
                points, values, coordinates, weights = reader.draw(
                    sample.trajectory,
                    sample.target_frames,
                    num_pages,
                    seed=11,
                    sample=number,
                    epoch=epoch,
                    uniform_share=uniform_share,
                )
                np.testing.assert_array_equal(sample.query_index.numpy(), points)
                there = np.isfinite(values)
                np.testing.assert_array_equal(sample.query_targets.numpy(), np.where(there, values, 0.0))
                valid = np.ones_like(there) if sample.target_valid is None else sample.target_valid.numpy()
                np.testing.assert_array_equal(valid, there)
                np.testing.assert_array_equal(sample.query_coords.numpy(), coordinates)
                np.testing.assert_allclose(sample.query_weights.numpy(), weights, rtol=1e-14)


def test_its_weights_are_unbiased_over_all_starts(tmp_path: Path) -> None:
    """The mean over all starts of a stratum's run is the mean of the field, exactly; here over the epochs of a walk."""
    source = MemorySource.grid([wave_frames((30, 30), num_frames=1)])
    make_store(source, tmp_path / "s", page_points=8, num_strata=1, splits={"train": 1.0})
    reader = new_reader(tmp_path / "s")
    num_pages = int(reader.tables["block_pages"][0])
    assert num_pages == 113
    estimates = []
    for epoch in range(num_pages):
        _, values, _, weights = reader.draw(0, [0], 10, seed=3, sample=0, epoch=epoch)
        estimates.append((values[0, :, 0] * weights).sum())
    assert np.mean(estimates) == pytest.approx(source.frames[0].mean(dtype="float64"), rel=1e-12)


# -- what the page states ------------------------------------------------------------------------------------------


def test_every_key_of_a_manifest_is_told(tmp_path: Path) -> None:
    make_store(GEOMETRIES["line"]("float32"), tmp_path / "s")
    content = json.loads((tmp_path / "s" / "manifest.json").read_text())
    content["importance"].pop("metrics")
    content["source"]["files"] = [{"name": "", "size_bytes": 0, "sha256_ends": ""}]
    keys = set(content)
    for part in content.values():
        records = part if isinstance(part, list) else [part]
        keys |= {key for record in records if isinstance(record, dict) for key in record}
    keys |= set(content["geometry"]["axes"][0]) | set(content["source"]["files"][0])
    keys -= set(content["splits"])
    assert len(keys) > 50
    assert {key for key in keys if f"`{key}`" not in section(3)} == set()
    told = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", section(3), re.MULTILINE)
    assert [key for row in told for key in re.findall(r"\w+", row)] == ["fingerprint", *Manifest.model_fields]


# -- points between nodes --------------------------------------------------------------------------------------------


def test_points_between_nodes_are_placed_and_valued_as_told(tmp_path: Path) -> None:
    """Worked out anew from the page and the frames of the grid, read by the page's own reader."""
    source = MemorySource.grid(
        [wave_frames((9, 7), num_frames=2, seed=seed) for seed in range(2)], periodic=(True, False)
    )
    make_store(source, tmp_path / "grid")
    convert(
        OffGridSource(source, OffGridSpec(scheme="cubic", points=60, seed=5)), tmp_path / "points", ConvertSettings()
    )
    grid, reader = new_reader(tmp_path / "grid"), new_reader(tmp_path / "points")
    told = reader.manifest["off_grid"]
    root = {2: 1.3247179572447460}[2]
    assert root**3 == pytest.approx(root + 1)
    for trajectory in range(2):
        random = np.random.Generator(np.random.Philox(key=[told["seed"], 10], counter=[0, 0, trajectory, 0]))
        shifts = random.integers(0, 2**64, size=2, dtype=np.uint64)
        sums = [shifts[d] + np.arange(60, dtype=np.uint64) * np.uint64(root ** -(d + 1) * 2**64) for d in range(2)]
        index, values, coordinates = reader.read_pages(trajectory, [1], range(reader.tables["block_pages"][trajectory]))
        there = index >= 0
        wanted = np.stack([part[index[there]] / 2.0**64 for part in sums], axis=1)
        np.testing.assert_allclose(coordinates[there], wanted, atol=1e-12)
        frame = grid.read_frame(trajectory, 1)[0].reshape(9, 7)
        for (x, y), value in zip(coordinates[there], values[0, there, 0], strict=True):
            places, weights = [], []
            for place, size, periodic in ((x * 9, 9, True), (y * 6, 7, False)):
                first = int(np.floor(place)) - 1
                nodes = np.arange(4) + (first if periodic else min(max(first, 0), size - 4))
                weights.append([np.prod([(place - m) / (j - m) for m in nodes if m != j]) for j in nodes])
                places.append(nodes % size)
            assert value == pytest.approx(weights[0] @ frame[np.ix_(*places)] @ weights[1], abs=1e-5)


def test_every_key_of_points_between_nodes_is_told(tmp_path: Path) -> None:
    source = OffGridSource(GEOMETRIES["plane"]("float32"), OffGridSpec(scheme="linear", ratio=1.0))
    convert(source, tmp_path / "s", ConvertSettings())
    content = json.loads((tmp_path / "s" / "manifest.json").read_text())
    keys = {"off_grid", *content["off_grid"], *content["off_grid"]["deviations"][0]}
    assert {key for key in keys if f"`{key}`" not in section(3)} == set()
    assert list(content) == ["fingerprint", *Manifest.model_fields]
    for choice in SchemeName.__args__:
        assert f'"{choice}"' in section(3)


def test_every_table_is_told_with_its_dtype() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\(.*?\)) \| (\w+) \|", section(4), re.MULTILINE)
    assert {name: dtype for name, _, dtype in rows} == TABLE_DTYPES
    assert {name: len([part for part in shape.strip("()").split(",") if part]) for name, shape, _ in rows} == {
        name: table_rank(name) for name in TABLE_DTYPES
    }


def test_every_choice_is_told() -> None:
    for choices, number in ((CodecName, 5), (CurveName, 3), (GeometryKind, 3)):
        for choice in choices.__args__:
            assert re.search(rf'[`"]{choice}["`]', section(number)), choice
    assert (Stream.DEAL, Stream.DRAW, Stream.OFF_GRID) == (1, 2, 10)
    assert re.findall(r"recipe\s+`(\w+)`", section(8)) == ["turbulence"]
    assert "turbulence" in RECIPES


def test_the_fingerprint_is_made_as_told(tmp_path: Path) -> None:
    source = GEOMETRIES["line"]("float32")
    source.notes = ("grüße",)
    make_store(source, tmp_path / "s")
    content = json.loads((tmp_path / "s" / "manifest.json").read_text())
    stated = content.pop("fingerprint")
    assert hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest() == stated


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_a_shard_is_laid_out_as_told(codec: str, tmp_path: Path) -> None:
    """Read with nothing but NumPy, a checksum and the section on bytes."""
    source = GEOMETRIES["plane"]("float32")
    make_store(source, tmp_path / "s", codec=codec, page_points=8)
    metadata = json.loads((tmp_path / "s" / "pages" / "values" / "zarr.json").read_text())
    rows = metadata["chunk_grid"]["configuration"]["chunk_shape"][0]
    content = (tmp_path / "s" / "pages" / "values" / "c" / "0" / "0" / "0").read_bytes()
    encoded, stated = content[-4 - 16 * rows : -4], content[-4:]
    assert google_crc32c.value(encoded) == int.from_bytes(stated, "little")
    index = np.frombuffer(encoded, dtype="<u8").reshape(rows, 2)
    ends = index.sum(axis=1)
    np.testing.assert_array_equal(index[1:, 0], ends[:-1])
    assert ends[-1] == len(content) - 4 - 16 * rows
    for offset, length in index.tolist():
        row = content[offset : offset + length]
        assert google_crc32c.value(row[:-4]) == int.from_bytes(row[-4:], "little")
        if codec == "none":
            assert length == 3 * 8 * 4 + 4
