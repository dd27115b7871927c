"""`inspect`, `validate`, `prove` and `repair`: what stands in a store, and whether it can be trusted."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.preprocess.cli.command_line import parsed, run, told


def test_inspect(store: Path) -> None:
    text = run("inspect", store).stdout
    for part in ("32 x 24", "train 3, valid 1, test 1", "gradient x 1", "pages/values"):
        assert part in text
    content = parsed(run("inspect", store, "--json"))
    assert content["ok"] is True
    assert content["manifest"]["geometry"]["shape"] == [32, 24]


def test_validate_passes_a_sound_store(store: Path) -> None:
    result = run("validate", store)
    assert result.exit_code == 0
    assert f"{store} is intact" in result.stdout
    assert parsed(run("validate", store, "--json"))["ok"] is True


def test_validate_names_a_damaged_file(store: Path) -> None:
    shard = next((store / "pages" / "values" / "c").rglob("0"))
    while shard.is_dir():
        shard = next(shard.iterdir())
    content = bytearray(shard.read_bytes())
    content[1000] ^= 4
    shard.write_bytes(content)
    result = run("validate", store)
    assert result.exit_code == 1
    assert "problem: " in result.stdout
    assert "pages/values/c/0/0/0" in result.stdout
    content = run("validate", store, "--json")
    assert content.exit_code == 1
    assert parsed(content)["ok"] is False


@pytest.mark.parametrize("verb", ["inspect", "validate", "prove"])
def test_a_store_that_is_not_there_is_misuse(verb: str, store: Path, tmp_path: Path) -> None:
    assert f"there is no store at {tmp_path / 'nowhere'}" in told(run(verb, tmp_path / "nowhere"), 2)
    (tmp_path / "empty").mkdir()
    assert "holds no manifest.json, so it is no finished store" in told(run(verb, tmp_path / "empty"), 2)
    assert "is a file, and a store is a directory" in told(run(verb, store / "manifest.json"), 2)


@pytest.mark.parametrize("verb", ["inspect", "prove"])
def test_a_damaged_store_is_bad_data(verb: str, store: Path) -> None:
    shutil.rmtree(store / "pages" / "index" / "c")
    assert "pages/index/c/0/0 is missing; restore it or convert again" in told(run(verb, store), 1)


def test_prove(store: Path) -> None:
    arguments = ["prove", store, "--ratio", 0.25, "--draws", 200, "--sampler", "balanced", "--sampler", "importance"]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "importance" in result.stdout
    found = parsed(run(*arguments, "--json", "--error", 0.2))
    assert found["ok"] is True
    assert found["sizes"]["wanted_error"] == 0.2


def test_prove_refuses_the_bias_of_weights_only_if_asked(store: Path) -> None:
    arguments = ["prove", store, "--ratio", 0.25, "--draws", 200, "--sampler", "importance", "--no-layouts"]
    result = run(*arguments, "--weights", "none", "--json")
    assert result.exit_code == 0
    assert max(row["share"] for row in parsed(result)["bias"]) > 0.5
    assert run(*arguments, "--weights", "none", "--strict").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "trian"], "has no split 'trian'. Did you mean 'train'?"),
        (["--sampler", "importence"], "'importence'. Did you mean 'importance'?"),
        (["--ratio", "2"], "ratio must lie in (0, 1], got 2"),
        (["--draws", "1"], "'--draws'"),
        (["--weights", "nine"], "there are no weights 'nine'. Did you mean 'none'?"),
        (["--error", "2"], "error is a relative standard error between 0 and 1, got 2"),
    ],
)
def test_what_prove_is_asked_is_checked(store: Path, arguments: list[str], message: str) -> None:
    assert message in told(run("prove", store, *arguments), 2)


def test_repair(store: Path, waves: Path) -> None:
    assert f"{store} is intact" in run("repair", store, waves).stdout
    shard = store / "pages" / "values" / "c" / "0" / "0" / "0"
    before = shard.read_bytes()
    shard.write_bytes(before[:-1])
    result = run("repair", store, waves)
    assert "rebuilt: " in result.stdout
    assert "1 of " in result.stdout
    assert shard.read_bytes() == before
    shard.unlink()
    content = parsed(run("repair", store, waves, "--json"))
    assert (content["ok"], content["rebuilt"]) == (True, ["pages/values/c/0/0/0"])
    np.save(waves.parent / "u.npy", np.zeros((5, 3, 32, 24)))
    shard.unlink()
    assert "was not made from these files: u.npy has" in told(run("repair", store, waves), 1)
    assert run("validate", store).exit_code == 1
