#!/usr/bin/env python
"""Measure what the codecs of a store give: ratio, and speed of encoding and decoding, on smooth and on rough values.

The rows are those of converted stores, dense frames and pages: of a smooth and of a rough field, made at random with
given spectra, and with --darcy of real Darcy flow (fetched by pip, 4 MB, kept in the user's cache). Each row is encoded
and decoded as a store does it, checksum included. Codecs take turns, so that a machine that slows down slows all of
them, and medians over the rounds are told. A store is written at level 5 with the filter `bit`; the other levels and
filters show what another choice would give. One more column tells the ratio after declared rounding of the same values,
as `convert --round-mantissa-bits 12` does it.

Example: scripts/study_codecs.py --darcy --output study_codecs.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import rich.console
import rich.table
import yaml
from jaxtyping import Float32, Shaped

from machine import describe_machine, machine_line
from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from preprocess.sources.datasets import fetch
from ups_data.rounding import round_values
from ups_data.schema import CodecName, RoundingRule
from ups_data.storage.codec import ChunkCodec, Row
from ups_data.storage.zarr_store import FIELDS, VALUES, ZarrStore

CONSOLE = rich.console.Console(highlight=False, width=None if sys.stdout.isatty() else 120)
FILTERS = {"none": numcodecs.Blosc.NOSHUFFLE, "byte": numcodecs.Blosc.SHUFFLE, "bit": numcodecs.Blosc.BITSHUFFLE}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A codec that a store may have, at any level and with any filter.

    Attributes:
        codec: name in the manifest.
        level: of the compressor; 0 for none.
        shuffle: key of `FILTERS`, which Blosc has.
    """

    codec: CodecName
    level: int = 0
    shuffle: str = "none"

    @property
    def is_stored(self) -> bool:
        """Whether stores are written like this."""
        return self in {
            Choice(codec="none"),
            Choice(codec="zstd", level=5),
            Choice(codec="blosc-lz4", level=5, shuffle="bit"),
            Choice(codec="blosc-zstd", level=5, shuffle="bit"),
        }


CHOICES = (
    Choice(codec="none"),
    *(Choice(codec="zstd", level=level) for level in (1, 3, 5, 9)),
    *(Choice(codec="blosc-lz4", level=level, shuffle="bit") for level in (1, 5, 9)),
    *(Choice(codec="blosc-lz4", level=5, shuffle=shuffle) for shuffle in ("byte", "none")),
    *(Choice(codec="blosc-zstd", level=level, shuffle="bit") for level in (1, 3, 5, 9)),
    *(Choice(codec="blosc-zstd", level=5, shuffle=shuffle) for shuffle in ("byte", "none")),
)


@dataclass(frozen=True, kw_only=True)
class LevelledCodec(ChunkCodec):
    """The codec of a store, but for its level and filter."""

    choice: Choice

    def _compressor(self) -> Any:
        level = self.choice.level
        if self.name == "none":
            return None
        if self.name == "zstd":
            return numcodecs.Zstd(level=level)
        shuffle, cname = FILTERS[self.choice.shuffle], self.name.removeprefix("blosc-")
        return numcodecs.Blosc(cname=cname, clevel=level, shuffle=shuffle, typesize=self.item_bytes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """Rows to encode: all of one array of a store."""

    field: str
    array: str
    rows: Shaped[np.ndarray, "row *chunk"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one choice gave on one case; sizes with checksums, speeds in MB (10^6 bytes) of values a second.

    `rounded_ratio` is the ratio where the values keep only some bits of their mantissa.
    """

    field: str
    array: str
    row_bytes: int
    num_bytes: int
    codec: str
    level: int
    shuffle: str
    is_stored: bool
    ratio: float
    rounded_ratio: float
    encode_mb_per_s: float
    decode_mb_per_s: float


def main() -> int:
    """Run the study and print its tables."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as scratch:
        cases = list(make_cases(arguments, Path(scratch)))
    rows = [row for case in cases for row in measure(case, arguments.rounds, arguments.rounding_bits)]
    CONSOLE.print(f"machine: {machine_line()}; medians of {arguments.rounds} rounds")
    for case in cases:
        CONSOLE.print(
            tabulate(
                case,
                [row for row in rows if (row.field, row.array) == (case.field, case.array)],
                arguments.rounding_bits,
            )
        )
    if arguments.output is not None:
        settings = {key: value for key, value in vars(arguments).items() if key != "output"}
        content = {"machine": describe_machine(), "settings": settings, "rows": [asdict(row) for row in rows]}
        arguments.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, default=512, help="nodes per axis of the made fields (512)")
    parser.add_argument("--frames", type=int, default=4, help="frames of each of them (4)")
    parser.add_argument("--page-points", type=int, help="points of a page; chosen by the size otherwise")
    parser.add_argument("--rounds", type=int, default=7, help="of which medians are told (7)")
    parser.add_argument("--rounding-bits", type=int, default=12, help="mantissa bits kept in the last column (12)")
    parser.add_argument("--darcy", action="store_true", help="also the Darcy data, fetched where they are not yet")
    parser.add_argument("--output", type=Path, help="write what was measured as JSON")
    return parser.parse_args()


def make_cases(arguments: argparse.Namespace, folder: Path) -> Iterator[Case]:
    """Convert each data set, and yield its dense frames and its pages."""
    settings = ConvertSettings(codec="none", page_points=arguments.page_points)
    shape = (arguments.frames, arguments.resolution)
    sources = {
        "smooth": [describe(folder, "smooth", make_field(*shape, slope=None))],
        "rough": [describe(folder, "rough", make_field(*shape, slope=-5 / 3))],
    }
    if arguments.darcy:
        files = fetch("neuraloperator-darcy")
        sources["Darcy 16 x 16"] = [files["train_16"], files["test_16"]]
    for field, paths in sources.items():
        convert(open_source(paths), folder / field, settings)
        arrays = ZarrStore(folder / field).arrays
        for key in (FIELDS, VALUES):
            yield Case(field=field, array=key, rows=arrays[key].read_rows(np.arange(arrays[key].spec.num_rows)))


def make_field(frames: int, nodes: int, *, slope: float | None) -> Float32[np.ndarray, "1 time x y"]:
    """Return frames of a random periodic field that drifts and changes: each mode turns at a speed of its own.

    Args:
        frames: how many.
        nodes: per axis.
        slope: of the energy spectrum E(k) ~ k^slope; None for a smooth field, E(k) ~ k exp(-k^2 / 16).
    """
    random = np.random.default_rng(0)
    wave = np.fft.fftfreq(nodes, 1 / nodes)
    k = np.hypot(wave[:, None], wave[None, : nodes // 2 + 1])
    k[0, 0] = 1.0
    # Energy in a ring of radius k is spread over about k modes.
    amplitude = np.exp(-((k / 4) ** 2) / 2) if slope is None else k ** ((slope - 1) / 2)
    amplitude[0, 0] = 0.0
    modes = amplitude * np.exp(2j * np.pi * random.random(k.shape))
    turning = np.exp(0.3j * random.standard_normal(k.shape))
    values = np.stack([np.fft.irfft2(modes * turning**frame, s=(nodes, nodes)) for frame in range(frames)])
    return (values / values.std())[None].astype(np.float32)


def describe(folder: Path, name: str, values: Float32[np.ndarray, "1 time x y"]) -> Path:
    """Write an array and its description, which `open_source` takes."""
    np.save(folder / f"{name}.npy", values)
    content = {
        "format": "arrays",
        "kind": "grid",
        "dims": ["trajectory", "time", "x", "y"],
        "fields": {"u": {"file": f"{name}.npy"}},
        "axes": {axis: {"start": 0.0, "stop": 1.0, "periodic": True} for axis in "xy"},
        "times": {"start": 0.0, "step": 0.1},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def measure(case: Case, rounds: int, rounding_bits: int) -> list[Measured]:
    """Encode and decode all rows with every choice, in turns."""
    seconds: dict[Choice, list[tuple[float, float]]] = {choice: [] for choice in CHOICES}
    sizes: dict[Choice, int] = {}
    for _ in range(rounds):
        for choice in CHOICES:
            sizes[choice], *spent = time_choice(case.rows, choice)
            seconds[choice].append((spent[0], spent[1]))
    million = case.rows.nbytes / 1e6
    rounded = round_values(case.rows, RoundingRule(mantissa_bits=rounding_bits))
    return [
        Measured(
            field=case.field,
            array=case.array,
            row_bytes=case.rows[0].nbytes,
            num_bytes=case.rows.nbytes,
            is_stored=choice.is_stored,
            ratio=case.rows.nbytes / sizes[choice],
            rounded_ratio=case.rows.nbytes / time_choice(rounded, choice)[0],
            encode_mb_per_s=million / statistics.median(encode for encode, _ in seconds[choice]),
            decode_mb_per_s=million / statistics.median(decode for _, decode in seconds[choice]),
            **asdict(choice),
        )
        for choice in CHOICES
    ]


def time_choice(rows: Shaped[np.ndarray, "row *chunk"], choice: Choice) -> tuple[int, float, float]:
    """Return the encoded size, and the seconds of encoding and of decoding all rows; the values must come back."""
    codec = LevelledCodec(name=choice.codec, item_bytes=rows.itemsize, chunk_bytes=rows[0].nbytes, choice=choice)
    started = time.perf_counter()
    chunks = [codec.encode(row) for row in rows]
    encoded_after = time.perf_counter() - started
    encoded = np.frombuffer(b"".join(chunks), dtype=np.uint8)
    out = np.empty((len(rows), rows[0].nbytes), dtype=np.uint8)
    lengths = [len(chunk) for chunk in chunks]
    started = time.perf_counter()
    codec.decode_run(encoded, lengths, out, where=Row(key="study", number=0))
    decoded_after = time.perf_counter() - started
    if out.tobytes() != rows.tobytes():
        raise RuntimeError(f"{choice} does not give back what it was given")
    return encoded.size, encoded_after, decoded_after


def tabulate(case: Case, measured: list[Measured], rounding_bits: int) -> rich.table.Table:
    """Return the table of one case; * marks how stores are written."""
    size = f"{len(case.rows):,} rows of {case.rows[0].nbytes:,} bytes"
    table = rich.table.Table(title=f"{case.field}, {case.array}: {size}", title_justify="left")
    for column in ("codec", "level", "filter", "ratio", "encode MB/s", "decode MB/s", f"ratio at {rounding_bits} bits"):
        table.add_column(column, justify="left" if column in ("codec", "filter") else "right")
    for row in measured:
        table.add_row(
            row.codec + (" *" if row.is_stored else ""),
            str(row.level) if row.level else "-",
            row.shuffle if row.codec.startswith("blosc") else "-",
            f"{row.ratio:.3f}",
            f"{row.encode_mb_per_s:,.0f}",
            f"{row.decode_mb_per_s:,.0f}",
            f"{row.rounded_ratio:.3f}",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
