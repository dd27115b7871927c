from pathlib import Path

import pytest

import ups_data
from ups_data.errors import ConfigError
from ups_data.samplers import Linear, PageSampler
from ups_data.samplers.point_sampler import PointSampler
from ups_data.training import TrainConfig, load_config
from ups_data.training.data_config import ShuffleConfig
from ups_data.yaml_records import parse_record

CONFIGS = Path(__file__).parents[3] / "configs"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_orders_of_samples_are_built_for_the_store(store: ups_data.Store) -> None:
    dataset = ups_data.QueryDataset(store, sampler=ups_data.BalancedSampler(0.25))
    built = {
        text: parse_record(ShuffleConfig, content, where="test").build(dataset)
        for text, content in (
            ("full", {}),
            ("none", {"kind": "none"}),
            ("block", {"kind": "block"}),
            ("mixed", {"kind": "block", "block": 3, "mixed": 2}),
            ("stream", {"kind": "stream", "lanes": 4, "run": 2}),
        )
    }
    assert built == {
        "full": True,
        "none": False,
        "block": ups_data.BlockShuffle(block=dataset.samples_per_shard),
        "mixed": ups_data.BlockShuffle(block=3, mixed=2),
        "stream": ups_data.StreamShuffle(block=dataset.samples_per_shard, lanes=4, run=2),
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"kind": "none", "block": 3}, "kind: none takes no other key, not block"),
        ({"kind": "block", "lanes": 3}, "kind: block takes block, mixed, not lanes"),
        ({"kind": "stream", "mixed": 3}, "kind: stream takes block, lanes, run, not mixed"),
        ({"kind": "blocks"}, "kind"),
        ({"kind": "block", "block": 0}, "block"),
        ({"kinds": "block"}, "unknown key 'kinds'. Did you mean 'kind'"),
    ],
)
def test_orders_that_make_no_sense_are_refused(content: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_record(ShuffleConfig, content, where="test")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_configurations_that_we_ship_are_read(path: Path) -> None:
    overrides = ("steps=1",) if path.stem == "base" else ()
    assert isinstance(load_config(path, overrides), TrainConfig)


def test_a_difference_lies_above_its_base_and_overrides_above_both(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "steps: 5\noptimizer: {learning_rate: 1e-3, warmup: 0.2}\nseed: 3\n")
    path = write(tmp_path / "run.yaml", "base: base.yaml\noptimizer: {warmup: 0.1}\n")
    config = load_config(path, ["seed=7", "data.window.targets=2", "data.input_fields=[u, v]"])
    assert (config.steps, config.seed) == (5, 7)
    assert (config.optimizer.learning_rate, config.optimizer.warmup) == (1e-3, 0.1)
    assert config.data.window.targets == 2
    assert config.data.input_fields == ("u", "v")


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("steps: 5\noptimiser: {}\n", [], "unknown key 'optimiser'. Did you mean 'optimizer'"),
        (
            "steps: 5\nmodel: {decoder: {head: 2}}\n",
            [],
            r"in model.decoder, has the unknown key 'head'. Did .* 'heads'",
        ),
        ("steps: 5\noptimizer: {learning_rate: -1}\n", [], "optimizer.learning_rate: .*greater than 0, got -1"),
        ("steps: 5\nseconds: 3\n", [], "steps or seconds, one of them"),
        ("seed: 1\n", [], "steps or seconds, one of them"),
        ("steps: 5\nsampler: {kind: dense, ratio: 0.1}\n", [], "leave out ratio and num_queries"),
        ("steps: 5\nsampler: {kind: uniform}\n", [], "needs ratio or num_queries"),
        (
            "steps: 5\nsampler: {ratio: 0.1, feedback: {every: 2}}\n",
            [],
            "importance learns nothing from feedback",
        ),
        ("steps: 5\nsampler: {ratio: 1.5}\n", [], r"run.yaml: sampler.ratio: .* less than or equal to 1, got 1.5"),
        ("steps: 5\nsampler: {ratio: {schedule: linear, start: 0.1, end: 2, steps: 5}}\n", [], "at most 1, from the"),
        ("steps: 5\nsampler: {num_queries: {schedule: linear, start: 9, end: 0, steps: 5}}\n", [], "at least 1, from"),
        (
            "steps: 5\nsampler: {ratio: {schedule: linear, start: 1, end: 0.1}}\n",
            [],
            "lacks the key 'sampler.ratio.steps'",
        ),
        (
            "steps: 5\nsampler: {ratio: {schedule: linear, start: 1, end: 0.1, stepz: 3}}\n",
            [],
            r"in sampler.ratio, has the unknown key 'stepz'. Did you mean 'steps'",
        ),
        ("steps: 5\nsampler: {kind: importanc, ratio: 0.1}\n", [], "sampler.kind"),
        ("steps: 5\n", ["steps"], "section.key=value, got 'steps'"),
        ("steps: 5\n", ["data..store=x"], "section.key=value"),
        ("steps: [\n", [], "not valid YAML"),
        ("- 1\n", [], "must hold sections"),
        ("base: run.yaml\n", [], "its own base"),
        ("base: nowhere.yaml\n", [], "nowhere.yaml cannot be read"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path / "run.yaml", text), overrides)


def test_changes_replace_a_sampler_as_a_whole(tmp_path: Path) -> None:
    config = load_config(write(tmp_path / "run.yaml", "steps: 5\nsampler: {kind: importance, ratio: 0.1}\n"))
    dense = config.with_changes(sampler={"kind": "dense"}, data={"batch_size": 2})
    assert isinstance(dense.sampler.build(), ups_data.DenseSampler)
    assert (dense.data.batch_size, dense.steps) == (2, 5)
    with pytest.raises(ConfigError, match="unknown key 'batchsize'"):
        config.with_changes(data={"batchsize": 2})


@pytest.mark.parametrize("kind", ["uniform", "stratified", "balanced", "importance"])
def test_schedules_reach_the_sampler(tmp_path: Path, kind: str) -> None:
    text = f"steps: 5\nsampler: {{kind: {kind}, ratio: {{schedule: linear, start: 0.5, end: 0.1, steps: 100}}}}\n"
    sampler = load_config(write(tmp_path / "run.yaml", text)).sampler.build()
    assert sampler.name == kind
    assert isinstance(sampler, (PageSampler, PointSampler))
    assert sampler.amount.ratio == Linear(start=0.5, end=0.1, steps=100)


def test_a_device_that_is_not_there_is_refused() -> None:
    assert TrainConfig(steps=1).choose_device().type in ("cpu", "cuda")
    for device in ("cuda:99", "abacus"):
        with pytest.raises(ConfigError, match=f"device: {device} cannot be used here"):
            TrainConfig(steps=1, device=device).choose_device()


def test_a_run_without_a_store_says_how_to_name_one() -> None:
    with pytest.raises(ConfigError, match=r"data\.store=PATH"):
        TrainConfig(steps=1).data.open()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{mixtures: {}}", "unknown key 'mixtures'. Did you mean 'mixture'"),
        ("{mixture: {store: {}}}", "in data.mixture, has the unknown key 'store'. Did you mean 'stores'"),
        (
            "{mixture: {stores: {a: {store: x, wieght: 2}}}}",
            "in data.mixture.stores.a, .*'wieght'. Did you mean 'weight'",
        ),
        ("{mixture: {stores: {a: {weight: 2}}}}", "lacks the key 'data.mixture.stores.a.store'"),
        ("{mixture: {stores: {a: {store: x, weight: 0}}}}", "data.mixture.stores.a.weight: .* greater than 0, got 0"),
        (
            "{mixture: {stores: {a: {store: x, weight: 1}, b: {store: y}}}}",
            "every store a weight or none of them: b has",
        ),
        ("{mixture: {stores: {a: {store: x}}, batches: mixed}}", "data.mixture.batches: .*'homogeneous' or 'padded'"),
        ("{mixture: {stores: {}}}", "data.mixture.stores: .*at least 1 item"),
        (
            "{store: x, mixture: {stores: {a: {store: x}}}}",
            "store and mixture both say where samples come from; give one",
        ),
        ("{queries: x, mixture: {stores: {a: {store: x}}}}", "give mixture.stores.NAME.queries instead"),
    ],
)
def test_mixtures_that_are_none_are_told(tmp_path: Path, data: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path / "run.yaml", f"steps: 5\ndata: {data}\n"))


def test_a_mixture_is_changed_store_by_store(tmp_path: Path) -> None:
    """Also by a file above the one that names one store; the order of the stores does not matter."""
    write(tmp_path / "one.yaml", "steps: 5\ndata: {store: x}\n")
    stores = "{b: {store: y, weight: 2}, a: {store: x, weight: 1, queries: z}}"
    text = f"base: one.yaml\ndata: {{store: null, mixture: {{stores: {stores}}}}}\n"
    config = load_config(write(tmp_path / "run.yaml", text), ["data.mixture.stores.b.weight=3"])
    assert config.data.mixture is not None
    assert config.data.mixture.weights == {"a": 1, "b": 3}
    assert list(config.data.parts) == ["a", "b"]
    assert config.data.parts["a"].queries == "z"
    with pytest.raises(ConfigError, match=r"on a mixture of stores, a \(x\), b \(y\), and this is done with one"):
        config.data.open()
