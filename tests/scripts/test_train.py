"""The scripts that train, evaluate and roll out, as their users run them: what is wrong is told in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from tests.memory_source import MemorySource, wave_frames
from tests.scripts.conftest import ROOT

SMALL = ["model.grid_encoder.patch=4", "model.width=8", "seconds=null", "steps=3", "threads=1"]
CONFIG = ROOT / "configs" / "burgers.yaml"

Run = Callable[..., Result]


@pytest.fixture
def run(import_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()

    def invoke(name: str, *arguments: str | Path) -> Result:
        app = typer.Typer(pretty_exceptions_enable=False)
        app.command()(import_script(name).main)
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    yield invoke
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def line_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of one dimension."""
    path: Path = tmp_path_factory.mktemp("line") / "store"
    frames = [wave_frames((32,), num_frames=4, seed=seed) for seed in range(3)]
    convert(MemorySource.grid(frames, splits=["train", "train", "test"]), path, ConvertSettings(page_points=4))
    return path


@pytest.fixture
def trained(run: Run, store_path: Path) -> Path:
    """Return the folder of a run."""
    result = run("train", CONFIG, f"data.store={store_path}", *SMALL, "--output", "run")
    assert result.exit_code == 0, result.stderr
    return Path("run").resolve()


def test_a_fresh_run_trains_evaluates_and_goes_on(run: Run, store_path: Path, tmp_path: Path) -> None:
    arguments = [CONFIG, f"data.store={store_path}", *SMALL]
    result = run("train", *arguments, "--output", "run", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["step"] == 3
    evaluated = run("evaluate", "run/last.safetensors", "--json")
    assert evaluated.exit_code == 0, evaluated.stderr
    assert json.loads(evaluated.stdout)["relative_l2"] == pytest.approx(told["relative_l2"], rel=1e-5)
    again = run("train", *arguments, "--output", "run", "--resume", "--json")
    assert json.loads(again.stdout)["relative_l2"] == told["relative_l2"]


@pytest.fixture(scope="module")
def fine_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of the same fields as `store_path`, on another grid."""
    path: Path = tmp_path_factory.mktemp("fine") / "store"
    frames = [10 * wave_frames((32, 24), num_frames=4, seed=seed) for seed in range(3)]
    convert(MemorySource.grid(frames, splits=["train", "train", "test"]), path, ConvertSettings(page_points=8))
    return path


def write_mixture(folder: Path, **stores: Path) -> Path:
    path, lines = folder / "mixture.yaml", [f"    {name}: {{store: {store}}}" for name, store in stores.items()]
    path.write_text("\n".join([f"base: {CONFIG}", "data:", "  mixture:", "   stores:", *lines, ""]))
    return path


def test_a_mixture_trains_evaluates_and_goes_on(run: Run, store_path: Path, fine_path: Path, tmp_path: Path) -> None:
    """Errors are told for each store and for all; one of the stores is evaluated as it is with the others."""
    config = write_mixture(tmp_path, coarse=store_path, fine=fine_path)
    result = run("train", config, *SMALL, "--output", "run", "--json")
    assert result.exit_code == 0, result.stderr
    trained = json.loads(result.stdout)
    assert {name: part["num_samples"] for name, part in trained["stores"].items()} == {"coarse": 3, "fine": 3}
    evaluated = run("evaluate", "run/last.safetensors", "--json")
    assert evaluated.exit_code == 0, evaluated.stderr
    errors = json.loads(evaluated.stdout)
    assert errors["num_samples"] == 6
    assert errors["relative_l2"] == pytest.approx(trained["relative_l2"], rel=1e-5)
    for name, path in {"coarse": store_path, "fine": fine_path}.items():
        alone = json.loads(run("evaluate", "run/last.safetensors", path, "--json").stdout)
        assert alone == errors["stores"][name]
    lines = run("evaluate", "run/last.safetensors").stdout.splitlines()
    titles = [line.partition(" relative L2")[0] for line in lines if "relative L2" in line]
    assert titles[1:] == ["coarse:", "fine:"]
    again = run("train", config, *SMALL, "--output", "run", "--resume", "--json")
    assert json.loads(again.stdout) == trained
    assert "on a mixture of stores, coarse" in told(run("rollout", "run/last.safetensors"))


def test_mixtures_that_do_not_fit_are_told(run: Run, store_path: Path, line_path: Path, tmp_path: Path) -> None:
    config = write_mixture(tmp_path, plane=store_path, line=line_path)
    both = told(run("train", config, *SMALL, "--output", "run"))
    assert f"'line' ({line_path}) and 'plane' ({store_path}) of data.mixture: they are of 1 dimensions and" in both
    assert "give one of them" in told(run("train", config, *SMALL, f"data.store={store_path}", "--output", "run"))
    nearest = told(run("train", config, *SMALL, "data.mixture.stores.line.wieght=2", "--output", "run"))
    assert "'wieght'. Did you mean 'weight'" in nearest
    assert not Path("run").exists()


def told(result: Result) -> str:
    """Return the one line of an error; there is nothing else, no traceback among it."""
    assert result.exit_code == 2, result.stdout + result.stderr
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.stderr.startswith("error: "), result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimiser.learning_rate=1e-3"], "unknown key 'optimiser'. Did you mean 'optimizer'"),
        (["steps=many"], "steps: Input should be a valid integer, got 'many'"),
        (["model.width=[1]"], "model.width: "),
        (["steps"], "an override reads section.key=value, got 'steps'"),
        (["data.store=nowhere"], "nowhere"),
        (["data.store=null"], "set data.store in the configuration"),
        (["data.split=trian"], "Did you mean 'train'"),
        (["data.target_fields=[velocity]"], "velocity"),
        (["data.window.targets=9"], "9"),
        (["model.grid_encoder.patch=5"], "5"),
        (["model.width=10", "model.latent_operator.heads=4"], "no multiple of model.latent_operator.heads=4"),
        (["model.point_encoder.lattice=[0]"], "model.point_encoder.lattice.0"),
        (["device=quantum"], "device: quantum cannot be used here"),
    ],
)
def test_configurations_that_do_not_fit_are_told(
    run: Run, store_path: Path, overrides: list[str], message: str
) -> None:
    result = run("train", CONFIG, f"data.store={store_path}", *SMALL, *overrides, "--output", "run")
    assert message in told(result)
    assert not Path("run").exists()


def test_files_that_are_none_are_told(run: Run, store_path: Path, tmp_path: Path) -> None:
    assert "the configuration none.yaml cannot be read" in told(run("train", "none.yaml", "--output", "run"))
    broken = tmp_path / "broken.yaml"
    broken.write_text("steps: [1\n")
    assert "broken.yaml" in told(run("train", broken, "--output", "run"))
    (tmp_path / "file").write_text("")
    plain_file = told(run("train", CONFIG, f"data.store={store_path}", *SMALL, "--output", "file"))
    assert "file is a file, a run needs a folder" in plain_file
    for name in ("evaluate", "rollout"):
        assert "there is no checkpoint at none.safetensors" in told(run(name, "none.safetensors"))


def test_runs_of_another_kind_are_not_gone_on_with(run: Run, trained: Path, store_path: Path, line_path: Path) -> None:
    def resume(*overrides: str, store: Path = store_path) -> str:
        return told(run("train", CONFIG, f"data.store={store}", *SMALL, *overrides, "--output", trained, "--resume"))

    assert "belongs to another run (steps: 3, now 4); choose another folder" in resume("steps=4")
    assert "belongs to another run (model: " in resume("model.width=16")
    assert "belongs to another run (data: " in resume(store=line_path)
    plain = run("train", CONFIG, f"data.store={store_path}", *SMALL, "--output", trained)
    assert "holds a run already (last.safetensors); resume it, or choose another folder" in told(plain)


def test_stores_of_another_kind_are_told(run: Run, trained: Path, line_path: Path, tmp_path: Path) -> None:
    checkpoint = trained / "last.safetensors"
    for name in ("evaluate", "rollout"):
        other = told(run(name, checkpoint, line_path))
        assert f"was made for data of 2 dimensions, {line_path} is of 1 dimensions" in other
        assert "nowhere" in told(run(name, checkpoint, "nowhere"))
        assert "Did you mean 'test'" in told(run(name, checkpoint, "--split", "tset"))
        assert "quantum" in told(run(name, checkpoint, "--device", "quantum"))


def test_checkpoints_that_cannot_be_read_are_told(run: Run, trained: Path, store_path: Path, tmp_path: Path) -> None:
    whole = (trained / "last.safetensors").read_bytes()
    cut = tmp_path / "cut" / "last.safetensors"
    shutil.copytree(trained, cut.parent)
    cut.write_bytes(whole[: len(whole) // 2])
    for name in ("evaluate", "rollout"):
        assert "cut/last.safetensors cannot be read" in told(run(name, cut))
        assert "cannot be read" in told(run(name, CONFIG))
    arguments = [CONFIG, f"data.store={store_path}", *SMALL, "--output", cut.parent]
    assert "cut/last.safetensors cannot be read" in told(run("train", *arguments, "--resume"))
