"""The command line: what a person types, what a machine reads, exit status 0, 1, 2 and 130."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import typer.testing
import zarr

import ups_data
from preprocess.cli import app
from tests.memory_source import wave_frames
from ups_data.errors import StoreNotFoundError
from ups_data.schema import ClipSpec

VERBS = ("convert", "plan", "status", "repair", "inspect", "validate", "prove", "show", "generate", "pack")
RunCommand = Callable[..., subprocess.CompletedProcess[str]]
WriteArrays = Callable[..., Path]
DESCRIPTION = """
dims: [trajectory, time, x, y]
fields: {u: {file: u.npy}}
axes: {x: {start: 0, stop: 1}, y: {start: 0, stop: 1}}
times: {start: 0, step: 1}
"""


def run(*arguments: object) -> typer.testing.Result:
    result = typer.testing.CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def parsed(result: typer.testing.Result) -> dict[str, Any]:
    """Return the one JSON object that must be all of standard output."""
    content = json.loads(result.stdout)
    assert isinstance(content, dict)
    return content


def told(result: typer.testing.Result, status: int) -> str:
    """Return the message of a command that must fail with a status and without a traceback."""
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    assert result.stdout == ""
    return " ".join(result.stderr.replace("│", " ").split())


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def waves(tmp_path: Path) -> Path:
    """A description of five trajectories of three frames on 32 x 24 nodes."""
    folder = tmp_path / "raw"
    folder.mkdir()
    values = np.stack([wave_frames((32, 24), seed=seed)[:, 0] for seed in range(5)])
    np.save(folder / "u.npy", values)
    (folder / "waves.yaml").write_text(DESCRIPTION)
    return folder / "waves.yaml"


@pytest.fixture
def store(waves: Path, tmp_path: Path) -> Path:
    assert run("convert", waves, tmp_path / "s").exit_code == 0
    return tmp_path / "s"


# -- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_verb_has_help_with_an_example(verb: str, flag: str) -> None:
    result = run(verb, flag)
    assert result.exit_code == 0
    assert f"Example: ups-preprocess {verb} " in result.stdout
    assert "--json" in result.stdout


def test_the_whole_lists_its_verbs_and_its_version() -> None:
    for verb in VERBS:
        assert f" {verb} " in run("--help").stdout
    assert run("--version").stdout == f"ups-preprocess {ups_data.__version__}\n"


def test_no_verb_is_misuse() -> None:
    result = run()
    assert result.exit_code == 2
    assert "Usage" in result.output


def test_a_verb_with_a_slip_names_the_nearest() -> None:
    assert "No such command 'convrt'. Did you mean 'convert'?" in told(run("convrt"), 2)


# -- convert ---------------------------------------------------------------------------------------------------------


def test_convert_writes_a_store_and_says_so(waves: Path, tmp_path: Path) -> None:
    result = run("convert", waves, tmp_path / "s")
    assert result.exit_code == 0
    assert "5 trajectories (train 3, valid 1, test 1), 15 frames" in result.stdout
    assert "frames: 15 of 15" in result.stderr
    fields = zarr.open_group(tmp_path / "s", mode="r")["fields"][:]
    np.testing.assert_array_equal(fields.reshape(5, 3, 32, 24), np.load(waves.parent / "u.npy"))


def test_convert_for_machines(waves: Path, tmp_path: Path) -> None:
    content = parsed(run("convert", waves, tmp_path / "s", "--json"))
    manifest = ups_data.open_store(tmp_path / "s").manifest
    assert content["ok"] is True
    assert content["fingerprint"] == manifest.fingerprint
    assert (content["num_trajectories"], content["splits"]) == (5, {"train": 3, "valid": 1, "test": 1})
    assert content["size_bytes"] == sum(entry.size_bytes for entry in manifest.files)


def test_what_is_typed_reaches_the_manifest(waves: Path, tmp_path: Path) -> None:
    choices = [
        "--name",
        "mine",
        "--importance",
        "gradient=2,temporal_change=0.5,value",
        "--strata",
        3,
        "--page-points",
        16,
    ]
    more = ["--codec", "zstd", "--split", "train=0.6,test=0.4", "--seed", 7, "--format", "arrays"]
    assert run("convert", waves, tmp_path / "s", *choices, *more).exit_code == 0
    manifest = ups_data.open_store(tmp_path / "s").manifest
    assert (manifest.name, manifest.codec, manifest.splits) == ("mine", "zstd", {"train": 3, "test": 2})
    assert manifest.importance.metrics == {"gradient": 2.0, "temporal_change": 0.5, "value": 1.0}
    assert (manifest.layout.num_strata, manifest.layout.page_points, manifest.layout.seed) == (3, 16, 7)


def test_what_is_typed_stands_above_the_file(waves: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("codec: zstd\nseed: 3\nimportance: {metrics: {gradient: 1}, exponent: 1.5}\ndense: rebuilt\n")
    options = ["--config", config, "--codec", "blosc-lz4", "--importance", "temporal_change=1"]
    assert run("convert", waves, tmp_path / "s", *options).exit_code == 0
    manifest = ups_data.open_store(tmp_path / "s").manifest
    assert (manifest.codec, manifest.layout.seed, manifest.layout.dense) == ("blosc-lz4", 3, "rebuilt")
    assert (manifest.importance.metrics, manifest.importance.exponent) == ({"temporal_change": 1.0}, 1.5)


def test_a_metric_of_ones_own(waves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loud_metrics.py").write_text(
        "import numpy as np\nfrom ups_data.importance import RootMeanSquareMetric\n\n\n"
        "class Loudness(RootMeanSquareMetric):\n    def update(self, frame):\n"
        "        self.add_squares(np.square(frame, dtype=np.float64))\n"
    )
    with monkeypatch.context() as patched:
        patched.syspath_prepend(tmp_path)
        assert run("convert", waves, tmp_path / "s", "--importance", "loud_metrics:Loudness=2").exit_code == 0
    # Reading needs the name alone.
    monkeypatch.delitem(sys.modules, "loud_metrics")
    assert ups_data.open_store(tmp_path / "s").manifest.importance.metrics == {"loud_metrics:Loudness": 2.0}
    assert "loud_metrics:Loudness x 2" in run("inspect", tmp_path / "s").stdout
    assert "loud_metrics" not in sys.modules


def test_the_other_numbers_of_a_recipe_are_typed_beside_the_metrics(waves: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("importance: {exponent: 1.5, clip: {times_mean: 20}}\n")
    typed = ["--importance", "clip.quantile=0.99,floor=0.1"]
    assert run("convert", waves, tmp_path / "s", "--config", config, *typed).exit_code == 0
    recipe = ups_data.open_store(tmp_path / "s").manifest.importance
    assert recipe.metrics == {"gradient": 1.0, "temporal_change": 1.0}
    assert (recipe.exponent, recipe.floor) == (1.5, 0.1)
    assert recipe.clip == ClipSpec(quantile=0.99)
    assert "exponent 1.5, floor 0.1, cut at quantile 0.99" in run("inspect", tmp_path / "s").stdout


def test_options_of_a_format_are_read_as_yaml(tmp_path: Path) -> None:
    path = tmp_path / "mine.h5"
    with h5py.File(path, "w") as file:
        file["tensor"], file["x-coordinate"] = wave_frames((16,), num_frames=4).transpose(1, 0, 2), np.arange(16.0)
        file["t-coordinate"] = np.arange(5.0)
    assert run("convert", path, tmp_path / "s", "--option", "periodic=true").exit_code == 0
    assert ups_data.open_store(tmp_path / "s").manifest.geometry.axes[0].periodic


def test_train_and_test_files_in_one_command(tmp_path: Path) -> None:
    for split, count in (("train", 4), ("test", 2)):
        content = {"x": torch.ones(count, 16, 16, dtype=torch.bool), "y": torch.rand(count, 16, 16)}
        torch.save(content, tmp_path / f"darcy_{split}_16.pt")
    result = run("convert", *sorted(tmp_path.glob("*.pt"), reverse=True), tmp_path / "s")
    assert "6 trajectories (train 4, test 2), 6 frames" in result.stdout


# -- convert: what must be refused, and leave nothing that opens ------------------------------------------------------


def refused(result: typer.testing.Result, status: int, dest: Path) -> str:
    """Return the message of a conversion that must leave nothing at its destination, nor beside it."""
    message = told(result, status)
    assert not dest.exists()
    assert not [name for name in names_in(dest.parent) if name.startswith(".")]
    with pytest.raises(StoreNotFoundError):
        ups_data.open_store(dest)
    return message


@pytest.mark.parametrize("suffix", [".npy", ".h5", ".pt"])
def test_a_truncated_file_is_refused(tmp_path: Path, waves: Path, suffix: str) -> None:
    path = tmp_path / f"darcy_train_16{suffix}"
    if suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["tensor"], file["x-coordinate"] = np.ones((9, 4, 64)), np.arange(64.0)
            file["t-coordinate"] = np.arange(5.0)
    elif suffix == ".pt":
        torch.save({"x": torch.ones(9, 16, 16, dtype=torch.bool), "y": torch.ones(9, 16, 16)}, path)
    else:
        path = waves.parent / "u.npy"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    given = waves if suffix == ".npy" else path
    # A torch archive cut short is no archive any more: which format it has cannot be told.
    message = refused(run("convert", given, tmp_path / "s"), 2 if suffix == ".pt" else 1, tmp_path / "s")
    assert path.name in message


def test_a_truncated_file_of_a_named_format_is_bad_data(tmp_path: Path) -> None:
    (tmp_path / "darcy_train_16.pt").write_bytes(b"PK\x03\x04 and no more")
    result = run("convert", tmp_path / "darcy_train_16.pt", tmp_path / "s", "--format", "neuraloperator")
    assert "is no torch file, damaged or cut short" in refused(result, 1, tmp_path / "s")


def test_a_missing_data_set_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["tensor"], file["t-coordinate"] = np.ones((9, 4, 64)), np.arange(5.0)
    message = refused(run("convert", tmp_path / "a.h5", tmp_path / "s"), 1, tmp_path / "s")
    assert "has no data set 'x-coordinate'. Did you mean 't-coordinate'?" in message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_refused(waves: Path, tmp_path: Path, value: float) -> None:
    values = np.load(waves.parent / "u.npy")
    values[3, 2, 30, 7] = value
    np.save(waves.parent / "u.npy", values)
    message = refused(run("convert", waves, tmp_path / "s"), 1, tmp_path / "s")
    assert f"waves.yaml: trajectory 3, frame 2, channel u, point (30, 7) holds {value}" in message
    assert "missing values are never filled" in message


def test_an_unknown_layout_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["something"] = np.ones((9, 4))
    message = refused(run("convert", tmp_path / "a.h5", tmp_path / "s"), 2, tmp_path / "s")
    assert "a.h5 is in no format that is known here. It holds something." in message


@pytest.mark.parametrize("part", [[], ["--overwrite"]])
def test_foreign_files_are_left_alone(waves: Path, tmp_path: Path, part: list[str]) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "thesis.tex").write_text("years of work")
    message = told(run("convert", waves, tmp_path / "s", *part), 2)
    assert "exists and is no store of ours; it is left alone" in message
    assert (tmp_path / "s" / "thesis.tex").read_text() == "years of work"
    assert names_in(tmp_path) == {"raw", "s"}


def test_a_finished_store_is_replaced_only_when_asked(store: Path, waves: Path) -> None:
    before = (store / "manifest.json").read_bytes()
    message = told(run("convert", waves, store, "--seed", 1), 2)
    assert "already holds a finished store; choose another destination or pass --overwrite" in message
    assert (store / "manifest.json").read_bytes() == before
    assert run("validate", store).exit_code == 0
    assert run("convert", waves, store, "--seed", 1, "--overwrite").exit_code == 0
    assert ups_data.open_store(store).manifest.layout.seed == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "arays"], "there is no format 'arays'. Did you mean 'arrays'?"),
        (["--importance", "gradent=1"], "no importance metric 'gradent'. Did you mean 'gradient'?"),
        (["--importance", "nowhere:Metric=1"], "metric 'nowhere:Metric': module 'nowhere' cannot be imported"),
        (["--importance", "clip=9"], "in importance.clip, has the unknown key ''. Valid names: quantile, times_mean"),
        (["--importance", "clip.times_mean=0.1"], "clip.times_mean: Input should be greater than or equal to 1"),
        (["--importance", "clip.quantile=0.9,clip.times_mean=9"], "clip takes quantile or times_mean, one of them"),
        (["--importance", "json:dumps=1"], "metric 'json:dumps' is of type function and no metric"),
        (["--importance", "gradient=a"], "--importance must be NAME=NUMBER,NAME=NUMBER,..., got 'gradient=a'"),
        (["--importance", "distance:wall"], "'distance:wall' names nothing that distances can be taken to"),
        (["--importance", "gradient=1,gradient=2"], "--importance must name every entry once"),
        (["--importance", "gradient=-1"], "importance.metrics.gradient: Input should be greater than 0"),
        (["--split", "train=0.5,test=0.4"], "shares of the splits must add up to 1"),
        (["--split", "train=nan"], "--split must be NAME=NUMBER,NAME=NUMBER,..., got 'train=nan'"),
        (["--option", "axes"], "--option must be KEY=VALUE, got 'axes'"),
        (["--option", "axes=xy"], "format 'arrays' has no option 'axes'"),
        (["--codec", "gzip"], "'gzip' is not one of 'none', 'zstd', 'blosc-lz4', 'blosc-zstd'"),
        (["--strata", "many"], "'--strata': Input should be a valid integer"),
        (["--strata", "0"], "num_strata: Input should be greater than or equal to 1, got 0"),
        (["--seed", "-1"], "seed: Input should be greater than or equal to 0, got -1"),
        (["--seed", str(2**60)], "seed: Input should be less than or equal to 9007199254740992"),
        (["--name", "a/b"], "name: 'a/b' is no valid name"),
        (["--config", "nowhere.yaml"], "the configuration file nowhere.yaml cannot be read"),
        (["--overwite"], "No such option: --overwite"),
    ],
)
def test_what_is_typed_is_checked(waves: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    assert message in refused(run("convert", waves, tmp_path / "s", *arguments), 2, tmp_path / "s")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("codecs: zstd", "c.yaml has the unknown key 'codecs'. Did you mean 'codec'?"),
        ("importance: {metric: {}}", "c.yaml, in importance, has the unknown key 'metric'. Did you mean 'metrics'?"),
        ("codec: [zstd", "c.yaml is not valid YAML"),
        ("just text", "c.yaml must hold keys and values, it holds a str"),
        ("seed: 1\nseed: 2", "key 'seed' stands twice (line 2, column 1)"),
        ("dense: perhaps", "c.yaml: dense: Input should be 'auto', 'stored' or 'rebuilt', got 'perhaps'"),
    ],
)
def test_the_configuration_file_is_checked(waves: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    result = run("convert", waves, tmp_path / "s", "--config", tmp_path / "c.yaml")
    assert message in refused(result, 2, tmp_path / "s")


def test_paths_are_checked(waves: Path, tmp_path: Path) -> None:
    for sources, message in [
        ([waves.with_name("wave.yaml")], "wave.yaml is not there. Did you mean 'waves.yaml'?"),
        ([waves.parent], "is a directory, and no format's data set; name the files in it"),
        ([waves, waves], "every file can be given once"),
        ([waves.with_name("u.npy")], "does not say what their dimensions mean"),
    ]:
        result = run("convert", *sources, tmp_path / "s")
        assert message in refused(result, result.exit_code, tmp_path / "s")
        assert result.exit_code in {1, 2}
    assert "Missing argument" in told(run("convert", waves), 2)


def test_errors_for_machines(waves: Path, tmp_path: Path) -> None:
    result = run("convert", waves.with_name("wave.yaml"), tmp_path / "s", "--json")
    assert result.exit_code == 2
    error = parsed(result)["error"]
    assert parsed(result)["ok"] is False
    assert error["type"] == "UnknownFormatError"
    assert "wave.yaml is not there" in error["message"]
    assert error["message"] in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json"], "No such option: --json"),
        (["convrt", "--json"], "No such command 'convrt'. Did you mean 'convert'?"),
        (["convert", "--json"], "Missing argument 'SOURCE"),
        (["convert", "--json", "a.h5", "s", "--workers", "many"], "Invalid value for '--workers'"),
        (["inspect", "s", "--json", "--overwrite"], "No such option: --overwrite"),
        (["validate", "s", "t", "--json"], "Got unexpected extra argument"),
    ],
)
def test_misuse_for_machines(arguments: list[str], message: str) -> None:
    """Also what the parser finds before any verb begins: one JSON object, and the message for people beside it."""
    result = run(*arguments)
    assert result.exit_code == 2
    content = parsed(result)
    assert (content["ok"], content["error"]["type"]) == (False, "UsageError")
    assert message in content["error"]["message"]
    assert message.split(":", maxsplit=1)[0] in " ".join(result.stderr.replace("│", " ").split())
    # What stands behind `--` is no option, whatever it looks like.
    assert run("inspect", "--overwrite", "--", "--json").stdout == ""


def test_debug_shows_where_an_error_came_from(tmp_path: Path) -> None:
    result = run("inspect", tmp_path / "nowhere", "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr


def test_metrics_of_grids_are_misuse_on_scattered_points(tmp_path: Path) -> None:
    np.save(tmp_path / "u.npy", np.zeros((2, 3, 40), dtype="float32"))
    np.save(tmp_path / "points.npy", np.random.default_rng(0).random((40, 2)))
    (tmp_path / "cloud.yaml").write_text(
        "kind: points\ndims: [trajectory, time, point]\nfields: {u: {file: u.npy}}\naxes: {x: {}, y: {}}\n"
        "coordinates: {file: points.npy}\ntimes: {start: 0, step: 1}\n"
    )
    chosen = ["--importance", "vorticity=1"]
    message = refused(run("convert", tmp_path / "cloud.yaml", tmp_path / "s", *chosen), 2, tmp_path / "s")
    assert "'vorticity' is defined on grids, not on scattered points; use 'gradient' or 'temporal_change'" in message
    assert run("convert", tmp_path / "cloud.yaml", tmp_path / "s").exit_code == 0


# -- plan --------------------------------------------------------------------------------------------------------------


def test_plan_tells_what_convert_then_does(waves: Path, tmp_path: Path) -> None:
    choices = [
        "--strata",
        3,
        "--page-points",
        16,
        "--split",
        "train=0.6,test=0.4",
        "--seed",
        7,
        "--importance",
        "value=1",
    ]
    planned = run("plan", waves, *choices, "--scratch", tmp_path, "--json")
    assert planned.exit_code == 0
    assert "sample: 4 of 4" in planned.stderr
    assert names_in(tmp_path) == {"raw"}
    content = parsed(planned)
    made = parsed(run("convert", waves, tmp_path / "s", *choices, "--json"))
    assert content["ok"] is True
    assert content["size_bytes"] == content["stored_bytes"] == made["size_bytes"]
    assert (content["splits"], content["num_frames"]) == (made["splits"], made["num_frames"])
    manifest = ups_data.open_store(tmp_path / "s").manifest
    assert content["layout"] == manifest.layout.model_dump(mode="json")
    assert content["importance"] == manifest.importance.model_dump(mode="json")
    assert content["sample"]["seconds"] > 0


def test_plan_for_people(waves: Path) -> None:
    text = run("plan", waves, "--page-points", 8).stdout
    for part in ("32 x 24", "train 3, valid 1, test 1", "as set", "pages/values", "time: about"):
        assert part in text
    assert "no sample was converted" in run("plan", waves, "--sample-mib", 0).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--importance", "gradent=1"], "no importance metric 'gradent'. Did you mean 'gradient'?"),
        (["--codec", "gzip"], "'gzip' is not one of"),
        (["--scratch", "nowhere"], "nowhere is no folder"),
        (["--sample-mib", "-1"], "'--sample-mib'"),
        (["--overwrite"], "No such option: --overwrite"),
    ],
)
def test_what_plan_is_asked_is_checked(waves: Path, arguments: list[str], message: str) -> None:
    assert message in told(run("plan", waves, *arguments), 2)


# -- inspect, validate -------------------------------------------------------------------------------------------------


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


# -- prove, generate ---------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["burger"], "there is no recipe 'burger'. Did you mean 'burgers'?"),
        (["burgers", "--frames", "1"], "num_frames: Input should be greater than or equal to 2, got 1"),
        (["burgers", "--resolution", "4"], "resolution: Input should be greater than or equal to 8, got 4"),
        (["burgers", "--viscosity", "-1"], "viscosity: Input should be greater than 0, got -1"),
        (["burgers", "--trajectories", "0"], "num_trajectories: Input should be greater than or equal to 1, got 0"),
    ],
)
def test_what_generate_is_asked_is_checked(tmp_path: Path, arguments: list[str], message: str) -> None:
    recipe, *options = arguments
    assert message in told(run("generate", recipe, tmp_path / "raw", *options), 2)
    assert not (tmp_path / "raw").exists()


# -- show --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["picture.png", "picture.html"])
def test_show(store: Path, tmp_path: Path, name: str) -> None:
    arguments = ["show", store, "--ratio", 0.25, "--frame", 1, "--output", tmp_path / name]
    assert f"{tmp_path / name}: s: u, trajectory 0, frame 1, t = 1" in run(*arguments).stdout
    content = parsed(run(*arguments, "--json"))
    assert content["ok"] is True
    assert content["drawn points"] == "192 (25.00%)"
    assert names_in(tmp_path) == {"raw", "s", name}


def test_show_draws_a_schedule_without_a_store(tmp_path: Path) -> None:
    ramp = ["--schedule", "linear", "--start", 1.0, "--end", 0.1, "--steps", 10000]
    content = parsed(run("show", *ramp, "--output", tmp_path / "ramp.png", "--json"))
    assert (content["title"], content["step 5,500"]) == ("Schedule linear: 1 to 0.1", "0.505")
    jumps = ["--schedule", "step", "--values", "1,0.5,0.1", "--boundaries", "10,100"]
    assert run("show", *jumps, "--output", tmp_path / "jumps.html").exit_code == 0
    assert names_in(tmp_path) == {"ramp.png", "jumps.html"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frame", "3"], "has no frame 3 of trajectory 0: it holds 3, counted from 0 to 2"),
        (["--trajectory", "5"], "has no trajectory 5: it holds 5, counted from 0 to 4"),
        (["--field", "v"], "has no field or channel 'v'. Valid names: u"),
        (["--sampler", "importence"], "there is no sampler 'importence'. Did you mean 'importance'?"),
        (["--ratio", "2"], "ratio must lie in (0, 1], got 2"),
        (["--output", "a.jpg"], "pictures end in .png or .html, got 'a.jpg'"),
        (["--output", "nowhere/a.png"], "the folder nowhere of a.png is not there"),
        (["--schedule", "linear"], "show takes a store, or --schedule NAME, one of them"),
    ],
)
def test_what_show_is_asked_is_checked(store: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    options = ["--ratio", 0.25, "--output", tmp_path / "picture.png"]
    assert message in told(run("show", store, *options, *arguments), 2)
    assert names_in(tmp_path) == {"raw", "s"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "show takes a store, or --schedule NAME, one of them"),
        (["--schedule", "liner", "--start", "1"], "there is no schedule 'liner'. Did you mean 'linear'?"),
        (["--schedule", "linear", "--start", "1"], "schedule 'linear' takes end, start, steps and, if wanted, begin"),
        (["--schedule", "constant", "--start", "1", "--end", "2"], "schedule 'constant' takes start"),
        (["--schedule", "step", "--values", "1,0.5", "--boundaries", "9,a"], "--boundaries must be NUMBER,NUMBER,..."),
        (["--schedule", "step", "--values", "1,nan", "--boundaries", "9"], "--values must be NUMBER,NUMBER,..."),
        (["--schedule", "step", "--values", "1", "--boundaries", "9"], "a step schedule needs rising boundaries"),
        (["--schedule", "exponential", "--start", "0", "--end", "1", "--steps", "9"], "needs positive ends"),
    ],
)
def test_what_is_asked_of_a_schedule_is_checked(tmp_path: Path, arguments: list[str], message: str) -> None:
    assert message in told(run("show", *arguments, "--output", tmp_path / "a.png"), 2)
    assert names_in(tmp_path) == set()


def test_show_without_matplotlib_names_the_extra(run_command: RunCommand, store: Path) -> None:
    code = "import sys; sys.modules['matplotlib'] = None\nfrom preprocess.cli import main\nmain()"
    result = run_command("show", store, "--output", "a.png", code=code)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.endswith('is not installed: pip install "ups-data[plots]"\n')


# -- processes of their own ---------------------------------------------------------------------------------------


def test_generate_convert_validate(run_command: RunCommand, tmp_path: Path) -> None:
    sizes = ["--trajectories", 3, "--frames", 3, "--resolution", 32]
    made = run_command("generate", "burgers", "raw", *sizes, "--json")
    assert made.returncode == 0, made.stderr
    content = json.loads(made.stdout)
    assert content["size_bytes"] == (tmp_path / "raw" / "burgers.npy").stat().st_size
    assert run_command("convert", content["description"], "s").returncode == 0
    assert run_command("validate", "s").returncode == 0
    fields = zarr.open_group(tmp_path / "s", mode="r")["fields"][:].reshape(3, 3, 32, 32)
    np.testing.assert_array_equal(fields, np.load(tmp_path / "raw" / "burgers.npy"))
    again = run_command("generate", "burgers", "raw", *sizes)
    assert again.returncode == 2
    assert "is there already; choose another folder or name, or pass --overwrite" in again.stderr


def test_status_and_streams_of_a_process(run_command: RunCommand, waves: Path) -> None:
    good = run_command("convert", waves, "s", "--json")
    assert (good.returncode, json.loads(good.stdout)["ok"]) == (0, True)
    assert good.stderr == "frames: 15 of 15\n"
    bad = run_command("convert", waves, "s")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("error: ")
    assert run_command("--help").returncode == 0


# The signal comes before the given rename: the first, one in the middle, the manifest's, the one that names the store.
INTERRUPTED = """
import os, signal, sys
number, renames = int(sys.argv.pop(1)), 0

def count(event, arguments):
    global renames
    if event == "os.rename":
        renames += 1
        if renames == number:
            os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(count)
from preprocess.cli import main
try:
    main()
finally:
    print("renames:", renames, file=sys.stderr)
"""


def test_an_interrupted_conversion_goes_on_by_the_same_command(
    run_command: RunCommand, waves: Path, tmp_path: Path
) -> None:
    whole = run_command(0, "convert", waves, "whole", "--name", "same", code=INTERRUPTED)
    assert whole.returncode == 0, whole.stderr
    renames = int(whole.stderr.rsplit(maxsplit=1)[-1])
    for number in (1, renames // 2, renames - 1, renames):
        command = ("convert", waves, f"s{number}", "--name", "same")
        result = run_command(number, *command, code=INTERRUPTED)
        assert result.returncode == 130, result.stderr
        assert "interrupted" in result.stderr
        assert "Traceback" not in result.stderr
        # Before the first shard is in place, nothing is worth keeping.
        kept = names_in(tmp_path) - {"raw", "whole"}
        assert kept == (set() if number == 1 else {f".s{number}.partial"})
        assert ("the same command goes on from there" in result.stderr) == bool(kept)
        assert run("convert", waves, tmp_path / f"s{number}", "--name", "same").exit_code == 0
        left, right = (
            {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
            for root in (tmp_path / f"s{number}", tmp_path / "whole")
        )
        assert left == right
        shutil.rmtree(tmp_path / f"s{number}")
        assert names_in(tmp_path) == {"raw", "whole"}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_process_of_a_shell(waves: Path, tmp_path: Path, workers: int) -> None:
    """SIGINT from outside, as Ctrl-C sends it to all processes of a terminal, while a large conversion works."""
    values = np.concatenate([np.load(waves.parent / "u.npy")] * 1600)
    np.save(waves.parent / "u.npy", values)
    command = [sys.executable, "-m", "preprocess", "convert", str(waves), str(tmp_path / "s"), "--json"]
    process = subprocess.Popen(
        [*command, "--workers", str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not list(tmp_path.glob(".s.partial/store/pages/values/c/*")):
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate()
    assert process.returncode == 130, errors
    assert output == ""
    assert "the same command goes on from there" in errors
    assert "Traceback" not in errors
    assert names_in(tmp_path) == {"raw", ".s.partial"}


# -- parts -------------------------------------------------------------------------------------------------------------


def test_parts_by_the_command_line(waves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preprocess.settings._MIB", 256)
    monkeypatch.setattr("preprocess.partition._TRAJECTORY_BYTES", 0)
    command = ["convert", waves, tmp_path / "s", "--name", "same"]
    content = parsed(run(*command, "--part", "2/2", "--json"))
    assert (content["part"], content["num_parts"], content["parts_left"]) == (2, 2, [1])
    message = told(run(*command, "--commit"), 2)
    assert "cannot be committed before all parts are done; run part 1/2 (not begun), then commit again" in message
    assert "parts left" not in run(*command, "--part", "1/2").stdout
    assert "5 trajectories (train 3, valid 1, test 1)" in run(*command, "--commit").stdout
    assert run("convert", waves, tmp_path / "whole", "--name", "same").exit_code == 0
    left, right = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "s", tmp_path / "whole")
    )
    assert left == right
    assert names_in(tmp_path) == {"raw", "s", "whole"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--part", "3"], "a part is NUMBER/COUNT, 1/8 to 8/8, got '3'"),
        (["--part", "9/8"], "a part must be one of 1/8 to 8/8, got 9/8"),
        (["--part", "1/2", "--commit"], "--part does one part and --commit puts all of them together"),
        (["--commit"], "was begun, so there is nothing to commit"),
        (["--dask", "localhost"], "--dask takes the address of a scheduler, tcp://HOST:PORT"),
        (["--dask", "tcp://127.0.0.1:9", "--workers", 2], "a cluster has workers of its own"),
    ],
)
def test_what_is_asked_of_parts_and_clusters_is_checked(
    waves: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    assert message in refused(run("convert", waves, tmp_path / "s", *arguments), 2, tmp_path / "s")


def test_a_cluster_without_dask_names_the_extra(run_command: RunCommand, waves: Path) -> None:
    code = "import sys; sys.modules['distributed'] = None\nfrom preprocess.cli import main\nmain()"
    result = run_command("convert", waves, "s", "--dask", "tcp://127.0.0.1:9", code=code)
    assert (result.returncode, result.stdout) == (2, "")
    assert 'dask.distributed is not installed: pip install "ups-data[dask]"' in result.stderr


# -- status, repair ----------------------------------------------------------------------------------------------------


def test_status(store: Path, tmp_path: Path) -> None:
    assert f"{store} is a finished store of " in run("status", store).stdout
    content = parsed(run("status", store, "--json"))
    assert (content["ok"], content["state"]) == (True, "finished")
    assert "there is no store at" in told(run("status", tmp_path / "nowhere"), 2)


def test_status_of_what_is_not_finished(waves: Path, tmp_path: Path) -> None:
    assert run("convert", waves, tmp_path / "s", "--part", "2/2").exit_code == 0
    text = run("status", tmp_path / "s").stdout
    for part in ("1 of 1 tasks done", "it does not run now", "begun ", "part 2/2: 1 tasks done, does not run"):
        assert part in text
    content = parsed(run("status", tmp_path / "s", "--json"))
    assert (content["state"], content["running"], content["tasks_done"]) == ("unfinished", False, 1)
    assert content["parts"] == [{"number": 2, "count": 2, "tasks_done": 1, "running": False}]


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
