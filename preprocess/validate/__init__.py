"""Prove a store sound: every byte against its hash, every number against what the store says of itself.

What is checked, in this order, each problem named with file or trajectory:

* manifest: it reads, and its fingerprint holds;
* files: each is there with size and SHA-256, nothing else lies in the store, and the arrays need all that is listed;
* shards: their indices hold, and name their chunks one after another without a gap;
* tables: sizes, offsets, splits, axes and times agree with the manifest and with each other;
* pages: meshes have a node or a cell for every point; the index of each trajectory is a permutation of its points,
  padded only at the end of pages of the last stratum; coordinates and importance are finite and inside of their
  ranges, and add up to the mass of the strata;
* values: all finite, or missing in fields that may lack values, and those on pages equal to the dense frames bit for
  bit; every chunk's checksum on the way;
* statistics: computed again from all frames; counts and extremes agree exactly, the rest within 1e-9 of the root mean
  square.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preprocess.convert import Progress
from preprocess.validate.contents import check_contents, check_tables
from preprocess.validate.files import (
    check_files,
    check_listing,
    check_shards,
    check_tar_listing,
    check_tar_shards,
    find_damage,
)
from preprocess.validate.findings import CHECKS, Findings, say_nothing
from ups_data.errors import CorruptionError, SchemaError, StoreError
from ups_data.schema import MANIFEST_NAME, Manifest
from ups_data.storage import TarStore, open_store
from ups_data.storage.byte_store import LocalByteStore
from ups_data.storage.tar_format import TAR_MANIFEST_NAME, TarManifest
from ups_data.storage.tar_store import read_tar_manifest
from ups_data.storage.zarr_store import ZarrStore, read_manifest

__all__ = ["CHECKS", "ValidationReport", "find_damage", "validate"]


@dataclass(frozen=True, kw_only=True)
class ValidationReport:
    """What was checked of a store, and what was found.

    Attributes:
        location: the store.
        checks: how many things each check looked at; a check that an earlier problem made impossible is missing.
        problems: one line each, beginning with the check; empty for a sound store.
    """

    location: str
    checks: Mapping[str, int]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every check was made and none found a problem."""
        return not self.problems and set(self.checks) == set(CHECKS)

    def to_dict(self) -> dict[str, Any]:
        """Return the content as JSON knows it."""
        return {
            "ok": self.ok,
            "location": self.location,
            "checks": dict(self.checks),
            "problems": list(self.problems),
        }


def validate(path: Path, *, progress: Progress | None = None) -> ValidationReport:
    """Check every byte of a store against what its writer committed, and what it says against itself.

    Problems are gathered, not raised. Where files are so damaged that the store does not open, what stands in the
    arrays is not looked at. Memory holds the page index and a frame of one trajectory, or the index of one shard.

    Args:
        path: directory of the store.
        progress: called with "files" or "trajectories", how many are done, and how many there are.

    Raises:
        StoreNotFoundError: there is no finished store.
    """
    findings = Findings()
    source = LocalByteStore(path)
    packed = (path / TAR_MANIFEST_NAME).is_file() and not (path / MANIFEST_NAME).exists()
    manifest: Manifest | TarManifest | None = None
    with findings.gathered("manifest", SchemaError, CorruptionError):
        manifest = read_tar_manifest(source) if packed else read_manifest(source)
    findings.count("manifest")
    if manifest is not None:
        name = TAR_MANIFEST_NAME if packed else MANIFEST_NAME
        check_files(path, {name: manifest.files}, source, findings, progress or say_nothing)
        _check_store(path, findings, progress or say_nothing)
    return ValidationReport(location=str(path), checks=findings.checks, problems=findings.problems)


def _check_store(path: Path, findings: Findings, progress: Progress) -> None:
    try:
        store = open_store(path)
        assert isinstance(store, ZarrStore)
    except (StoreError, SchemaError) as error:
        findings.add("tables", f"the store does not open, so its arrays were not looked at: {error}")
        return
    if isinstance(store, TarStore):
        check_tar_listing(store, findings)
        check_tar_shards(store, findings)
    else:
        check_listing(store, findings)
        check_shards(store, findings)
    check_tables(store, findings)
    check_contents(store, findings, progress)
