"""Importance by the errors of a trained checkpoint, against errors computed sample by sample."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

import ups_data
from preprocess.cli import app
from preprocess.convert import ConvertSettings, convert
from preprocess.forecast import forecast
from preprocess.plan import plan_conversion
from preprocess.prove import prove, recommend_layout
from preprocess.repair import repair
from preprocess.sources import open_source
from tests.memory_source import MemorySource, wave_frames
from tests.ups_data.models.cases import SMALL
from ups_data.errors import ConfigError, SchemaError, StoreExistsError
from ups_data.importance import check_metrics, pin_recipe
from ups_data.inference import error_map
from ups_data.inference.error_map import one_thread
from ups_data.samplers import DenseSampler
from ups_data.schema import ClipSpec, FieldSpec, ImportanceSpec
from ups_data.storage import Store
from ups_data.training import Checkpoint, TrainConfig, train
from ups_data.yaml_records import parse_record

STEPPED = {"inputs": 2, "targets": 2, "stride": 2}


@pytest.fixture(scope="module")
def train_on(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Trains a small model for some steps and returns its checkpoint."""

    def run(store: Store, model: dict[str, Any] | None = None, **data: Any) -> Path:
        content = {
            "data": {"store": store.location, "batch_size": 2, **data},
            "sampler": {"kind": "uniform", "ratio": 0.25},
            "model": model or SMALL.model_dump(mode="json"),
            "steps": 5,
            "evaluations": 1,
            "threads": 1,
        }
        folder = tmp_path_factory.mktemp("run")
        train(parse_record(TrainConfig, content, where="test"), output=folder)
        return folder / "last.safetensors"

    return run


def recipe_of(path: Path, **others: float) -> ImportanceSpec:
    """A recipe whose maps are the errors themselves, over their mean."""
    return ImportanceSpec(metrics={f"error:{path}": 1.0}, exponent=1.0, floor=0.0, **others)


@torch.no_grad()
def errors_by_samples(path: Path, store: Store, trajectory: int, frames: range) -> np.ndarray:
    """Root mean squares at each point (N,), each target of each window by a dense dataset of its own."""
    checkpoint = Checkpoint.load(path)
    model, data = checkpoint.build_model().eval(), checkpoint.header.config.data
    split = list(store.splits)[store.tables.split[trajectory]]
    total, counts = np.zeros(store.num_points(trajectory)), np.zeros(store.num_points(trajectory))
    for number in range(data.window.targets):
        window = data.window.model_copy(update={"targets": number + 1})
        dataset = data.model_copy(update={"window": window}).build(
            store, DenseSampler(), split=split, statistics=checkpoint.header.statistics
        )
        for sample in dataset.samples_of(trajectory):
            batch = ups_data.collate_samples([dataset[sample]])
            if dataset[sample].target_frames[-1] not in frames:
                continue
            errors = (model.predict(batch) - batch.query_targets)[0, -1].double().numpy()
            valid = np.ones(errors.shape, bool) if batch.target_valid is None else batch.target_valid[0, -1].numpy()
            index = batch.query_index[0].numpy()
            np.add.at(total, index, (np.square(errors) * valid).sum(axis=1))
            np.add.at(counts, index, valid.sum(axis=1))
    return np.sqrt(total / np.maximum(counts, 1))


@pytest.mark.parametrize(
    ("kind", "window"), [("plane", {}), ("line", {"lead": 0}), ("plane", STEPPED | {"stride": 1}), ("cloud", {})]
)
def test_maps_are_the_errors_of_the_samples(
    kind: str, window: dict[str, int], stores: dict[str, Store], train_on: Callable[..., Path], tmp_path: Path
) -> None:
    store = stores[kind]
    path = train_on(store, window=window)
    found = convert_again(store, recipe_of(path), tmp_path / "store")
    for trajectory in range(len(store)):
        expected = errors_by_samples(path, store, trajectory, range(99))
        assert expected.min() > 0
        np.testing.assert_allclose(found.importance(trajectory), expected / expected.mean(), rtol=2e-4)


def convert_again(store: Store, spec: ImportanceSpec, dest: Path, **settings: Any) -> Store:
    convert(as_source(store), dest, ConvertSettings(importance=spec, page_points=4, num_strata=2, **settings))
    return ups_data.open_store(dest)


def as_source(store: Store, **others: Any) -> MemorySource:
    """Take what a store holds as a source."""
    names, trajectories = list(store.splits), range(len(store))
    on_grid = store.manifest.geometry.kind == "grid"
    frames = [
        store.read_dense(number, range(store.num_frames(number))).reshape(
            store.num_frames(number), -1, *store.shape(number)
        )
        for number in trajectories
    ]
    told = {
        "axes": store.manifest.geometry.axes,
        "coordinates": [store.axes(number) if on_grid else (store.coordinates(number),) for number in trajectories],
        "kind": store.manifest.geometry.kind,
        "fields": store.manifest.fields,
        "parameters": [
            dict(zip([one.name for one in store.manifest.parameters], store.parameters(number).tolist(), strict=True))
            for number in trajectories
        ],
        "splits": [names[code] for code in store.tables.split],
        "missing": store.manifest.missing_fields,
    }
    return MemorySource(frames, **{**told, **others})


@pytest.fixture(scope="module")
def long_store(convert_source: Callable[..., Store]) -> Store:
    frames = [wave_frames((16,), num_frames=11, num_channels=2, seed=seed) for seed in range(2)]
    for part in frames:
        part[3:6, 1, 4:9] = np.nan
    fields = (FieldSpec(name="still"), FieldSpec(name="gappy"))
    source = MemorySource.grid(frames, periodic=True, splits=["train", "test"], fields=fields, missing=["gappy"])
    return convert_source(source, page_points=4, num_strata=2)


@pytest.fixture(scope="module")
def stepped(train_on: Callable[..., Path], long_store: Store) -> Path:
    return train_on(long_store, window=STEPPED)


def test_blocks_have_the_errors_of_their_frames_from_inputs_before_them(
    long_store: Store, stepped: Path, tmp_path: Path
) -> None:
    blocks = {"frames_per_block": 4, "target_span": 2}
    found = convert_again(long_store, recipe_of(stepped), tmp_path / "store", **blocks)
    for block in range(3):
        frames = found.block_frames(1, block)
        expected = errors_by_samples(stepped, long_store, 1, frames)
        assert expected.all()
        np.testing.assert_allclose(found.importance(1, block), expected / expected.mean(), rtol=2e-4)


def test_chunks_workers_threads_and_a_resume_make_the_same_bytes(
    long_store: Store, stepped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("preprocess.partition.BLOCK_BYTES", 300)  # chunks of two frames
    settings = {"frames_per_block": 4, "target_span": 2}
    first = convert_again(long_store, recipe_of(stepped), tmp_path / "first", **settings)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        dest = tmp_path / "second"
        chosen = ConvertSettings(importance=recipe_of(stepped), page_points=4, num_strata=2, **settings)
        convert(as_source(long_store), dest, chosen, workers=2)
        assert torch.get_num_threads() == 3
        with one_thread():
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    assert ups_data.open_store(dest).manifest.files == first.manifest.files


def test_draws_by_errors_are_unbiased(long_store: Store, stepped: Path, tmp_path: Path) -> None:
    found = convert_again(long_store, recipe_of(stepped, clip=ClipSpec(quantile=0.9)), tmp_path / "store")
    report = prove(found, draws=400, ratio=0.5, num_trajectories=2)
    assert report.ok, report.problems
    assert {row.sampler for row in report.rows} > {"importance"}


def test_the_recipe_names_the_weights_and_other_weights_are_refused(
    long_store: Store, stepped: Path, train_on: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "run.safetensors"
    path.write_bytes(stepped.read_bytes())
    found = convert_again(long_store, recipe_of(path), tmp_path / "store")
    (name,) = found.manifest.importance.metrics
    assert name == next(iter(pin_recipe(recipe_of(path)).metrics))
    assert pin_recipe(found.manifest.importance) == found.manifest.importance
    path.write_bytes(train_on(long_store).read_bytes())
    with pytest.raises(ConfigError, match="it was written again since"):
        plan_conversion(as_source(long_store), ConvertSettings(importance=found.manifest.importance))


def test_layouts_are_compared_without_the_checkpoint_too(long_store: Store, stepped: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    path.write_bytes(stepped.read_bytes())
    found = convert_again(long_store, recipe_of(path), tmp_path / "store")
    whole = recommend_layout(found, trajectories=[0], ratio=0.5)
    assert whole.own_best is not None
    assert whole.own_problem is None
    path.unlink()
    error_map._load.cache_clear()  # as in another process
    left = recommend_layout(found, trajectories=[0], ratio=0.5)
    assert left.best is not None
    assert left.own_best is None
    assert re.match("the layout of this store was not compared: .* there is no checkpoint at", next(left.lines()))


def test_a_conversion_goes_on_with_the_weights_that_it_was_begun_with(
    long_store: Store, stepped: Path, train_on: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, dest = tmp_path / "run.safetensors", tmp_path / "store"
    path.write_bytes(stepped.read_bytes())

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("preprocess.convert.Conversion.finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            convert_again(long_store, recipe_of(path), dest)
    path.write_bytes(train_on(long_store).read_bytes())
    with pytest.raises(StoreExistsError, match="was begun with another importance"):
        convert_again(long_store, recipe_of(path), dest)
    path.write_bytes(stepped.read_bytes())
    convert_again(long_store, recipe_of(path), dest)


def test_a_grid_of_another_resolution_is_asked(long_store: Store, stepped: Path, tmp_path: Path) -> None:
    frames = [wave_frames((32,), num_frames=8, num_channels=2)]
    source = MemorySource.grid(frames, periodic=True, splits=["train"], fields=long_store.manifest.fields)
    convert(source, tmp_path / "store", ConvertSettings(importance=recipe_of(stepped)))
    store = ups_data.open_store(tmp_path / "store")
    assert store.importance(0).std() > 0
    assert Checkpoint.load(stepped).header.problem.missing_inputs == (1,)


def test_a_plan_measures_the_errors_of_its_sample(long_store: Store, stepped: Path, tmp_path: Path) -> None:
    made = forecast(as_source(long_store), ConvertSettings(importance=recipe_of(stepped)), scratch=tmp_path)
    assert made.sample is not None
    assert list(made.importance.metrics) == list(pin_recipe(recipe_of(stepped)).metrics)


DESCRIPTION = """
dims: [trajectory, time, x]
fields: {u: {file: u.npy}}
axes: {x: {start: 0, stop: 1, periodic: true}}
times: {start: 0, step: 1}
"""


def test_the_command_line_takes_a_checkpoint_and_a_repair_finds_it_again(
    train_on: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("u.npy", np.stack([wave_frames((16,), num_frames=5, seed=seed)[:, 0] for seed in range(4)]))
    Path("waves.yaml").write_text(DESCRIPTION)
    convert(open_source([Path("waves.yaml")]), Path("plain"), ConvertSettings())
    Path("run.safetensors").write_bytes(train_on(ups_data.open_store("plain")).read_bytes())
    typed = ["convert", "waves.yaml", "store", "--importance", "error:run.safetensors,gradient=0.5"]
    with pytest.raises(SystemExit) as ended:
        app(typed)
    assert ended.value.code == 0
    store = ups_data.open_store("store")
    assert [name.partition("@")[0] for name in store.manifest.importance.metrics] == [
        "error:run.safetensors",
        "gradient",
    ]
    shard = Path("store/pages/importance/c/0/0")
    content = shard.read_bytes()
    shard.write_bytes(content[::-1])
    assert len(repair(Path("store"), [Path("waves.yaml")]).rebuilt) == 1
    assert shard.read_bytes() == content
    Path("run.safetensors").unlink()
    shard.write_bytes(content[::-1])
    with pytest.raises(ConfigError, match=r"the checkpoint run.safetensors cannot be read \(No such file"):
        repair(Path("store"), [Path("waves.yaml")])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"weights", "the checkpoint .*other.safetensors cannot be read"),
        (save({"a": torch.zeros(1)}), "is a file of tensors that ups_data did not write as a checkpoint"),
        (None, r"the checkpoint .*other.safetensors cannot be read \(No such file or directory\); paths are relative"),
    ],
)
def test_what_is_no_checkpoint_is_refused(
    content: bytes | None, message: str, long_store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "other.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        plan_conversion(as_source(long_store), ConvertSettings(importance=recipe_of(path)))


@pytest.mark.parametrize("name", ["error", "error:"])
def test_a_checkpoint_must_be_named(name: str) -> None:
    with pytest.raises(SchemaError, match=f"'{name}' must name the checkpoint whose errors are meant"):
        check_metrics(ImportanceSpec(metrics={name: 1.0}))


def test_a_grid_that_the_encoder_cannot_cut_is_refused(
    stores: dict[str, Store], train_on: Callable[..., Path], tmp_path: Path
) -> None:
    config = SMALL.model_dump(mode="json")
    config["grid_encoder"]["resolution"] = "free"
    path = train_on(stores["line"], model=config)
    frames = [wave_frames((30,), num_frames=3, num_channels=2)]
    source = MemorySource.grid(frames, periodic=True, splits=["train"], parameters=[{"nu": 0.1}])
    with pytest.raises(ConfigError, match=r"'error:.*axis 'x' has 30 nodes, no multiple of patch=4"):
        convert(source, tmp_path / "store", ConvertSettings(importance=recipe_of(path)))
