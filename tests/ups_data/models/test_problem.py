from collections.abc import Mapping

import pytest
import torch

import ups_data
from tests.memory_source import MemorySource, wave_frames
from tests.ups_data.models.cases import dataset_of
from ups_data.errors import ConfigError, DatasetError
from ups_data.models import ProblemSpec


def test_the_problem_is_read_off_the_dataset(stores: Mapping[str, ups_data.Store]) -> None:
    problem = ProblemSpec.of(dataset_of(stores["plane"], window=ups_data.Window(inputs=2, stride=1)))
    assert problem.geometry == "grid"
    assert problem.grid_shape == (16, 8)
    assert problem.periodic == (True, False)
    assert (problem.num_input_frames, problem.num_inputs, problem.num_targets) == (2, 2, 2)
    assert problem.time_step == pytest.approx(0.1)
    assert problem.time_span == pytest.approx(0.3)
    assert problem.parameter_mean == pytest.approx((0.05,))
    assert ProblemSpec.model_validate_json(problem.model_dump_json()) == problem


def test_a_steady_problem_has_no_step_in_time(stores: Mapping[str, ups_data.Store]) -> None:
    steady = dataset_of(stores["plane"], window=ups_data.Window(lead=0), input_fields=["u0"], target_fields=["u1"])
    problem = ProblemSpec.of(steady)
    assert problem.time_step == 1
    with pytest.raises(ConfigError, match="'u1' is no input field, which are u0"):
        problem.target_channels_in_input()


def test_unit_coordinates_take_a_period_to_one(stores: Mapping[str, ups_data.Store]) -> None:
    problem = ProblemSpec.of(dataset_of(stores["plane"])).model_copy(update={"lower": (-1.0, 2.0), "upper": (3.0, 4.0)})
    points = torch.tensor([[-1.0, 2.0], [3.0, 3.0]])
    torch.testing.assert_close(problem.unit_coordinates(points), torch.tensor([[0.0, 0.0], [1.0, 0.5]]))
    torch.testing.assert_close(problem.unit_axis(0, points[:, 0]), torch.tensor([0.0, 1.0]))


def test_grids_of_several_shapes_are_refused(convert_source) -> None:
    source = MemorySource.grid([wave_frames((8, size)) for size in (8, 12)], splits=["train", "train"])
    with pytest.raises(ConfigError, match="grids of several shapes"):
        ProblemSpec.of(dataset_of(convert_source(source)))


def test_data_of_another_kind_are_refused(stores: Mapping[str, ups_data.Store], convert_source) -> None:
    plane = dataset_of(stores["plane"])
    problem = ProblemSpec.of(plane)
    problem.check_data(plane)
    problem.check_data(dataset_of(stores["plane"], window=ups_data.Window(stride=2)))

    def of(frames, **options: object) -> ups_data.QueryDataset:
        source = MemorySource.grid([frames], splits=["train"], **options)
        return dataset_of(convert_source(source, page_points=4, num_strata=1))

    frames, kind = wave_frames((8, 8), num_frames=4, num_channels=2), {"periodic": (True, False)}
    problem.check_data(of(frames, **kind, parameters=[{"nu": 1.0}]))  # another resolution is none
    for dataset, difference in (
        (dataset_of(stores["line"]), "of 2 dimensions, .* is of 1 dimensions"),
        (dataset_of(stores["cloud"]), "on a grid, .* is on points"),
        (of(frames, parameters=[{"nu": 1.0}]), "with periodic axes x, .* is with periodic axes none"),
        (of(frames, **kind), "with 1 parameters, .* is with 0 parameters"),
        (of(frames[:, :1], **kind), r"input fields u0 \(1\), u1 \(1\), .* fields u0 \(1\); choose a store"),
    ):
        with pytest.raises(DatasetError, match=difference):
            problem.check_data(dataset)
