"""What holds for every verb: help, misuse, errors for people and for machines."""

from pathlib import Path

import pytest

import ups_data
from tests.preprocess.cli.command_line import parsed, run, told

VERBS = ("convert", "plan", "status", "repair", "inspect", "validate", "prove", "show", "generate", "pack")


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
