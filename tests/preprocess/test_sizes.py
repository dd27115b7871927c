"""Errors of draws by their size: exact, and held against draws and against formulas worked out here."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import numpy as np
import pytest

from preprocess.convert import ConvertSettings, convert
from preprocess.prove import SizeReport, SizeRow, measure_sizes, prove
from preprocess.prove.integrands import choose_frames
from preprocess.prove.size_records import SPREAD
from preprocess.show import picture_proof
from tests.memory_source import MemorySource, cloud, wave_frames
from ups_data.pages import draw_variances, uniform_variance
from ups_data.samplers import BalancedSampler, DrawKey, ImportanceSampler
from ups_data.storage import Store, open_store


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path: Path = tmp_path_factory.mktemp("sizes") / "store"
    frames = [wave_frames((40, 36), num_frames=4, num_channels=2, seed=seed) for seed in range(2)]
    convert(MemorySource.grid(frames, periodic=(True, False)), path, ConvertSettings(page_points=8, num_strata=3))
    return open_store(path)


def row_of(report: SizeReport, *key: object) -> SizeRow:
    found = [row for row in report.rows if (row.sampler, row.channel, row.integrand, row.ratio) == key]
    assert len(found) == 1
    return found[0]


def test_errors_are_those_that_draws_have(plane: Store) -> None:
    report = prove(plane, samplers=["uniform", "balanced", "importance"], ratio=0.1, draws=2000, error=0.05)
    assert report.sizes is not None
    for sampler in report.sizes.samplers:
        for channel in plane.manifest.channel_names:
            wanted = (sampler, channel, "change")
            rows = [row for row in report.rows if (row.sampler, row.channel, row.integrand) == wanted]
            measured = math.sqrt(statistics.fmean((row.std / row.truth) ** 2 for row in rows))
            exact = row_of(report.sizes, sampler, channel, "change", 0.1)
            assert exact.error == pytest.approx(measured, rel=0.06)
            worth = statistics.geometric_mean(row.multiplier for row in rows)
            assert exact.multiplier == pytest.approx(worth, rel=0.12)


def test_the_gradient_is_that_of_a_decoder_at_its_optimum(plane: Store) -> None:
    report = measure_sizes(plane, trajectories=[1], ratio=0.1, wanted=0.05, num_frames=1)
    (frame,) = choose_frames(plane.num_frames(1), 1)
    x, y = ((part - part.min()) / (part.max() - part.min()) * 2 * np.pi for part in plane.coordinates(1).T)
    waves = [(a, b) for a in range(3) for b in range(-2, 3) if (a, b) > (0, -1)]
    modes = np.stack([wave(a * x + b * y) for a, b in waves for wave in (np.cos, np.sin)])
    modes = modes[np.abs(modes).max(axis=1) > 0]  # without the sine of the constant
    field = plane.read_dense(1, [frame])[0].astype(np.float64)
    fitted, *_ = np.linalg.lstsq(modes.T, field.T, rcond=None)
    layout = plane.layout(1, 0)
    index = plane.read_page_points(1, np.arange(layout.num_pages), 0).index.reshape(layout.num_pages, -1)
    for number, channel in enumerate(plane.manifest.channel_names):
        values = (modes * (field[number] - modes.T @ fitted[:, number])).T
        assert np.abs(values.mean(axis=0)).max() < 1e-9 * np.abs(values).max()
        for sampler in (BalancedSampler(0.1), ImportanceSampler(0.1)):
            draw = sampler.draw(layout, DrawKey(seed=0, epoch=0, sample=0))
            uniform = uniform_variance(values, float((index[draw.pages] >= 0).sum())).sum()
            worth = uniform / draw_variances(layout, index, [draw], values).sum()
            assert row_of(report, sampler.name, channel, SPREAD, 0.1).multiplier == pytest.approx(worth, rel=1e-6)


def test_the_ratio_for_an_error_is_found_between_those_worked_out() -> None:
    def report(wanted: float) -> SizeReport:
        options = {"channel": "u", "integrand": "change", "multiplier": 1.0}
        rows = [SizeRow(sampler="uniform", ratio=ratio, error=0.01 / ratio, **options) for ratio in (0.1, 0.2, 0.4)]
        return SizeReport(wanted=wanted, ratio=0.1, rows=tuple(rows))

    assert report(0.08).ratio_for("uniform", "u") == pytest.approx(0.125)
    assert report(0.025).ratio_for("uniform", "u") == pytest.approx(0.4)
    assert report(0.3).ratio_for("uniform", "u") == 0.1
    assert report(0.02).ratio_for("uniform", "u") is None
    assert next(report(0.08).lines()).endswith("8% of the dense change of u draw: uniform 12.5 %")
    assert next(report(0.02).lines()).endswith("draw: uniform more than was tried")


@pytest.mark.parametrize("kind", ["cloud", "steady", "missing", "constant"])
def test_fields_of_every_kind(kind: str, tmp_path: Path) -> None:
    frames = [wave_frames((24, 20), num_frames=1 if kind == "steady" else 3, seed=seed) for seed in range(2)]
    source = MemorySource.grid(frames)
    if kind == "cloud":
        clouds = [cloud(count, 3, seed=count) for count in (200, 310)]
        source = MemorySource.points([np.cumsum(one.T[None].repeat(3, 0), 0)[:, :2] for one in clouds], clouds)
    elif kind == "missing":
        for frame in frames:
            frame[:, :, :5] = np.nan
        source = MemorySource.grid(frames, missing=["u0"])
    elif kind == "constant":
        source = MemorySource.grid([np.full_like(frame, 2.0) for frame in frames])
    convert(source, tmp_path / "store", ConvertSettings(page_points=4, num_strata=2))
    report = measure_sizes(open_store(tmp_path / "store"), trajectories=[0, 1], ratio=0.2, wanted=0.5)
    assert report.integrand == ("square" if kind == "steady" else "change")
    errors = [row.error for row in report.rows if row.error is not None]
    if kind == "constant":
        assert not errors
        assert list(report.lines()) == []
    else:
        assert all(0 <= error < 5 for error in errors)
        assert all(row.multiplier > 0.1 for row in report.rows if row.multiplier is not None)
        assert any("spread over the whole field" in line for line in report.lines())
    report.to_table()


def test_the_picture_has_a_panel_of_sizes(plane: Store) -> None:
    report = prove(plane, samplers=["balanced"], ratio=0.1, draws=100, num_frames=1, error=0.05)
    titles = [panel.title for panel in picture_proof(report).panels]
    assert "Standard error of the change by ratio" in titles
