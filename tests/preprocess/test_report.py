"""The page of a report: it parses, needs nothing from elsewhere, shows every part, and its numbers are the records'."""

import base64
import dataclasses
import io
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import ups_data
from preprocess.convert import ConvertSettings, convert
from preprocess.prove import ProveReport, prove
from preprocess.report import (
    Command,
    DrawExample,
    DrawnPoints,
    Prediction,
    Problem,
    Report,
    Run,
    Stream,
    StreamRow,
    figures,
    markup,
    render_report,
    summarise_proof,
    write_report,
)
from preprocess.report.figures import Scale
from tests.html_page import Page
from tests.memory_source import MemorySource, wave_frames
from ups_data.samplers import Sampler

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = ("draws", "proof", "bytes", "training", "predictions", "origin")
CHARTS = ("worth", "bytes", "loss-step", "loss-time", "error-step", "error-time")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ups_data.Store:
    frames = [wave_frames((24, 20), num_frames=5, num_channels=1, seed=seed) for seed in range(3)]
    source = MemorySource.grid(frames, periodic=(True, False), splits=["train", "train", "test"])
    path = tmp_path_factory.mktemp("store") / "waves"
    convert(source, path, ConvertSettings(page_points=8, num_strata=3))
    return ups_data.open_store(path)


@pytest.fixture(scope="module")
def proof(store: ups_data.Store) -> ProveReport:
    return prove(store, samplers=("uniform", "importance"), ratio=0.25, draws=200, split="test")


def draw(store: ups_data.Store, sampler: Sampler) -> DrawnPoints:
    sample = ups_data.QueryDataset(store, sampler=sampler, split="test", dtype="float64")[1]
    return DrawnPoints(
        sampler=sampler.name,
        coordinates=sample.query_coords.numpy(),
        stands_for=sample.query_weights.numpy() * store.num_points(sample.trajectory),
    )


def make_run(name: str, *, ratio: float, num_steps: int, final_error: float) -> Run:
    steps = np.arange(1, num_steps + 1)
    evaluated = steps[num_steps // 4 - 1 :: num_steps // 4]
    return Run(
        name=name,
        sampler=f"{name} points",
        ratio=ratio,
        seconds=steps * (20.0 / num_steps),
        losses=0.7 * np.exp(-3.0 * steps / num_steps),
        waited=0.51,
        eval_steps=evaluated,
        eval_seconds=evaluated * (20.0 / num_steps),
        eval_errors=final_error * np.linspace(4.0, 1.0, evaluated.size),
        eval_samples=3,
    )


def make_row(sampler: str, num_points: int, **values: float) -> StreamRow:
    return StreamRow(
        **{
            "sampler": sampler,
            "note": f"points of {sampler}",
            "num_points": num_points,
            "read_bytes": 1920.0 + 9.5 * num_points,
            "read_ranges": 7.25,
            "input_bytes": 1920.0,
            "point_bytes": 8.0 * num_points,
            "shipped_bytes": 2100.0 + 20.0 * num_points,
            "shipped_input_bytes": 2096.0,
            "samples_per_s": 1234.5,
            **values,
        }
    )


@pytest.fixture(scope="module")
def report(store: ups_data.Store, proof: ProveReport) -> Report:
    samplers = (ups_data.ImportanceSampler(ratio=0.25), ups_data.UniformSampler(ratio=0.25))
    fields = store.read_dense(2, [1, 2])[:, 0].reshape(2, 24, 20)
    return Report(
        problem=Problem(
            title="Waves <of> a & b",
            equation="u_t + u u_x = nu u_xx",
            field="height",
            unit="m",
            axes=("x", "y"),
            time_unit="s",
            shape=(24, 20),
            num_frames=15,
            splits={"train": 2, "test": 1},
            lead=0.1,
        ),
        example=DrawExample(
            trajectory=2,
            frame=1,
            time=0.1,
            values=fields[0],
            importance=store.importance(2).reshape(24, 20),
            extent=((0.0, 1.0), (0.0, 1.0)),
            draws=tuple(draw(store, sampler) for sampler in samplers),
        ),
        proof=summarise_proof(proof.to_dict()),
        stream=Stream(
            batch_size=4,
            num_batches=3,
            num_rounds=5,
            rows=(make_row("importance", 120), make_row("uniform", 121), make_row("dense", 480, samples_per_s=321.0)),
        ),
        sparse=make_run("sparse", ratio=0.25, num_steps=80, final_error=0.0512),
        dense=make_run("dense", ratio=1.0, num_steps=20, final_error=0.0934),
        prediction=Prediction(
            trajectory=2,
            input_frame=1,
            target_frame=2,
            input_time=0.1,
            target_time=0.2,
            input=fields[0],
            target=fields[1],
            predicted={"sparse": fields[1] + 0.01, "dense": fields[1] * 1.1},
        ),
        machine={"processor": "one of 2", "torch": "2.13.0"},
        settings={"model": "width 64"},
        stage_seconds={"generate": 5.25, "train": 41.5},
        commands=(Command(line="scripts/demo --quick", purpose="all of it"),),
        created="1 May 2031",
    )


@pytest.fixture(scope="module")
def text(report: Report) -> str:
    return render_report(report)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_page_needs_nothing_from_elsewhere(page: Page, text: str) -> None:
    references = [attributes[name] for _, attributes in page.elements for name in ("src", "href") if name in attributes]
    assert len(references) > 10
    assert all(reference.startswith(("data:", "#")) for reference in references)
    assert "url(#" in text
    assert text.count("url(") == text.count("url(#")
    assert page.all("script") == page.all("iframe") == page.all("object") == []
    assert "://" not in text
    assert "@import" not in text


def test_ids_are_unique_and_references_lead_somewhere(page: Page, text: str) -> None:
    assert [name for name, times in Counter(page.ids()).items() if times > 1] == []
    wanted = {attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes}
    wanted |= {attributes["href"][1:] for attributes in page.all("use")}
    wanted |= {part.split(")")[0] for part in text.split("url(#")[1:]}
    assert len(wanted) > len(SECTIONS)
    assert wanted <= set(page.ids())


def test_every_section_and_chart_is_there(page: Page) -> None:
    assert tuple(attributes["id"] for attributes in page.all("section")) == SECTIONS
    charts = [attributes for attributes in page.all("svg") if attributes.get("class") == "chart"]
    assert len(charts) == len(CHARTS)
    for name in CHARTS:
        assert f"{name}-figure_1" in page.ids()
    assert all(attributes["role"] == "img" and len(attributes["aria-label"]) > 20 for attributes in charts)


def decode(uri: str) -> np.ndarray:
    kind, _, content = uri.partition(",")
    assert kind == "data:image/png;base64"
    return imread(io.BytesIO(base64.b64decode(content, validate=True)), format="png")


def test_every_picture_is_an_image_with_words_for_it(page: Page) -> None:
    pictures = [attributes for attributes in page.all("img") if attributes["alt"]]
    # field, importance, two draws; input, truth, two predictions, two errors
    assert len(pictures) == 10
    for attributes in page.all("img"):
        assert decode(attributes["src"]).size
    bars = [attributes for attributes in page.all("img") if not attributes["alt"]]
    assert len(bars) == 4


def expected_numbers(report: Report) -> Iterator[float]:
    for run in (report.sparse, report.dense):
        yield from (run.num_steps, run.final_error, run.step_seconds, run.waited / 20.0, run.eval_errors.min())
    yield report.sparse.seconds_to(report.dense.final_error) or -1.0
    for row in report.stream.rows:
        yield from (row.num_points, row.query_bytes, row.point_bytes, row.query_bytes / row.point_bytes)
        yield from (row.shipped_bytes, row.read_ranges, row.samples_per_s)
    for estimate in report.proof.rows:
        yield from (estimate.num_tests, estimate.largest_z)
        yield from (value for value in (estimate.multiplier, estimate.least_multiplier) if value is not None)
    for drawn in report.proof.draws:
        yield from (value for value in dataclasses.asdict(drawn).values() if not isinstance(value, str))
    yield from (report.proof.z_limit, report.proof.largest_z, report.proof.num_tests, report.proof.num_draws)
    yield from (report.prediction.error("sparse"), report.prediction.error("dense"))
    yield from (*report.stage_seconds.values(), sum(report.stage_seconds.values()))
    for points in report.example.draws:
        weights, counts = np.unique(points.stands_for.round(9), return_counts=True)
        yield from (*weights, *counts)


def test_numbers_of_the_page_are_those_of_the_records(page: Page, report: Report) -> None:
    expected = [float(value) for value in expected_numbers(report)]
    assert len(expected) > 80
    assert [value for value in expected if value not in page.numbers] == []


def test_words_of_the_records_are_shown_escaped(page: Page, text: str) -> None:
    for words in ("Waves <of> a & b", "one of 2", "width 64", "scripts/demo --quick", "1 May 2031", "Height (m)"):
        assert words in page.text
    assert "<of>" not in text


def test_page_is_the_same_every_time(report: Report, text: str) -> None:
    assert render_report(report) == text


@pytest.mark.parametrize(
    ("sparse", "headline"),
    [
        (
            0.0512,
            "Trained on 25 % of the points, the model errs by 5.1 % after 20.0 s. Trained on all of them, by 9.3 %.",
        ),
        (0.0930, "Trained on 25 % of the points, the model errs as on all of them after 20.0 s: 9.3 % against 9.3 %."),
        (
            0.1210,
            "In this run the dense training came out ahead: 9.3 % against 12 % with 25 % of the points after 20.0 s.",
        ),
    ],
)
def test_headline_says_who_was_ahead(report: Report, sparse: float, headline: str) -> None:
    run = make_run("sparse", ratio=0.25, num_steps=80, final_error=sparse)
    page = Page(render_report(dataclasses.replace(report, sparse=run)))
    assert headline in page.text
    ahead = "dense" if sparse > report.dense.final_error else "sparse"
    assert f"By the clock, the {ahead} run is ahead" in page.text


def test_a_run_that_never_gets_there_is_said_so(report: Report) -> None:
    run = make_run("sparse", ratio=0.25, num_steps=80, final_error=0.2)
    assert "not reached" in Page(render_report(dataclasses.replace(report, sparse=run))).text


def test_a_bias_is_said_loudly(report: Report) -> None:
    page = Page(render_report(dataclasses.replace(report, proof=dataclasses.replace(report.proof, ok=False))))
    assert "The draws failed." in page.text
    assert "No bias was found" not in page.text


def test_proof_is_summed_up_over_frames_and_trajectories(proof: ProveReport) -> None:
    found = summarise_proof(proof.to_dict())
    assert found.ok is proof.ok
    assert found.num_tests == len(proof.rows)
    assert found.largest_z == max(abs(row.z) for row in proof.rows)
    row = next(row for row in found.rows if row.integrand == "u0, squared" and row.sampler == "importance")
    multipliers = proof.multipliers("importance", "square")
    assert len(multipliers) == row.num_tests == 3
    assert row.multiplier == pytest.approx(statistics.geometric_mean(multipliers))
    assert row.least_multiplier == min(multipliers)
    uniform = found.draws[0]
    assert (uniform.sampler, uniform.num_points) == ("uniform", 120.0)
    assert uniform.largest_weight == pytest.approx(1.0)
    assert uniform.effective_points == pytest.approx(120.0)
    assert found.multiplier("importance") == pytest.approx(statistics.geometric_mean(proof.multipliers("importance")))
    weight_sum = next(row for row in found.rows if row.integrand == "sum of the weights")
    assert weight_sum.multiplier is None


def test_fields_have_their_first_axis_to_the_right_and_their_second_one_upwards() -> None:
    values = np.zeros((5, 4))
    values[3, 0] = 1.0
    pixels = decode(figures.draw_field(values, Scale(colours="gray", low=0.0, high=1.0)))
    assert pixels.shape == (4, 5, 4)
    assert np.argwhere(pixels[..., 0] == 1.0).tolist() == [[3, 3]]


def test_scales_are_shared_symmetric_and_never_empty() -> None:
    scale = Scale.of_field(np.array([[-1.0, 0.5]]), np.array([[0.0, 3.0]]))
    assert (scale.low, scale.high) == (-3.0, 3.0)
    positive = Scale.of_field(np.array([[1.0, 2.0]]))
    assert (positive.low, positive.high, positive.colours) == (1.0, 2.0, "viridis")
    flat = Scale.of_field(np.full((2, 2), 7.0))
    assert flat.low < flat.high
    assert Scale.of_errors(0.0).low < Scale.of_errors(0.0).high
    assert Scale(colours="magma", low=0.01, high=100.0, log=True).ticks() == pytest.approx((0.01, 1.0, 100.0))


def test_charts_take_the_colours_of_the_page(text: str) -> None:
    for variable in ("ink", "muted", "rule", "sparse", "dense", "input"):
        assert f"var(--{variable})" in text
        assert f"--{variable}:" in text
    for number in range(1, 8):
        assert f"#0{number}0{number}0{number}" not in text


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (0.08239, 2, "0.082"),
        (12.34, 2, "12"),
        (1234.5, 2, "1,234"),
        (0.0, 3, "0"),
        (-0.5, 1, "\u22120.5"),
        (9.99, 3, "9.99"),
    ],
)
def test_numbers_are_written_with_their_significant_digits(value: float, digits: int, shown: str) -> None:
    assert markup.significant(value, digits) == shown


def test_writing_leaves_the_page_alone_in_its_folder(report: Report, text: str, tmp_path: Path) -> None:
    path = write_report(report, tmp_path / "report.html")
    assert path.read_text(encoding="utf-8") == text
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_records_refuse_what_cannot_be_shown(report: Report) -> None:
    with pytest.raises(ValueError, match="2 drawn points and 3 weights"):
        DrawnPoints(sampler="x", coordinates=np.zeros((2, 2)), stands_for=np.ones(3))
    with pytest.raises(ValueError, match=r"field of shape \(24, 20\), importance of \(3, 3\)"):
        dataclasses.replace(report.example, importance=np.ones((3, 3)))
    with pytest.raises(ValueError, match="sparse run has 0 steps"):
        dataclasses.replace(report.sparse, seconds=np.empty(0), losses=np.empty(0))


WITHOUT_MATPLOTLIB = """
import sys
sys.modules["matplotlib"] = None
from preprocess.report import figures
from ups_data.errors import ConfigError
try:
    figures.check_matplotlib()
except ConfigError as error:
    print(error)
"""


def test_a_missing_matplotlib_is_named_with_its_remedy() -> None:
    command = [sys.executable, "-c", WITHOUT_MATPLOTLIB]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert result.stdout.strip().endswith('pip install "ups-data[plots]"'), result.stderr
