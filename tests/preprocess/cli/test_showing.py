"""`show`: pictures of what is drawn from a store, and of schedules."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.preprocess.cli.command_line import names_in, parsed, run, told

RunCommand = Callable[..., subprocess.CompletedProcess[str]]


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
