"""Damage done to a store on purpose, by somebody who knows how sizes, hashes and the fingerprint are made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from ups_data.storage import ZarrStore
from ups_data.storage.shard import encode_shard


def file_keys(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def edit_manifest(root: Path, edit: Callable[[dict[str, Any]], object], *, sign: bool = True) -> None:
    """Change a manifest as somebody would who knows how its fingerprint is made."""
    content = json.loads((root / "manifest.json").read_text())
    content.pop("fingerprint")
    edit(content)
    text = json.dumps(content, separators=(",", ":"))
    stated = hashlib.sha256(text.encode()).hexdigest() if sign else "0" * 64
    (root / "manifest.json").write_text(json.dumps({"fingerprint": stated, **content}))


def replace_file(root: Path, key: str, content: bytes) -> None:
    """Replace a file and its entry in the manifest, so that sizes and hashes agree."""
    (root / key).write_bytes(content)

    def update(manifest: dict[str, Any]) -> None:
        entry = next(entry for entry in manifest["files"] if entry["key"] == key)
        entry.update(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    edit_manifest(root, update)


def replace_table(root: Path, name: str, values: np.ndarray) -> None:
    place = "/".join(["0"] * values.ndim)
    payload = values.tobytes()
    content = payload + google_crc32c.value(payload).to_bytes(4, "little")
    replace_file(root, f"trajectories/{name}/c/{place}", content)


def rewrite_rows(root: Path, key: str, edit: Callable[[np.ndarray], object]) -> None:
    """Change the rows of one array and write its shards anew, with checksums, sizes and hashes that agree."""
    array = ZarrStore(root).arrays[key]
    rows = array.read_rows(np.arange(array.spec.num_rows))
    edit(rows)
    for shard in range(array.spec.num_shards):
        first = shard * array.spec.rows_per_shard
        content = encode_shard(array.spec, rows[first : first + array.spec.rows_per_shard])
        replace_file(root, array.spec.shard_key(shard), content)
