"""What scripts/environment.sh decides: which Python, which torch. The pip command is printed, not run."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ["awk", "bash", "cat", "cksum", "dirname", "grep", "uname"]

Runner = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the commands are bash scripts")


def write_program(path: Path, body: str) -> None:
    path.write_text(f"#!{shutil.which('bash')}\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A PATH of its own that holds the few tools the scripts use, and no Python."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in TOOLS:
        (folder / name).symlink_to(shutil.which(name))
    return folder


@pytest.fixture
def dry_run(programs: Path, tmp_path: Path) -> Runner:
    """Runs a command of a copy without .venv, from another directory, up to the pip command."""
    shutil.copytree(ROOT / "scripts", tmp_path / "project" / "scripts")
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "project")

    def run(script: str = "test", **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(programs), "HOME": str(tmp_path), "UPS_DATA_DRY_RUN": "1", **variables}
        command = [shutil.which("bash"), str(tmp_path / "project" / "scripts" / script)]
        return subprocess.run(command, cwd="/", env=environment, check=False, capture_output=True, text=True)

    return run


def has_real_gpu() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))


def test_takes_the_first_python_that_runs(programs: Path, dry_run: Runner) -> None:
    write_program(programs / "python3.11", "echo 'pyenv: python3.11: command not found' >&2; exit 127")
    (programs / "python3.12").symlink_to(sys.executable)
    result = dry_run()
    assert result.returncode == 0, result.stderr
    assert f"Python: {programs / 'python3.12'} (3.{sys.version_info.minor})" in result.stdout


def test_names_what_to_do_without_a_python(programs: Path, dry_run: Runner) -> None:
    write_program(programs / "python3", "exit 1")
    result = dry_run()
    assert result.returncode == 1
    assert "no Python 3.11, 3.12 or 3.13 was found on PATH" in result.stderr
    assert "UPS_DATA_PYTHON=/path/to/python3.12" in result.stderr


def test_refuses_a_named_python_that_does_not_fit(tmp_path: Path, dry_run: Runner) -> None:
    write_program(tmp_path / "python-of-another-age", "exit 1")
    result = dry_run(UPS_DATA_PYTHON=str(tmp_path / "python-of-another-age"))
    assert result.returncode == 1
    assert "python-of-another-age does not run, or is not Python 3.11 to 3.13" in result.stderr


@pytest.mark.skipif(sys.platform != "linux" or has_real_gpu(), reason="needs Linux without an NVIDIA GPU")
def test_pins_torch_without_a_gpu(dry_run: Runner) -> None:
    result = dry_run(UPS_DATA_PYTHON=sys.executable)
    assert result.returncode == 0, result.stderr
    assert "scripts/constraints-cpu.txt -e" in result.stdout


@pytest.mark.skipif(sys.platform != "linux" or has_real_gpu(), reason="needs Linux without an NVIDIA GPU")
def test_a_driver_without_a_device_counts_as_no_gpu(programs: Path, dry_run: Runner) -> None:
    write_program(programs / "nvidia-smi", "echo 'NVIDIA-SMI has failed'; exit 9")
    assert "constraints-cpu.txt" in dry_run(UPS_DATA_PYTHON=sys.executable).stdout


def test_leaves_torch_open_with_a_gpu(programs: Path, dry_run: Runner) -> None:
    write_program(programs / "nvidia-smi", "echo 'GPU 0: NVIDIA H100 (UUID: GPU-0)'")
    result = dry_run(UPS_DATA_PYTHON=sys.executable)
    assert result.returncode == 0, result.stderr
    assert "pip --disable-pip-version-check install -e" in result.stdout
    assert "constraints" not in result.stdout


@pytest.mark.parametrize(("script", "extra"), [("test", "dev"), ("demo", "demo")])
def test_each_command_installs_its_own_extra(dry_run: Runner, script: str, extra: str) -> None:
    line = dry_run(script, UPS_DATA_PYTHON=sys.executable).stdout.splitlines()[-1]
    assert line.startswith("dry run: ")
    assert line.endswith(rf"\[{extra}\]")


def test_dry_run_makes_nothing(tmp_path: Path, dry_run: Runner) -> None:
    dry_run(UPS_DATA_PYTHON=sys.executable)
    names = sorted(path.name for path in (tmp_path / "project").iterdir())
    assert names == ["pyproject.toml", "scripts"]
