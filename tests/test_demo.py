"""scripts/demo: from nothing to the report; done once, resumed where it stopped, honest about what fails."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import rich.console

from scripts.demo_runner import Note, Runner, Show, Stage, StageError, clear_folder, stamp_of
from ups_data.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
DEMO = [sys.executable, str(ROOT / "scripts" / "demo.py")]
NAMES = ("generate", "convert", "validate", "prove", "stream", "train", "report")
PATIENCE_SECONDS = 300.0

# What a machine's own plain shell has; FORCE_COLOR would make a pipe a terminal.
ENVIRONMENT = {**{key: value for key, value in os.environ.items() if key != "FORCE_COLOR"}, "JAX_PLATFORMS": "cpu"}


def run_demo(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [*DEMO, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, check=False, capture_output=True, text=True)


def skipped(result: subprocess.CompletedProcess[str]) -> tuple[str, ...]:
    """Return the stages that a demo said to have skipped."""
    return tuple(
        name
        for number, name in enumerate(NAMES, start=1)
        if f"{number}/7 {name}: done before in " in result.stdout
        and f"{number}/7 {name}: done in " not in result.stdout
    )


def list_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def damage(store: Path) -> None:
    """Flip a bit in the largest file of a store; size and modification time stay as they are."""
    path = max((path for path in store.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def is_group_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_a_demo_goes_on_where_it_was_skips_what_is_done_and_redoes_what_changed(tmp_path: Path) -> None:
    """One demo for all of it: interrupted in its training, run to the end, again, with a change, and damaged."""
    output = tmp_path / "demo"
    before, kept = interrupt_in_training(output)
    result = run_demo("--quick", "--output", output)
    assert result.returncode == 0, result.stderr
    assert skipped(result) == NAMES[:5]
    assert "(begun before, " in result.stdout
    assert [line.split(":")[0] for line in f"{before}{result.stdout}".splitlines() if ": done in " in line] == [
        f"{number}/7 {name}" for number, name in enumerate(NAMES, start=1)
    ]
    log = [json.loads(line) for line in (output / "runs/sparse/log.jsonl").read_text().splitlines()]
    checkpoint = max(record["step"] for record in kept if record["relative_l2"] is not None)
    assert log[:checkpoint] == kept[:checkpoint]
    assert [record["step"] for record in log] == list(range(1, len(log) + 1))

    assert result.stdout.splitlines()[-1] == f"report: {output / 'report.html'}"
    page = (output / "report.html").read_text(encoding="utf-8")
    check_report(page, output)

    again = run_demo("--quick", "--output", output)
    assert again.returncode == 0, again.stderr
    assert skipped(again) == NAMES
    assert (output / "report.html").read_text(encoding="utf-8") == page

    changed = run_demo("--quick", "--seconds", 1, "--output", output)
    assert changed.returncode == 0, changed.stderr
    assert skipped(changed) == NAMES[:5]

    damage(output / "store")
    (output / "stages" / "validate.json").unlink()
    failed = run_demo("--quick", "--seconds", 1, "--output", output)
    assert failed.returncode == 1
    assert "the store is damaged" in failed.stderr
    assert "Traceback" not in failed.stderr


def interrupt_in_training(output: Path) -> tuple[str, list[dict[str, Any]]]:
    """Begin a demo and interrupt it once its first run has a checkpoint; return what it told, and that run's log."""
    process = subprocess.Popen(
        [*DEMO, "--quick", "--output", str(output)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (output / "runs" / "sparse" / "last.safetensors").exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    told, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130, said
    assert f"the same command goes on from here: scripts/demo --quick --output {output}" in said
    assert "Traceback" not in said
    assert not (output / "report.html").exists()
    lines = (output / "runs/sparse/log.jsonl").read_text().splitlines(keepends=True)
    return told, [json.loads(line) for line in lines if line.endswith("\n")]


def check_report(page: str, output: Path) -> None:
    """Hold the report of a demo against what its stages noted."""
    results = {name: json.loads((output / "stages" / f"{name}.json").read_text())["result"] for name in NAMES}
    for run in ("sparse", "dense"):
        assert f'<data value="{results["train"][run]["error"]!r}">' in page
        assert f'<data value="{float(results["train"][run]["steps"])!r}">' in page
    for row in results["stream"]["rows"]:
        assert f'<data value="{row["shipped_bytes"]!r}">' in page
    sparse, _, dense = results["stream"]["rows"]
    assert sparse["shipped_bytes"] < 0.3 * dense["shipped_bytes"]
    assert sparse["read_bytes"] - sparse["input_bytes"] <= 1.3 * sparse["point_bytes"]


@pytest.mark.slow
def test_ctrl_c_while_fields_are_generated_ends_both_processes(tmp_path: Path) -> None:
    output = tmp_path / "demo"
    process = subprocess.Popen(
        [*DEMO, "--output", str(output)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (output / "raw" / "burgers.partial.npy").exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    # A terminal sends it to every process of the group.
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    while is_group_alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_group_alive(process.pid)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--outptu", "x"], "unrecognized arguments"),
        (["--seconds", "0"], "must be seconds above 0"),
        (["--seconds", "soon"], "invalid"),
        (["--output"], "expected one argument"),
    ],
)
def test_wrong_arguments_are_misuse(arguments: list[str], words: str) -> None:
    result = run_demo(*arguments)
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("options", [[], ["--fresh"]])
def test_files_of_others_are_left_alone(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    before = list_files(tmp_path)
    result = run_demo("--quick", *options, "--output", tmp_path)
    assert result.returncode == 2
    assert "thesis.tex" in result.stderr
    assert list_files(tmp_path) == before


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    result = run_demo("--quick", "--output", path)
    assert result.returncode == 2
    assert f"{path} is a file" in result.stderr
    assert path.read_text() == "precious"


def test_two_demos_do_not_share_a_folder(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text("{}")
    with (tmp_path / "demo.json").open() as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        result = run_demo("--quick", "--output", tmp_path)
    assert result.returncode == 2
    assert "another demo is at work" in result.stderr


def test_help_names_every_option() -> None:
    result = run_demo("--help")
    assert result.returncode == 0
    for option in ("--output", "--quick", "--fresh", "--seconds"):
        assert option in result.stdout


Log = list[str]
MakeRunner = Callable[..., Runner]


@pytest.fixture
def log() -> Log:
    """Names of stages, in the order in which their work was done."""
    return []


@pytest.fixture
def make_runner(tmp_path: Path, log: Log) -> MakeRunner:
    """Makes a runner of two stages: `first` writes its setting to a file, `second` needs it; a stage may be broken."""

    def make(setting: object = 1, *, broken: str = "") -> Runner:
        def work(name: str) -> Callable[[Mapping[str, Note], Show], dict[str, Any]]:
            def run(notes: Mapping[str, Note], show: Show) -> dict[str, Any]:
                log.append(name)
                (tmp_path / "run" / name).mkdir(exist_ok=True)
                (tmp_path / "run" / name / f"part-{len(log)}").write_text(f"{setting}")
                if broken == name:
                    raise StageError("broken")
                return {"notes": sorted(notes)}

            return run

        def stage(name: str, settings: dict[str, object], *needs: str) -> Stage:
            return Stage(
                name=name,
                purpose=f"doing {name}",
                settings=settings,
                needs=needs,
                products=(tmp_path / "run" / name,),
                work=work(name),
                summary=str,
            )

        stages = (stage("first", {"setting": setting}), stage("second", {}, "first"))
        runner = Runner(tmp_path / "run", stages, rich.console.Console(quiet=True))
        runner.run()
        return runner

    return make


def test_done_stages_are_not_done_again(make_runner: MakeRunner, log: Log) -> None:
    notes = make_runner().notes
    assert notes["second"].result == {"notes": ["first"]}
    assert make_runner().notes == notes
    assert log == ["first", "second"]


def test_a_change_reaches_what_depends_on_it(make_runner: MakeRunner, log: Log, tmp_path: Path) -> None:
    make_runner(1)
    make_runner(2)
    assert log == ["first", "second"] * 2
    assert sorted(path.name for path in (tmp_path / "run" / "first").iterdir()) == ["part-3"]


def test_touched_products_are_made_again(make_runner: MakeRunner, log: Log, tmp_path: Path) -> None:
    make_runner()
    (tmp_path / "run" / "first" / "part-1").write_text("by hand")
    make_runner()
    assert log == ["first", "second"] * 2


def test_removed_products_are_made_again(make_runner: MakeRunner, log: Log, tmp_path: Path) -> None:
    make_runner()
    (tmp_path / "run" / "second" / "part-2").unlink()
    make_runner()
    assert log == ["first", "second", "second"]


def test_a_broken_stage_keeps_what_it_made_and_is_begun_again(
    make_runner: MakeRunner, log: Log, tmp_path: Path
) -> None:
    with pytest.raises(StageError, match="broken"):
        make_runner(broken="second")
    make_runner()
    assert log == ["first", "second", "second"]
    assert sorted(path.name for path in (tmp_path / "run" / "second").iterdir()) == ["part-2", "part-3"]


def test_what_an_unfinished_stage_made_from_other_settings_is_removed(
    make_runner: MakeRunner, log: Log, tmp_path: Path
) -> None:
    with pytest.raises(StageError, match="broken"):
        make_runner(1, broken="first")
    make_runner(2)
    assert sorted(path.name for path in (tmp_path / "run" / "first").iterdir()) == ["part-2"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": 1}'])
def test_a_note_that_cannot_be_read_is_as_good_as_none(
    content: str, make_runner: MakeRunner, log: Log, tmp_path: Path
) -> None:
    make_runner()
    (tmp_path / "run" / "stages" / "second.json").write_text(content)
    make_runner()
    assert log == ["first", "second", "second"]


def test_a_cleared_folder_is_gone_and_a_foreign_one_is_not(make_runner: MakeRunner, tmp_path: Path) -> None:
    make_runner()
    clear_folder(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    clear_folder(tmp_path / "never")
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"mine\.txt"):
        clear_folder(tmp_path)


def test_stamps_see_sizes_times_and_absence(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert stamp_of((path,)) is None
    path.write_text("one")
    before = stamp_of((tmp_path,))
    os.utime(path, ns=(1, 1))
    assert before != stamp_of((tmp_path,)) is not None
    assert stamp_of(()) == stamp_of(()) is not None
