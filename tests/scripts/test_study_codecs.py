"""The codec study measures every codec that a store may have, and what it says of sizes is what a store takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from ups_data.schema import CodecName


def test_every_codec_is_measured_on_frames_and_pages(run_script: Callable[..., str], tmp_path: Path) -> None:
    output = tmp_path / "study.json"
    sizes = ["--resolution", "32", "--frames", "2", "--rounds", "1", "--page-points", "16"]
    assert "machine: " in run_script("study_codecs.py", *sizes, "--output", output, folder=tmp_path)
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
            assert row["ratio"] == row["rounded_ratio"] == row["row_bytes"] / (row["row_bytes"] + 4)
        elif row["array"] == "fields" and row["is_stored"]:
            assert row["rounded_ratio"] > row["ratio"]
