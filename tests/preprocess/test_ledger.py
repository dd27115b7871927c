"""The ledger: what was noted comes back, what was torn does not count, and differences are found by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.ledger import CommittedFile, Ledger, find_difference, read_begun, write_begun
from ups_data.errors import StoreError

FILES = [CommittedFile(path=f"store/a/c/{n}", size_bytes=n, sha256=f"{n:064x}") for n in range(5)]


def noted(folder: Path) -> Ledger:
    ledger = Ledger(folder)
    for file in FILES:
        ledger.add_file(file)
        ledger.add_task(f"task of {file.path}")
    return ledger


def test_what_was_noted_comes_back(tmp_path):
    committed = noted(tmp_path).read()
    assert committed.files == {file.path: file for file in FILES}
    assert committed.tasks == {f"task of {file.path}" for file in FILES}


def test_no_ledger_is_an_empty_one(tmp_path):
    assert Ledger(tmp_path).read().files == {}


def test_a_ledger_cut_anywhere_says_less_and_never_anything_else(tmp_path):
    whole = noted(tmp_path).path.read_bytes()
    lengths = []
    for size in range(len(whole)):
        (tmp_path / "ledger.jsonl").write_bytes(whole[:size])
        files = Ledger(tmp_path).read().files
        assert list(files.values()) == FILES[: len(files)]
        lengths.append(len(files))
    assert lengths == sorted(lengths)
    assert {0, 5} <= set(lengths)


def test_what_follows_a_torn_line_counts(tmp_path):
    ledger = noted(tmp_path)
    with ledger.path.open("ab") as handle:
        handle.write(b'\n0badc0de {"file":["store')
    ledger.add_task("later")
    assert "later" in ledger.read().tasks
    assert len(ledger.read().files) == 5


@given(place=st.integers(0), bit=st.integers(0, 7))
def test_a_flipped_bit_loses_at_most_its_line(tmp_path_factory, place, bit):
    folder = tmp_path_factory.mktemp("ledger")
    ledger = noted(folder)
    content = bytearray(ledger.path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    ledger.path.write_bytes(content)
    found = ledger.read()
    assert len(found.files) + len(found.tasks) >= 9
    assert set(found.files.values()) <= set(FILES)


def test_a_ledger_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "ledger.jsonl").mkdir()
    with pytest.raises(StoreError, match=r"cannot write .*ledger\.jsonl: Is a directory"):
        Ledger(tmp_path).add_task("a")


def test_from_what_it_was_begun(tmp_path):
    assert read_begun(tmp_path) is None
    write_begun(tmp_path, {"settings": {"codec": "none"}}, dest=tmp_path / "s")
    assert read_begun(tmp_path) == {"settings": {"codec": "none"}}
    for text in ("", "{", "[1]"):
        (tmp_path / "begun.json").write_text(text)
        assert read_begun(tmp_path) is None


@pytest.mark.parametrize(
    ("begun", "now", "difference"),
    [
        ({"a": 1, "b": {"c": [1, 2]}}, {"b": {"c": [1, 2]}, "a": 1}, None),
        ({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}}, ("b.c", 2, 3)),
        ({"a": 1}, {"a": 1, "b": 2}, ("b", None, 2)),
        ({"a": 1, "b": 2}, {"a": 1}, ("b", 2, None)),
        ({"a": {"b": 1}}, {"a": None}, ("a", {"b": 1}, None)),
    ],
)
def test_the_first_difference_is_found(begun, now, difference):
    assert find_difference(begun, now) == difference
