"""A summary holds the manifest and sizes that add up to what lies on disk."""

import io
import json
from pathlib import Path

import pytest
import rich.console

from preprocess.inspect import format_bytes, inspect_store
from tests.ups_data.storage.cases import GEOMETRIES, make_store


def printed(store: object) -> str:
    text = io.StringIO()
    rich.console.Console(width=200, file=text).print(inspect_store(store).to_tables())
    return text.getvalue()


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_sizes_are_those_on_disk(name: str, codec: str, tmp_path: Path) -> None:
    source = GEOMETRIES[name]("float32")
    store = make_store(source, tmp_path / "s", codec=codec)
    summary = inspect_store(store)
    files = [path for path in (tmp_path / "s").rglob("*") if path.is_file()]
    assert summary.size_bytes == sum(path.stat().st_size for path in files if path.name != "manifest.json")
    assert sum(summary.part_bytes.values()) == summary.size_bytes
    values = [path for path in files if "pages/values/c" in str(path)]
    assert summary.part_bytes["pages/values"] == sum(path.stat().st_size for path in values)
    assert summary.dense_bytes == sum(array.nbytes for array in source.frames)


def test_the_record_is_json_and_holds_the_manifest(tmp_path: Path) -> None:
    store = make_store(GEOMETRIES["line"]("float32"), tmp_path / "s")
    content = json.loads(json.dumps(inspect_store(store).to_dict(), allow_nan=False))
    assert content["fingerprint"] == store.manifest.fingerprint
    stored = json.loads((tmp_path / "s" / "manifest.json").read_text())
    assert content["manifest"] == {key: stored[key] for key in stored if key not in {"files", "fingerprint"}}
    assert content["num_files"] == len(stored["files"])


def test_no_field_is_read(tmp_path: Path) -> None:
    store = make_store(GEOMETRIES["plane"]("float32"), tmp_path / "s")
    before = store.read_count
    inspect_store(store).to_tables()
    assert store.read_count == before


def test_tables_show_what_a_person_asks(tmp_path: Path) -> None:
    text = printed(make_store(GEOMETRIES["plane"]("float32"), tmp_path / "s"))
    for part in ("velocity.x", "m/s", "24 x 17", "pages/values", "drawn at random", "gradient x 1", "grid, 2-D"):
        assert part in text
    text = printed(make_store(GEOMETRIES["line"]("float32"), tmp_path / "t"))
    assert "nu" in text
    assert "Re" in text
    text = printed(make_store(GEOMETRIES["ragged"]("float32"), tmp_path / "u"))
    assert "points per frame: differs" in text


def test_text_of_a_source_is_not_markup(tmp_path: Path) -> None:
    """A unit like [m] must not be taken for a style."""
    source = GEOMETRIES["plane"]("float32")
    source.notes = ("order [t, x] as [bold]stored[/bold]",)
    source.axes = tuple(axis.model_copy(update={"unit": "[m]"}) for axis in source.axes)
    source.fields = tuple(field.model_copy(update={"unit": "[Pa]"}) for field in source.fields)
    text = printed(make_store(source, tmp_path / "s"))
    assert "order [t, x] as [bold]stored[/bold]" in text
    assert "[m]" in text
    assert "[Pa]" in text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**20, "1.0 MiB"), (5 * 2**30, "5.0 GiB"), (2**41, "2.0 TiB")],
)
def test_format_bytes(count: int, text: str) -> None:
    assert format_bytes(count) == text
