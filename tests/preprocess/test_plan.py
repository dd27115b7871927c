"""The plan of a conversion: sizes, splits, layout and arrays, before anything is written."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.plan import plan_conversion
from preprocess.settings import ConvertSettings
from tests.memory_source import MemorySource, cloud
from tests.ups_data.storage.cases import GEOMETRIES, settings_for
from ups_data.errors import ConfigError, SourceError
from ups_data.schema import ImportanceSpec


def lines(count: int, **others: object) -> MemorySource:
    return MemorySource.grid([np.zeros((2, 1, 16), dtype="float32")] * count, **others)


# -- sizes and arrays ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GEOMETRIES)
def test_arrays_have_a_row_for_every_page_of_every_frame(name: str) -> None:
    source = GEOMETRIES[name]("float32")
    plan = plan_conversion(source, settings_for(source))
    page = plan.layout.page_points
    # Points that never have a value get pages of their own.
    pages = [-(-info.num_points // page) + bool(source.missing_fields) for info in source.trajectories]
    frames = [info.num_frames for info in source.trajectories]
    length, span = source.settings.get("frames_per_block", 99), source.settings.get("target_span", 1)
    blocks = [[min(count - start, length + span - 1) for start in range(0, count, length)] for count in frames]
    assert plan.blocks.frames.tolist() == [count for part in blocks for count in part]
    assert plan.arrays["pages/index"].shape == (
        sum(num * len(part) for num, part in zip(pages, blocks, strict=True)),
        page,
    )
    rows = sum(sum(part) * num for part, num in zip(blocks, pages, strict=True))
    assert plan.arrays["pages/values"].shape == (rows, source.frames[0].shape[1], page)
    on_grid = source.kind == "grid"
    assert ("pages/coordinates" in plan.arrays) == (not on_grid)
    assert ("fields" in plan.arrays) == (on_grid and plan.shape is not None) == (plan.layout.dense == "stored")
    if "fields" in plan.arrays:
        assert plan.arrays["fields"].shape == (sum(frames), source.frames[0].shape[1], *plan.shape)


@pytest.mark.parametrize("mib", [1, 2, 64])
def test_shards_hold_what_was_asked_and_whole_frames(mib: int) -> None:
    source = MemorySource.grid([np.zeros((12, 3, 128, 64), dtype="float32")])
    plan = plan_conversion(source, ConvertSettings(shard_mib=mib))
    for spec in plan.arrays.values():
        size = spec.rows_per_shard * spec.codec_of_chunk.chunk_bytes
        assert size <= mib * 2**20
        assert size > mib * 2**19 or spec.num_shards == 1
    assert plan.arrays["fields"].rows_per_shard % 3 == 0


def test_a_frame_larger_than_a_shard_gets_one_of_its_own() -> None:
    source = MemorySource.grid([np.zeros((2, 3, 512, 512), dtype="float32")])
    fields = plan_conversion(source, ConvertSettings(shard_mib=1)).arrays["fields"]
    assert (fields.rows_per_shard, fields.num_shards) == (3, 2)


def test_what_is_set_is_kept() -> None:
    settings = ConvertSettings(page_points=4, num_strata=3, block_points=2, curve="morton", codec="zstd", seed=9)
    every_row = settings.model_copy(update={"min_compressed_bytes": 1})
    plan = plan_conversion(lines(3), settings)
    layout = plan.layout
    assert (layout.page_points, layout.num_strata, layout.block_points) == (4, 3, 2)
    assert (layout.curve, layout.seed) == ("morton", 9)
    assert {spec.codec for spec in plan.arrays.values()} == {"none"}
    assert {spec.codec for spec in plan_conversion(lines(3), every_row).arrays.values()} == {"zstd"}


def test_short_rows_are_not_compressed() -> None:
    """Frames of 16 KiB and pages of values of 8 KiB and more are, ids of 4 KiB are not."""
    source = MemorySource.grid([np.zeros((2, 3, 64, 64), dtype="float32")])
    plan = plan_conversion(source, ConvertSettings(codec="zstd", page_points=1024))
    codecs = {key: (spec.codec_of_chunk.chunk_bytes, spec.codec) for key, spec in plan.arrays.items()}
    assert codecs == {
        "fields": (16384, "zstd"),
        "pages/values": (12288, "zstd"),
        "pages/index": (4096, "none"),
        "pages/importance": (4096, "none"),
    }
    settings = ConvertSettings(codec="zstd", page_points=1024, min_compressed_bytes=12289)
    plan = plan_conversion(source, settings)
    assert {key for key, spec in plan.arrays.items() if spec.codec == "zstd"} == {"fields"}


def test_dense_frames_may_be_left_out_and_cannot_be_forced() -> None:
    assert "fields" not in plan_conversion(lines(2), ConvertSettings(dense="rebuilt")).arrays
    points = MemorySource.points([np.zeros((1, 1, 9), dtype="float32")], [cloud(9, 2)])
    for source in (GEOMETRIES["ragged"]("float32"), points):
        with pytest.raises(ConfigError, match="dense frames can only be stored where all trajectories share one grid"):
            plan_conversion(source, settings_for(source, dense="stored"))


# -- splits ----------------------------------------------------------------------------------------------------------


@given(
    count=st.integers(1, 200),
    weights=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    seed=st.integers(0, 2**53),
)
def test_drawn_splits_have_the_shares_that_were_asked(count: int, weights: list[int], seed: int) -> None:
    shares = {f"part{number}": weight / sum(weights) for number, weight in enumerate(weights)}
    plan = plan_conversion(lines(count), ConvertSettings(splits=shares, seed=seed))
    sizes = np.bincount(plan.split_codes, minlength=len(shares))
    assert sizes.sum() == count
    assert plan.split_names == tuple(shares)
    wanted = np.array(list(shares.values())) * count
    # At least one each where they suffice may take up to one trajectory a split from the others.
    assert (np.abs(sizes - wanted) < len(shares) + 1).all()
    if count >= len(shares):
        assert sizes.min() >= 1
    if wanted.min() >= 1:
        assert (np.abs(sizes - wanted) < 1).all()


def test_drawn_splits_depend_on_the_seed_and_say_so() -> None:
    plans = [plan_conversion(lines(50), ConvertSettings(seed=seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(plans[0].split_codes, plans[1].split_codes)
    assert (plans[0].split_codes != plans[2].split_codes).any()
    assert plans[2].split_provenance == "drawn at random with seed 1: train 0.8, valid 0.1, test 0.1"
    assert np.bincount(plans[0].split_codes).tolist() == [40, 5, 5]


def test_a_single_trajectory_trains() -> None:
    plan = plan_conversion(lines(1), ConvertSettings())
    assert plan.split_names[plan.split_codes[0]] == "train"


def test_splits_of_the_source_are_kept_in_their_order() -> None:
    plan = plan_conversion(lines(3, splits=["test", "train", "test"]), ConvertSettings())
    assert (plan.split_names, plan.split_codes.tolist()) == (("test", "train"), [0, 1, 0])
    assert plan.split_provenance == "source"


def test_splits_of_the_source_are_not_overruled() -> None:
    source = lines(2, splits=["train", "test"])
    with pytest.raises(ConfigError, match=r"brings its own splits \['test', 'train'\]; leave out `splits`"):
        plan_conversion(source, ConvertSettings(splits={"train": 1.0}))


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (["train", None], r"array\[1\] has no split while others have one"),
        (["train", "a b"], "split 'a b' is no valid name"),
        ([f"s{number}" for number in range(257)], "brings 257 splits, a store holds at most 256"),
    ],
)
def test_bad_splits_of_the_source_are_refused(splits: list[str | None], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        plan_conversion(lines(len(splits), splits=splits), ConvertSettings())


def test_an_empty_train_split_is_refused() -> None:
    shares = {"test": 0.5, "valid": 0.49, "train": 0.01}
    with pytest.raises(ConfigError, match="split 'train' would get none of the 2 trajectories"):
        plan_conversion(lines(2), ConvertSettings(splits=shares))


# -- parameters and refusals -----------------------------------------------------------------------------------------


def test_parameters_take_the_order_of_the_first_trajectory() -> None:
    source = lines(2, parameters=[{"b": 1.0, "a": 2.0}, {"a": 4.0, "b": 3.0}])
    assert plan_conversion(source, ConvertSettings()).parameters.tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"a": 1.0, "b": 2.0}, r"array\[1\] has parameters \['a', 'b'\], others \['a'\]"),
        ({"a": float("nan")}, r"array\[1\] has a parameter that is not finite"),
    ],
)
def test_parameters_must_agree(second: dict[str, float], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        plan_conversion(lines(2, parameters=[{"a": 0.0}, second]), ConvertSettings())


def test_parameters_need_names() -> None:
    with pytest.raises(SourceError, match="parameter '2nu' is no valid name"):
        plan_conversion(lines(1, parameters=[{"2nu": 1.0}]), ConvertSettings())


def test_a_source_without_trajectories_is_refused() -> None:
    source = lines(1)
    source.trajectories = []
    with pytest.raises(SourceError, match="memory holds no trajectory"):
        plan_conversion(source, ConvertSettings())


def test_an_unknown_metric_is_refused() -> None:
    recipe = ImportanceSpec(metrics={"gradent": 1.0})
    with pytest.raises(ConfigError, match=r"no importance metric 'gradent'. Did you mean 'gradient'\?"):
        plan_conversion(lines(1), ConvertSettings(importance=recipe))
