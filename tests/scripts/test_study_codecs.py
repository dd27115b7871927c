"""The codec study measures every codec that a store may have, and what it says of sizes is what a store takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

from ups_data.schema import CodecName

ROOT = Path(__file__).resolve().parents[2]


def test_every_codec_is_measured_on_frames_and_pages(tmp_path: Path) -> None:
    output = tmp_path / "study.json"
    sizes = ["--resolution", "32", "--frames", "2", "--rounds", "1", "--page-points", "16"]
    result = subprocess.run(
        [sys.executable, ROOT / "scripts" / "study_codecs.py", *sizes, "--output", output],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "machine: " in result.stdout
    content = json.loads(output.read_text())
    assert content["machine"]["processor"]
    rows = content["rows"]
    assert {row["codec"] for row in rows if row["is_stored"]} == set(get_args(CodecName))
    assert {(row["field"], row["array"]) for row in rows} == {
        (field, array) for field in ("smooth", "rough") for array in ("fields", "pages/values")
    }
    for row in rows:
        assert row["num_bytes"] == 2 * 32 * 32 * 4
        assert row["encode_mb_per_s"] > 0
        assert row["decode_mb_per_s"] > 0
        if row["codec"] == "none":
            # Rows as they are, and four bytes of checksum.
            assert row["ratio"] == row["row_bytes"] / (row["row_bytes"] + 4)
