"""`plan` and `status`: what a conversion will do, and how far it is."""

from pathlib import Path

import pytest

import ups_data
from tests.preprocess.cli.command_line import names_in, parsed, run, told


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
