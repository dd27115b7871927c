"""Archives hold what they must, the wheel works away from the checkout, dependencies are honest."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import ups_data

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ups_data", "preprocess")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@dataclass(frozen=True, kw_only=True)
class Archives:
    wheel: Path
    sdist: Path


@dataclass(frozen=True, kw_only=True)
class Installed:
    folder: Path
    away: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, from a folder without the checkout and without its traces."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        program = str(self.folder / "bin" / command[0])
        return subprocess.run(
            [program, *command[1:]],
            cwd=self.away,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Archives:
    """Build as a release is built: the sdist from the checkout, the wheel from the sdist."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    built = subprocess.run(command, check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = out.glob("*.whl")
    (sdist,) = out.glob("*.tar.gz")
    return Archives(wheel=wheel, sdist=sdist)


@pytest.fixture(scope="module")
def installed(archives: Archives, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in an environment of its own, which borrows only the dependencies of this one.

    This shows that code and entry points are complete without the checkout. That the declared dependencies
    suffice is shown by the tests of imports below.
    """
    folder = tmp_path_factory.mktemp("installed") / "environment"
    venv.create(folder, with_pip=False, symlinks=True)
    python = str(folder / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(archives.wheel)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    # A folder named by a .pth joins sys.path; its own .pth files, so the editable install, stay unread.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return Installed(folder=folder, away=tmp_path_factory.mktemp("away"))


def package_files() -> set[str]:
    wanted = (path for package in PACKAGES for path in (ROOT / package).rglob("*"))
    return {path.relative_to(ROOT).as_posix() for path in wanted if path.suffix in {".py", ".typed", ".yaml"}}


def wheel_files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_holds_both_packages_and_nothing_else(archives: Archives) -> None:
    files = wheel_files(archives.wheel)
    code = {name for name in files if ".dist-info/" not in name}
    assert code == package_files()
    assert {"ups_data/py.typed", "preprocess/py.typed"} <= code


def test_wheel_carries_licence_and_metadata(archives: Archives) -> None:
    info = f"ups_data-{ups_data.__version__}.dist-info"
    with zipfile.ZipFile(archives.wheel) as archive:
        licence = archive.read(f"{info}/licenses/LICENSE").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    assert "Apache License" in licence
    assert "License-Expression: Apache-2.0" in metadata
    assert re.search(r"Requires-Python: (>=3\.11,<3\.14|<3\.14,>=3\.11)\n", metadata)
    assert "ups-preprocess = preprocess.cli:main" in entry_points


def test_sdist_holds_the_project_and_no_leavings(archives: Archives) -> None:
    with tarfile.open(archives.sdist) as archive:
        files = {name.split("/", 1)[1] for name in archive.getnames()}
    assert package_files() <= files
    assert {
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "pyproject.toml",
        "scripts/test",
        "tests/conftest.py",
    } <= files
    allowed = {"ups_data", "preprocess", "configs", "tests", "scripts", "docs"}
    # hatchling adds the .gitignore that it went by
    single = {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "PKG-INFO", ".gitignore"}
    assert {name.split("/")[0] for name in files} <= allowed | single
    assert not {name for name in files if name.endswith(".pyc")}


def test_version_is_that_of_the_package_and_of_the_changelog(installed: Installed) -> None:
    code = "import ups_data, importlib.metadata as m; print(ups_data.__version__, m.version('ups-data'))"
    result = installed.run("python", "-c", code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [ups_data.__version__] * 2
    assert f"## [{ups_data.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_installed_packages_are_those_of_the_wheel(installed: Installed) -> None:
    result = installed.run("python", "-c", "import ups_data, preprocess; print(ups_data.__file__, preprocess.__file__)")
    assert result.returncode == 0, result.stderr
    for path in result.stdout.split():
        assert Path(path).is_relative_to(installed.folder)


# Imports every submodule first: a public name must not change its meaning once a module of that name is loaded.
RESOLVE_NAMES = """
import importlib, inspect, pkgutil, ups_data
for found in pkgutil.iter_modules(ups_data.__path__, "ups_data."):
    importlib.import_module(found.name)
for name in ups_data.__all__:
    print(name, inspect.ismodule(getattr(ups_data, name)))
"""


def test_public_names_of_the_installed_package_resolve(installed: Installed) -> None:
    result = installed.run("python", "-W", "error", "-c", RESOLVE_NAMES)
    assert result.returncode == 0, result.stderr
    resolved = dict(line.split() for line in result.stdout.splitlines())
    assert {"QueryDataset", "build_loader", "open_store"} <= set(resolved)
    assert [name for name, is_module in resolved.items() if is_module == "True"] == []


@pytest.mark.parametrize("command", [["ups-preprocess", "--help"], ["python", "-m", "preprocess", "--help"]])
def test_installed_command_line_answers(installed: Installed, command: list[str]) -> None:
    result = installed.run(*command)
    assert result.returncode == 0, result.stderr
    assert "convert" in result.stdout


def test_installed_command_line_refuses_a_store_that_is_not_there(installed: Installed) -> None:
    result = installed.run("ups-preprocess", "validate", "nowhere")
    assert result.returncode in {1, 2}
    assert "nowhere" in result.stderr
    assert "Traceback" not in result.stderr


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            yield node.module.split(".")[0]


def imported_distributions(*folders: str) -> set[str]:
    """Return the normalised names of the distributions that the code of some folders imports."""
    modules = {name for folder in folders for path in (ROOT / folder).rglob("*.py") for name in imported_modules(path)}
    providers = importlib.metadata.packages_distributions()
    foreign = modules - set(sys.stdlib_module_names) - set(PACKAGES)
    return {normalised(providers[name][0]) if name in providers else name for name in foreign}


def normalised(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name.group()).lower()


CORE = {normalised(line) for line in PROJECT["dependencies"]}
EXTRAS = {
    normalised(line) for extra, lines in PROJECT["optional-dependencies"].items() if extra != "dev" for line in lines
} - {"ups-data"}


def test_every_core_dependency_is_imported() -> None:
    assert CORE - imported_distributions(*PACKAGES) == set()


def test_every_import_of_the_packages_is_declared() -> None:
    assert imported_distributions(*PACKAGES) - CORE - EXTRAS == set()


def test_every_extra_is_imported() -> None:
    assert EXTRAS - imported_distributions(*PACKAGES, "scripts") == set()


def test_core_and_extras_do_not_overlap() -> None:
    assert CORE.isdisjoint(EXTRAS)


# Imports every module of both packages while the optional modules cannot be imported.
IMPORT_WITHOUT_EXTRAS = """
import importlib, pkgutil, sys

for name in sys.argv[1].split(","):
    sys.modules[name] = None
for package in ("ups_data", "preprocess"):
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
            print(found.name)
"""


def test_every_module_imports_with_the_core_dependencies_alone() -> None:
    providers = importlib.metadata.packages_distributions()
    optional = sorted(module for module, names in providers.items() if normalised(names[0]) in EXTRAS)
    assert "h5py" in optional
    command = [sys.executable, "-c", IMPORT_WITHOUT_EXTRAS, ",".join(optional)]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "ups_data.pages.curve" in result.stdout.split()
