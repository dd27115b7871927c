"""The README's commands and code run, and the tests that it names exist."""

import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SETTLED = ("source ", "scripts/demo", "scripts/test")


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the commands of the pipeline, in order; only the training time is cut."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("scripts", "configs"):
        (folder / name).symlink_to(ROOT / name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    commands = [line.strip() for line in section("The pipeline").splitlines() if line.startswith("    ")]
    evaluated = re.findall(r"`(python scripts/evaluate\.py [^`]*)`", section("The pipeline"))
    assert len(evaluated) == 1
    for command in [*commands, *evaluated]:
        if command.startswith(SETTLED):
            continue
        short = re.sub(r"seconds=\d+", "seconds=2", command)
        done = subprocess.run(
            shlex.split(short),
            cwd=folder,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{short}\n{done.stdout}\n{done.stderr}"
    return folder


@pytest.mark.slow
def test_the_code_runs_on_what_the_commands_made(workplace: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == 1
    shapes = textwrap.dedent("""
        assert batch.inputs.shape[1:] == (1, 1, 128, 128)
        assert batch.query_targets.shape[1:] == (4, batch.query_coords.shape[1], 1)
        assert abs(batch.query_coords.shape[1] / 128**2 - 0.05) < 0.005
    """)
    guarded = textwrap.indent(blocks[0] + textwrap.indent(shapes, "    "), "    ")
    script = workplace / "example.py"
    script.write_text(f"if __name__ == '__main__':\n{guarded}", encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], cwd=workplace, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_test_that_is_named_exists() -> None:
    named: list[tuple[str | None, str]] = []
    file = None
    for name in re.findall(r"`((?:tests/[\w/]+\.py)?(?:::\w+)?)`", README):
        if not name:
            continue
        path, _, function = name.partition("::")
        file = path or file
        named.append((file, function))
    assert len(named) > 15
    for file, function in named:
        assert file is not None
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not function or f"def {function}(" in text, f"{file}::{function}"


def test_every_file_that_is_linked_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
