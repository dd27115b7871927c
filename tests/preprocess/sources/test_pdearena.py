"""Files in the layouts of PDEArena, by h5py: values, nodes, times, splits; what they do not tell is asked for."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import zarr

from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from preprocess.sources.pdearena import PDEArenaSource
from tests.preprocess.sources.specimens import (
    HDF5Specimen,
    kuramoto_specimen,
    maxwell_specimen,
    random,
    smoke_specimen,
)
from ups_data.errors import ConfigError, SourceError, UnknownFormatError


def stack(specimen: HDF5Specimen, names: tuple[str, ...], row: int) -> np.ndarray:
    return np.stack([specimen.datasets[name][row] for name in names], axis=1)


def test_smoke_comes_out_as_it_is(tmp_path: Path) -> None:
    specimen = smoke_specimen()
    specimen.datasets["train/x"][1] *= 2
    source = open_source([specimen.write(tmp_path)])
    assert isinstance(source, PDEArenaSource)
    assert source.name == "navier_stokes_2d"
    assert [name for field in source.fields for name in field.channel_names] == ["smoke", "velocity.x", "velocity.y"]
    info = source.trajectories[1]
    assert (info.item, info.shape, info.split) == (f"{specimen.name}: train/u[1]", (6, 5), "train")
    assert info.parameters == {"buo_y": 0.35}
    np.testing.assert_array_equal(info.times, [18.0, 46.0, 74.0, 102.0])
    np.testing.assert_array_equal(source.read_coordinates(1)[0], specimen.datasets["train/x"][1])
    assert [(axis.lower, axis.upper, axis.periodic) for axis in source.axes] == [(0, 64, False), (0, 32, False)]
    names = ("train/u", "train/vx", "train/vy")
    np.testing.assert_array_equal(source.read_frames(1, 1, 3), stack(specimen, names, 1)[1:3])


def test_groups_and_files_make_one_store_with_their_splits(tmp_path: Path) -> None:
    specimens = [smoke_specimen("a.h5"), smoke_specimen("b.h5", split="valid", count=1)]
    specimens[1].datasets |= smoke_specimen(split="test", count=2).datasets
    source = open_source([specimen.write(tmp_path) for specimen in specimens])
    manifest = convert(source, tmp_path / "s", ConvertSettings())
    assert (manifest.splits, manifest.split_provenance) == ({"train": 3, "valid": 1, "test": 2}, "source")
    assert [file.name for file in manifest.source.files] == ["a.h5", "b.h5"]
    fields = zarr.open_group(tmp_path / "s", mode="r")["fields"][:]
    for place, (number, split, row) in {0: (0, "train", 0), 3: (1, "valid", 0), 5: (1, "test", 1)}.items():
        names = tuple(f"{split}/{name}" for name in ("u", "vx", "vy"))
        np.testing.assert_array_equal(fields[4 * place : 4 * place + 4], stack(specimens[number], names, row))


def test_kuramoto_sivashinsky_follows_from_its_steps(tmp_path: Path) -> None:
    specimen = kuramoto_specimen()
    source = open_source([specimen.write(tmp_path)])
    (axis,) = source.axes
    assert (source.name, axis.lower, axis.upper, axis.periodic) == ("kuramoto_sivashinsky", 0.0, 2.0, True)
    np.testing.assert_array_equal(source.read_coordinates(2)[0], 0.25 * np.arange(8))
    np.testing.assert_array_equal(source.trajectories[2].times, 0.2 * np.arange(4))
    assert source.trajectories[2].parameters == {"v": 0.3}
    np.testing.assert_array_equal(source.read_frames(2, 1, 4)[:, 0], specimen.datasets["train/pde_4-8"][2, 1:])


def test_files_of_other_lengths_make_one_data_set(tmp_path: Path) -> None:
    specimens = [kuramoto_specimen(), kuramoto_specimen("KS_test.h5", split="test", frames=9)]
    source = open_source([specimen.write(tmp_path) for specimen in specimens])
    assert [info.num_frames for info in source.trajectories] == [4, 4, 4, 9, 9, 9]
    np.testing.assert_array_equal(source.read_frames(4, 0, 9)[:, 0], specimens[1].datasets["test/pde_9-8"][1])


def test_periods_that_differ_are_refused_unless_nothing_wraps(tmp_path: Path) -> None:
    specimen = kuramoto_specimen()
    specimen.datasets["train/dx"] = np.array([0.25, 0.25, 0.3])
    path = specimen.write(tmp_path)
    with pytest.raises(SourceError, match=r"different periods along x: .*; with --option periodic=false"):
        open_source([path])
    source = open_source([path], options={"periodic": False})
    assert (source.axes[0].upper, source.axes[0].periodic) == (pytest.approx(2.1), False)


def test_several_candidates_are_listed(tmp_path: Path) -> None:
    specimen = kuramoto_specimen()
    specimen.datasets["train/pde_2-8"] = random(3, 2, 8, seed=5)
    path = specimen.write(tmp_path)
    with pytest.raises(SourceError, match="train holds pde_2-8 and pde_4-8; say which with --option dataset=pde_2-8"):
        open_source([path])
    source = open_source([path], options={"dataset": "pde_2-8"})
    np.testing.assert_array_equal(source.read_frames(0, 0, 2)[:, 0], specimen.datasets["train/pde_2-8"][0])
    assert any("left out: pde_4-8" in note for note in source.notes)
    with pytest.raises(ConfigError, match=r"option dataset is 'pde_3-8'. Did you mean 'pde_"):
        open_source([path], options={"dataset": "pde_3-8"})


def test_maxwell_needs_times_and_nodes(tmp_path: Path) -> None:
    specimen = maxwell_specimen()
    path = specimen.write(tmp_path)
    with pytest.raises(
        SourceError, match=r"valid tells neither times nor nodes; state the distances of both: --option"
    ):
        open_source([path])
    source = open_source([path], options=specimen.options)
    assert [field.name for field in source.fields] == ["d_field", "h_field"]
    assert source.trajectories[0].times.tolist() == [0.0, 50.0, 100.0]
    np.testing.assert_array_equal(source.read_coordinates(1)[2], 5e-7 * np.arange(5))
    wanted = [np.moveaxis(values[1], -1, 1) for values in specimen.datasets.values()]
    np.testing.assert_array_equal(source.read_frames(1, 0, 3), np.concatenate(wanted, axis=1))
    assert not any(axis.periodic for axis in source.axes)
    assert any("does not tell whether its domain is periodic" in note for note in source.notes)
    told = open_source([path], options={**specimen.options, "periodic": True})
    assert all(axis.periodic for axis in told.axes)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("vy", None, "has no data set 'train/vy'. Did you mean 'train/"),
        ("vy", random(3, 4, 6, 4), r"train/vy has shape \(3, 4, 6, 4\), u has \(3, 4, 6, 5\)"),
        ("u", random(3, 4, 6), r"train/u has shape \(3, 4, 6\); \(n, T, X, Y\) is wanted"),
        ("t", np.arange(4.0), r"train/t has shape \(4,\); \(3, 4\) is wanted"),
        ("x", np.zeros((3, 6)), r"train/x\[0\] must increase strictly"),
        ("buo_y", np.ones(2), r"train/buo_y has shape \(2,\) for 3 trajectories; one number, or one for each"),
        ("buo_y", np.array([1, np.nan, 2]), r"train/buo_y\[1\] is .*nan.*; one finite number is wanted"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, name: str, values: np.ndarray | None, message: str) -> None:
    specimen = smoke_specimen()
    specimen.datasets[f"train/{name}"] = values
    specimen.datasets = {key: value for key, value in specimen.datasets.items() if value is not None}
    with pytest.raises(SourceError, match=message):
        open_source([specimen.write(tmp_path)])


def test_steps_and_names_of_kuramoto_sivashinsky_are_checked(tmp_path: Path) -> None:
    for name, values, message in [
        ("train/dt", np.zeros(3), "train/dt holds 0; steps must be positive"),
        ("train/pde_4-8", random(3, 5, 8), r"train/pde_4-8 has shape \(3, 5, 8\), which is not what its name says"),
    ]:
        specimen = kuramoto_specimen()
        specimen.datasets[name] = values
        with pytest.raises(SourceError, match=message):
            open_source([specimen.write(tmp_path)])


def test_other_files_are_told_what_is_wanted(tmp_path: Path) -> None:
    other = HDF5Specimen(format="pdearena", name="o.h5", datasets={"train/q": np.ones(3)})
    assert not PDEArenaSource.recognises(other.write(tmp_path))
    with pytest.raises(SourceError, match=r"o.h5: train holds q; u, vx and vy"):
        open_source([other.write(tmp_path)], "pdearena")
    other.datasets = {"q": np.ones(3)}
    with pytest.raises(
        UnknownFormatError, match="has no group train, valid, test, as PDEArena's files have; it holds q"
    ):
        open_source([other.write(tmp_path)], "pdearena")


def test_options_are_checked(tmp_path: Path) -> None:
    path = smoke_specimen().write(tmp_path)
    with pytest.raises(ConfigError, match="option periodic=True contradicts what is known of PDEArena's Navier-Stokes"):
        open_source([path], options={"periodic": True})
    with pytest.raises(ConfigError, match=r"has the unknown key 'space'. Did you mean 'spacing'\?"):
        open_source([path], options={"space": 1.0})


def test_a_source_is_picklable_after_reading(tmp_path: Path) -> None:
    source = open_source([kuramoto_specimen().write(tmp_path)])
    values = source.read_frames(0, 0, 4)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read_frames(0, 0, 4), values)
