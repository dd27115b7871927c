"""The search for a layout: what it foretells is what a conversion with its options then has."""

from __future__ import annotations

import io
import shlex
import statistics
import subprocess
import sys

import numpy as np
import pytest
import rich.console
import typer.testing

from preprocess.cli import app
from preprocess.prove import LayoutReport, LayoutRow, prove, recommend_layout
from preprocess.prove.integrands import choose_frames
from preprocess.show import picture_proof, write_picture
from tests.memory_source import MemorySource, cloud, wave_frames
from tests.ups_data.storage.cases import make_store
from ups_data.pages import draw_variances, uniform_variance
from ups_data.samplers import DrawKey, ImportanceSampler
from ups_data.storage import Store, open_store


def measured(store: Store, uniform_share: float, *, ratio: float, frames: list[int]) -> list[float]:
    """Multipliers of the change at target frames of trajectory 0, from the pages as they are stored."""
    found = []
    for frame in frames:
        block = store.block_of(0, [frame])
        layout = store.layout(0, block)
        index = store.read_page_points(0, np.arange(layout.num_pages), block).index.reshape(layout.num_pages, -1)
        before, after = store.read_dense(0, [frame - 1, frame]).astype(np.float64)
        values = np.square(after - before).T
        draw = ImportanceSampler(ratio, uniform_share=uniform_share).draw(layout, DrawKey(seed=0, epoch=0, sample=0))
        uniform = uniform_variance(values, float((index[draw.pages] >= 0).sum()))
        found.extend(uniform / draw_variances(layout, index, [draw], values)[0])
    return found


@pytest.fixture(scope="module")
def burgers(tmp_path_factory) -> tuple[str, Store]:
    """A generated data set and a store of them, with the defaults of a conversion."""
    folder = tmp_path_factory.mktemp("burgers")
    files = f"{folder}/files"
    made = ["generate", "burgers_1d", files, "--trajectories", "1", "--resolution", "1024", "--frames", "7"]
    # In a process of its own: once JAX has computed in this one, it warns of every fork of a later test.
    code = "from preprocess.cli import main; main()"
    subprocess.run([sys.executable, "-c", code, *made], check=True, capture_output=True, timeout=600)
    description = f"{files}/burgers_1d.yaml"
    result = typer.testing.CliRunner().invoke(app, ["convert", description, f"{folder}/store"])
    assert result.exit_code == 0, result.output
    return description, open_store(folder / "store")


@pytest.fixture(scope="module")
def found(burgers) -> LayoutReport:
    return recommend_layout(burgers[1], trajectories=[0], ratio=0.1)


def test_what_is_foretold_is_what_a_conversion_then_has(burgers, found, tmp_path):
    files, store = burgers
    frames = list(choose_frames(7, 3))
    assert found.own_best is not None
    own = measured(store, found.own_best.uniform_share, ratio=0.1, frames=frames)
    np.testing.assert_allclose(found.own_best.multipliers, own, rtol=1e-6)
    # One without and one with blocks of frames: the best of either kind.
    for blocks in (False, True):
        best = next(row for row in found.best_rows if (row.candidate.frames_per_block is not None) == blocks)
        dest = tmp_path / str(blocks)
        arguments = ["convert", files, str(dest), *shlex.split(best.candidate.options)]
        result = typer.testing.CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        converted = measured(open_store(dest), best.uniform_share, ratio=0.1, frames=frames)
        np.testing.assert_allclose(best.multipliers, converted, rtol=1e-6)


def test_best_is_worth_more_than_the_store_and_is_named(found):
    assert found.integrand == "change"
    assert found.best is not None
    assert found.best.mean == max(row.mean for row in found.best_rows)
    assert found.best.mean > 1.1 * found.own_best.mean
    text = " ".join(found.lines())
    assert found.best.candidate.options in text
    assert f"{found.best.mean:.1f} (least {found.best.least:.1f})" in text
    # The exact worth grows with the ratio faster than uniform draws do, and the noise falls.
    noise = [row.noise for row in found.ratios]
    assert None not in noise
    assert noise == sorted(noise, reverse=True)


def test_of_equal_rows_the_safest_is_taken(found):
    worth = {0.1: 10.0, 0.25: 9.8, 0.5: 9.0}
    rows = tuple(
        LayoutRow(candidate=found.own, uniform_share=share, multipliers=(mean,)) for share, mean in worth.items()
    )
    report = LayoutReport(integrand="change", ratio=0.1, own=found.own, rows=rows, ratios=())
    assert [row.uniform_share for row in report.best_rows] == [0.25]
    assert "the layout of this store is as good as any" in " ".join(report.lines())


@pytest.mark.parametrize("kind", ["steady", "scattered", "lacking"])
def test_fields_of_every_kind(kind, tmp_path):
    if kind == "scattered":
        frames = [wave_frames((901,), num_frames=4, num_channels=2)]
        source = MemorySource.points(frames, [cloud(901, 3)])
    elif kind == "steady":
        source = MemorySource.grid([wave_frames((30, 31), num_frames=1)])
    else:
        frames = wave_frames((30, 31), num_frames=4)
        frames[:, :, :3] = np.nan  # never there
        source = MemorySource.grid([frames])
        source.missing_fields = frozenset({source.fields[0].name})
    store = make_store(source, tmp_path / "store", page_points=8, num_strata=3)
    report = recommend_layout(store, trajectories=[0], ratio=0.2)
    assert report.integrand == ("square" if kind == "steady" else "change")
    metrics = {name for row in report.rows for name in row.candidate.importance.metrics}
    assert "value" in metrics
    assert ("temporal_change" in metrics) or kind == "steady"
    for row in report.rows:
        assert row.mean == pytest.approx(statistics.geometric_mean(row.multipliers))
        assert min(row.multipliers) > 0
    assert len(report.best_rows[0].multipliers) == {"steady": 1, "scattered": 6, "lacking": 3}[kind]


def test_a_field_at_rest_gets_no_recommendation(tmp_path):
    store = make_store(MemorySource.grid([np.ones((3, 1, 16, 16), np.float32)]), tmp_path / "store")
    report = recommend_layout(store, trajectories=[0], ratio=0.5)
    assert report.rows == ()
    assert report.best is None
    assert list(report.lines()) == ["no layout is recommended: the change does not vary, or all of it is drawn"]


def test_prove_tells_and_draws_it(burgers, tmp_path):
    report = prove(burgers[1], ratio=0.1, draws=100, samplers=["balanced", "importance"], layouts=True)
    assert report.layouts is not None
    console = rich.console.Console(file=io.StringIO(), width=160)
    console.print(report.to_tables())
    shown = " ".join(console.file.getvalue().split())
    assert "(this store)" in shown
    for line in report.layouts.lines():
        assert line in shown
    page = write_picture(picture_proof(report), tmp_path / "proof.html").read_text()
    for words in ("Worth of a drawn point", "Bias in standard errors", "Layouts: worth", "The best layout by ratio"):
        assert words in page
    assert write_picture(picture_proof(report), tmp_path / "proof.png").read_bytes().startswith(b"\x89PNG")
