"""Pictures of stores and schedules: what is shown is what the store holds and the sampler draws."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from preprocess.report.figures import LIGHT, PLACEHOLDERS, Scale
from preprocess.report.style import STYLE_SHEET
from preprocess.show import (
    ScheduleRequest,
    ShowRequest,
    picture_schedule,
    picture_store,
    read_subject,
    write_picture,
)
from tests.html_page import Page
from tests.memory_source import MemorySource, cloud, wave_frames
from tests.ups_data.storage.cases import GEOMETRIES, make_store
from ups_data.errors import ConfigError, DatasetError, SamplerError
from ups_data.samplers import Constant, Cosine, Exponential, Linear, Schedule, Step

# Panels: lines and images have three, volumes three a slice.
NUM_PANELS = {"volume": 9}


def request(**choices: object) -> ShowRequest:
    return ShowRequest(**{"ratio": 1.0, **choices})


def whole_page(text: str) -> Page:
    """Parse a page, which must need nothing from elsewhere."""
    page = Page(text)
    sources = [value for _, attributes in page.elements for key, value in attributes.items() if key in {"src", "href"}]
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert len(page.ids()) == len(set(page.ids()))
    assert "url(http" not in text
    for placeholder in PLACEHOLDERS.values():
        assert placeholder not in re.sub(r"data:[^\"]*", "", text)
    return page


# -- what is shown ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_subject_is_what_the_store_holds(name: str, tmp_path: Path) -> None:
    source = GEOMETRIES[name]("float32")
    store = make_store(source, tmp_path / "s")
    subject = read_subject(store, request(frame=0, field=store.manifest.channel_names[-1]))
    np.testing.assert_array_equal(subject.values, source.frames[0][0, -1])
    np.testing.assert_array_equal(subject.importance.reshape(-1), store.importance(0))
    np.testing.assert_array_equal(subject.places, store.coordinates(0)[subject.points])
    assert sorted(subject.points.tolist()) == store.drawn_points(0).tolist()
    np.testing.assert_allclose(subject.stands_for, 1.0)
    assert subject.weight_sum == pytest.approx(1.0)
    assert subject.effective_points == pytest.approx(store.layout(0).num_points)


def test_a_vector_is_shown_by_its_length_and_a_component_by_its_name(tmp_path: Path) -> None:
    source = GEOMETRIES["plane"]("float32")
    store = make_store(source, tmp_path / "s")
    subject = read_subject(store, request(trajectory=1, frame=2))
    assert (subject.field, subject.unit) == ("|velocity|", "m/s")
    np.testing.assert_allclose(subject.values, np.hypot(*source.frames[1][2, :2]), rtol=1e-6)
    component = read_subject(store, request(trajectory=1, frame=2, field="velocity.y"))
    np.testing.assert_array_equal(component.values, source.frames[1][2, 1])
    assert component.field == "velocity.y"


def test_the_middle_frame_is_shown_unless_another_is_asked(tmp_path: Path) -> None:
    store = make_store(GEOMETRIES["line"]("float32"), tmp_path / "s")
    subject = read_subject(store, request())
    assert (subject.frame, subject.time) == (2, pytest.approx(0.2))


def test_draws_are_those_of_the_sampler_and_its_seed(tmp_path: Path) -> None:
    store = make_store(MemorySource.grid([wave_frames((64, 64))]), tmp_path / "s")
    drawn = [read_subject(store, request(ratio=0.25, seed=seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0].points, drawn[1].points)
    assert set(drawn[0].points) != set(drawn[2].points)
    layout = store.layout(0)
    # The weight of a stratum times its drawn points is the stratum: together they stand for every point.
    assert len(np.unique(drawn[0].stands_for.round(9))) == layout.num_strata
    assert drawn[0].stands_for.sum() == pytest.approx(64 * 64)
    uniform = read_subject(store, request(ratio=0.25, sampler="uniform"))
    np.testing.assert_allclose(uniform.stands_for, 4.0)


@pytest.mark.parametrize(
    ("choices", "error", "message"),
    [
        ({"trajectory": -1}, DatasetError, "has no trajectory -1: it holds 3, counted from 0 to 2"),
        ({"frame": 4}, DatasetError, "has no frame 4 of trajectory 0: it holds 4"),
        ({"field": "u"}, DatasetError, "has no field or channel 'u'. Did you mean 'u0'"),
        ({"sampler": "dens"}, SamplerError, "Did you mean 'dense'"),
        ({"ratio": 0.01}, SamplerError, "fewer than the"),
    ],
)
def test_what_is_not_there_is_refused(
    choices: dict[str, object], error: type[Exception], message: str, tmp_path: Path
) -> None:
    store = make_store(GEOMETRIES["line"]("float32"), tmp_path / "s", num_strata=4)
    with pytest.raises(error, match=message):
        read_subject(store, request(**choices))


# -- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GEOMETRIES)
def test_every_geometry_has_a_picture_and_a_page(name: str, tmp_path: Path) -> None:
    store = make_store(GEOMETRIES[name]("float32"), tmp_path / "s")
    picture = picture_store(read_subject(store, request()))
    image = imread(write_picture(picture, tmp_path / "picture.png"))
    assert len(np.unique((image[..., :3] * 255).round().astype(int) @ [65536, 256, 1])) > 20  # colours
    text = write_picture(picture, tmp_path / "picture.html").read_text(encoding="utf-8")
    page = whole_page(text)
    charts = [attributes for attributes in page.all("svg") if attributes.get("class") == "chart"]
    assert len(charts) == len(picture.panels) == NUM_PANELS.get(name, 3)
    assert picture.title in page.text
    assert "stands for" in page.text
    assert {path.name for path in tmp_path.iterdir()} == {"s", "picture.png", "picture.html"}


def test_one_dimensional_clouds_have_pictures_too(tmp_path: Path) -> None:
    points = cloud(90, 1)
    store = make_store(MemorySource.points([wave_frames((90,))], [points]), tmp_path / "s")
    picture = picture_store(read_subject(store, request()))
    whole_page(write_picture(picture, tmp_path / "p.html").read_text(encoding="utf-8"))
    assert [panel.title for panel in picture.panels] == ["u0", "Importance", "Drawn by importance: 90 of 90 points"]


def test_pictures_are_the_same_every_time(tmp_path: Path) -> None:
    store = make_store(GEOMETRIES["plane"]("float32"), tmp_path / "s")
    for suffix in (".png", ".html"):
        made = [
            write_picture(picture_store(read_subject(store, request())), tmp_path / f"{number}{suffix}").read_bytes()
            for number in range(2)
        ]
        assert made[0] == made[1]


def test_the_first_axis_runs_to_the_right_and_the_second_one_upwards(tmp_path: Path) -> None:
    values = np.zeros((1, 1, 16, 16), dtype="float32")
    values[0, 0, -4:, :4] = 1.0
    store = make_store(MemorySource.grid([values]), tmp_path / "s")
    image = imread(write_picture(picture_store(read_subject(store, request())), tmp_path / "p.png"))[..., :3]
    panel = image[:, : image.shape[1] // 4]
    high, low = Scale(colours="viridis", low=0.0, high=1.0).paint(np.array([1.0, 0.0]))[:, :3] / 255
    rows, columns = np.nonzero((np.abs(panel - high) < 0.02).all(axis=-1))
    all_rows, all_columns = np.nonzero((np.abs(panel - low) < 0.02).all(axis=-1))
    assert rows.size > 500
    assert rows.mean() > all_rows.mean() + 40
    assert columns.mean() > all_columns.mean() + 40


def test_drawn_points_have_the_colours_of_their_weights(tmp_path: Path) -> None:
    frames = wave_frames((64, 64))
    store = make_store(MemorySource.grid([frames]), tmp_path / "s", num_strata=2)
    subject = read_subject(store, request(ratio=0.2))
    image = imread(write_picture(picture_store(subject), tmp_path / "p.png"))[..., :3]
    drawn = image[:, 2 * image.shape[1] // 3 :] * 255
    for colour in ("#f59f00", "#339af0"):
        wanted = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
        assert (np.abs(drawn - wanted).max(axis=-1) < 3).sum() > 200


def test_names_and_units_are_escaped_and_shown(tmp_path: Path) -> None:
    source = GEOMETRIES["plane"]("float32")
    source.axes = tuple(axis.model_copy(update={"unit": "<m>"}) for axis in source.axes)
    source.time_unit = "s"
    store = make_store(source, tmp_path / "s")
    text = write_picture(picture_store(read_subject(store, request())), tmp_path / "p.html").read_text()
    page = whole_page(text)
    for words in ("x (<m>)", "|velocity| (m/s)", "t = 0.1 s"):
        assert words in page.text
    assert "<m>" not in text


def test_large_fields_make_small_files(tmp_path: Path) -> None:
    store = make_store(MemorySource.grid([np.zeros((1, 1, 2500, 40), dtype="float32")]), tmp_path / "s")
    text = write_picture(picture_store(read_subject(store, request(ratio=0.05))), tmp_path / "p.html").read_text()
    assert len(text) < 2_000_000


def test_a_picture_alone_has_the_colours_of_a_light_page() -> None:
    light = STYLE_SHEET.split("@media")[0]
    for name, colour in LIGHT.items():
        assert f"--{name}: {colour}" in light
    assert set(LIGHT) == set(PLACEHOLDERS)


@pytest.mark.parametrize(("name", "message"), [("a.svg", "end in .png or .html"), ("b/a.png", "is not there")])
def test_outputs_that_cannot_be_written_are_refused(name: str, message: str, tmp_path: Path) -> None:
    picture = picture_schedule(ScheduleRequest(kind="constant", start=0.1))
    with pytest.raises(ConfigError, match=message):
        write_picture(picture, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


# -- schedules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choices", "schedule"),
    [
        ({"kind": "constant", "start": 0.5}, Constant(0.5)),
        ({"kind": "linear", "start": 0.0, "end": 1.0, "steps": 100}, Linear(start=0.0, end=1.0, steps=100)),
        (
            {"kind": "cosine", "start": 1.0, "end": 0.1, "steps": 100, "begin": 50},
            Cosine(start=1.0, end=0.1, steps=100, begin=50),
        ),
        (
            {"kind": "exponential", "start": 1.0, "end": 0.01, "steps": 1},
            Exponential(start=1.0, end=0.01, steps=1),
        ),
        (
            {"kind": "step", "values": (1.0, 0.2, 0.7), "boundaries": (10, 40)},
            Step(values=(1.0, 0.2, 0.7), boundaries=(10, 40)),
        ),
    ],
)
def test_schedules_are_told_as_they_are(choices: dict[str, object], schedule: Schedule, tmp_path: Path) -> None:
    asked = ScheduleRequest(**choices)
    picture = picture_schedule(asked)
    assert len(picture.facts) >= 2
    for name, value in picture.facts:
        assert float(value) == pytest.approx(schedule(int(name.removeprefix("step ").replace(",", ""))), rel=1e-5)
    last = int(picture.facts[-1][0].removeprefix("step ").replace(",", ""))
    assert schedule(last) == schedule(10 * last)
    assert whole_page(write_picture(picture, tmp_path / "s.html").read_text()).text.count("global step") >= 1
    assert imread(io.BytesIO(write_picture(picture, tmp_path / "s.png").read_bytes())).shape[1] == 1350


def test_a_jump_is_drawn_where_it_is(tmp_path: Path) -> None:
    picture = picture_schedule(ScheduleRequest(kind="step", values=(0.0, 1.0), boundaries=(7919,), steps=100_000))
    image = imread(write_picture(picture, tmp_path / "p.png"))[..., :3] * 255
    wanted = np.array([int(LIGHT["sparse"][place : place + 2], 16) for place in (1, 3, 5)])
    line = np.abs(image - wanted).max(axis=-1) < 3
    columns = np.nonzero(line.any(axis=0))[0]
    jump = np.nonzero(line.sum(axis=0) > 50)[0].mean()
    assert (jump - columns[0]) / (columns[-1] - columns[0]) == pytest.approx(0.07919, abs=0.004)
