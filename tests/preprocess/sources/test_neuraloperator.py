"""neuraloperator's files, written by torch.save: values, nodes, splits, times; and what is never loaded."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from preprocess.sources.neuraloperator import BurgersSource, DarcySource, NavierStokesSource, NeuralOperatorSource
from ups_data.errors import ConfigError, SourceError, UnknownFormatError


class Bomb:
    """Makes a file where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("exploded").touch, ())


def darcy(count: int = 6, size: int = 8, seed: int = 0) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    shape = (count, size, size + 2)
    return {"x": torch.rand(shape, generator=random) > 0.5, "y": torch.randn(shape, generator=random)}


def burgers(count: int = 5, frames: int = 4, size: int = 16) -> dict[str, torch.Tensor]:
    output = torch.randn(count, frames, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return {"input": output[:, 0].clone(), "output": output, "visc": torch.full((1, 1), 0.01, dtype=torch.float64)}


def save(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


# -- Darcy ---------------------------------------------------------------------------------------------------------


def test_darcy_comes_out_as_it_is(tmp_path: Path) -> None:
    content = darcy()
    source = open_source([save(tmp_path / "darcy_train_8.pt", content)])
    assert isinstance(source, DarcySource)
    assert [field.name for field in source.fields] == ["permeability", "pressure"]
    info = source.trajectories[2]
    assert (info.item, info.shape, info.split) == ("darcy_train_8.pt: y[2]", (8, 10), "train")
    assert info.times.tolist() == [0.0]
    found = source.read_frames(2, 0, 1)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0, 0], content["x"][2].numpy())
    np.testing.assert_array_equal(found[0, 1], content["y"][2].numpy())


def test_darcy_nodes_lie_at_i_over_n_and_the_domain_ends_at_one(tmp_path: Path) -> None:
    source = open_source([save(tmp_path / "darcy_test_8.pt", darcy())])
    x, y = source.read_coordinates(0)
    np.testing.assert_array_equal(x, np.arange(8) / 8)
    np.testing.assert_array_equal(y, np.arange(10) / 10)
    assert [(axis.lower, axis.upper, axis.periodic) for axis in source.axes] == [(0.0, 1.0, False)] * 2


def test_train_and_test_files_make_one_store_with_their_splits(tmp_path: Path) -> None:
    parts = {"train": darcy(6, 16), "test": darcy(3, 16, seed=1)}
    paths = [save(tmp_path / f"darcy_{split}_16.pt", content) for split, content in parts.items()]
    manifest = convert(open_source(paths), tmp_path / "s", ConvertSettings())
    assert manifest.splits == {"train": 6, "test": 3}
    assert manifest.split_provenance == "source"
    fields = zarr.open_group(tmp_path / "s", mode="r")["fields"][:]
    np.testing.assert_array_equal(fields[:, 0], np.concatenate([part["x"].numpy() for part in parts.values()]))
    np.testing.assert_array_equal(fields[:, 1], np.concatenate([part["y"].numpy() for part in parts.values()]))
    pressure = parts["train"]["y"].double()
    assert manifest.statistics[1].mean == pytest.approx(pressure.mean().item(), rel=1e-12)
    assert manifest.statistics[1].std == pytest.approx(pressure.std(correction=0).item(), rel=1e-12)


def test_resolutions_are_not_mixed(tmp_path: Path) -> None:
    paths = [save(tmp_path / "darcy_train_8.pt", darcy()), save(tmp_path / "darcy_test_4.pt", darcy(size=4))]
    with pytest.raises(SourceError, match=r"darcy_test_4.pt: x has shape .* Convert other resolutions to stores of"):
        open_source(paths)


def test_a_split_that_one_file_alone_names_is_refused(tmp_path: Path) -> None:
    paths = [save(tmp_path / "darcy_train_8.pt", darcy()), save(tmp_path / "more.pt", darcy())]
    with pytest.raises(SourceError, match=r"more.pt does not say its split and others do"):
        open_source(paths)


# -- Navier-Stokes ---------------------------------------------------------------------------------------------------


def flow(size: int = 8) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(3)
    return {name: torch.randn((4, size, size + 2), generator=random) for name in ("x", "y")}


def test_navier_stokes_comes_out_as_it_is(tmp_path: Path) -> None:
    content = flow()
    source = open_source([save(tmp_path / "nsforcing_train_8.pt", content)])
    assert isinstance(source, NavierStokesSource)
    assert [field.name for field in source.fields] == ["forcing", "vorticity"]
    assert [(axis.lower, axis.upper, axis.periodic) for axis in source.axes] == [(0.0, 1.0, True)] * 2
    info = source.trajectories[3]
    assert (info.item, info.shape, info.split) == ("nsforcing_train_8.pt: y[3]", (8, 10), "train")
    wanted = np.stack([content["x"][3].numpy(), content["y"][3].numpy()])[None]
    np.testing.assert_array_equal(source.read_frames(3, 0, 1), wanted)


def test_floats_of_no_telling_name_list_the_candidates(tmp_path: Path) -> None:
    path = save(tmp_path / "train_8.pt", flow())
    with pytest.raises(SourceError, match=r"train_8.pt may hold darcy or navier_stokes, .*: --option problem=darcy"):
        open_source([path])
    assert isinstance(open_source([path], options={"problem": "navier_stokes"}), NavierStokesSource)
    assert isinstance(open_source([path], options={"problem": "darcy"}), DarcySource)
    with pytest.raises(ConfigError, match=r"option problem is 'stokes'\. Did you mean 'navier_stokes'\?"):
        open_source([path], options={"problem": "stokes"})


def test_darcy_of_floats_is_told_by_its_name(tmp_path: Path) -> None:
    assert isinstance(open_source([save(tmp_path / "darcy_train_8.pt", flow())]), DarcySource)


# -- Burgers ---------------------------------------------------------------------------------------------------------


def test_burgers_comes_out_as_it_is(tmp_path: Path) -> None:
    content = burgers()
    source = open_source([save(tmp_path / "burgers.pt", content)], options={"time_step": 0.25})
    assert isinstance(source, BurgersSource)
    info = source.trajectories[4]
    assert (info.parameters, info.split) == ({"viscosity": 0.01}, None)
    assert info.times.tolist() == [0.0, 0.25, 0.5, 0.75]
    (axis,) = source.axes
    assert (axis.lower, axis.upper, axis.periodic) == (0.0, 1.0, True)
    found = source.read_frames(4, 1, 3)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, content["output"][4, 1:3, None].numpy())


def test_burgers_times_must_be_told_but_for_the_packaged_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"does not tell the time between two frames; state it: --option time_step"):
        open_source([save(tmp_path / "burgers_lowres.pt", burgers())])
    content = burgers(1200, 17, 16)
    times = open_source([save(tmp_path / "burgers_lowres.pt", content)]).trajectories[0].times
    np.testing.assert_allclose(times, 0.06 * np.arange(17))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_step": 0}, r"time_step must be positive, got 0\.0"),
        ({"time_step": "fast"}, "option time_step is 'fast'; one finite number is wanted"),
        ({"time_stop": 1.0}, r"Burgers files have no option 'time_stop'. Did you mean 'time_step'\?"),
    ],
)
def test_burgers_options_are_checked(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, SourceError), match=message):
        open_source([save(tmp_path / "burgers.pt", burgers())], options=options)


def test_burgers_input_must_be_the_first_frame(tmp_path: Path) -> None:
    content = burgers()
    content["input"][3, 2] += 1
    with pytest.raises(SourceError, match="input is not the first frame of output"):
        open_source([save(tmp_path / "burgers.pt", content)], options={"time_step": 0.1})


# -- refusals --------------------------------------------------------------------------------------------------------


def test_darcy_has_no_options(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Darcy files have no option 'time_step'"):
        open_source([save(tmp_path / "darcy_train_8.pt", darcy())], options={"time_step": 0.1})


def test_problems_are_not_mixed(tmp_path: Path) -> None:
    paths = [save(tmp_path / "darcy_train_8.pt", darcy()), save(tmp_path / "burgers_test.pt", burgers())]
    with pytest.raises(SourceError, match="hold different problems; convert them one by one"):
        open_source(paths)


@pytest.mark.parametrize(
    "content",
    [
        {"a": torch.zeros(2, 3)},
        {"x": torch.zeros(2, 3), "y": torch.zeros(2, 3)},
        {"x": torch.zeros(2, 3, 3, dtype=torch.bool), "y": torch.zeros(2, 3, 4)},
        {"input": torch.zeros(2, 3), "output": torch.zeros(2, 4, 5), "visc": torch.zeros(1)},
    ],
)
def test_other_tensors_are_listed(tmp_path: Path, content: dict[str, torch.Tensor]) -> None:
    path = save(tmp_path / "other.pt", content)
    assert not NeuralOperatorSource.recognises(path)
    with pytest.raises(UnknownFormatError, match="Its name looks like 'neuraloperator': --format neuraloperator tells"):
        open_source([path])
    with pytest.raises(SourceError, match=rf"holds {next(iter(content))} \(2, 3.*Darcy files hold x \(N, H, W\)"):
        open_source([path], "neuraloperator")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(3), "holds a Tensor where a dictionary of tensors must stand"),
        ({"x": 1.0}, "'x' is a float; a name and a tensor are wanted"),
        ({1: torch.zeros(2)}, "1 is a Tensor; a name and a tensor are wanted"),
        ({"x": torch.zeros(0, 3, 3, dtype=torch.bool), "y": torch.zeros(0, 3, 3)}, "x has shape .* and holds nothing"),
    ],
)
def test_no_dictionary_of_tensors(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source([save(tmp_path / "a.pt", content)], "neuraloperator")


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_code_in_a_file_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: bool) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "darcy_train_8.pt", {**darcy(), "z": Bomb()}, _use_new_zipfile_serialization=new)
    assert not NeuralOperatorSource.recognises(path)
    with pytest.raises(SourceError, match="holds more than tensors and is not loaded"):
        open_source([path], "neuraloperator")
    assert not Path("exploded").exists()


@pytest.mark.parametrize("share", [0.01, 0.5, 0.97])
def test_a_file_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    path = save(tmp_path / "darcy_train_8.pt", darcy(50))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(SourceError, match=r"darcy_train_8.pt"):
        open_source([path])
    with pytest.raises(SourceError, match=r"is no torch file, damaged or cut short|holds more than tensors"):
        open_source([path], "neuraloperator")


def test_a_source_is_picklable(tmp_path: Path) -> None:
    source = open_source([save(tmp_path / "darcy_train_8.pt", darcy())])
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.read_frames(5, 0, 1), source.read_frames(5, 0, 1))
