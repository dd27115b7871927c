"""Adaptive draws: budgets follow the losses that are fed back, at stated steps, and weights stay exact."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch

import ups_data
from tests.memory_source import MemorySource, wave_frames
from ups_data.collate import BatchOrigin
from ups_data.errors import DatasetError, SamplerError, StateError
from ups_data.feedback import Feedback, Learner
from ups_data.samplers import DrawKey, FeedbackRule

RULE = FeedbackRule(every=2, lag=9, decay=0.5, warmup=4, least_effective=4.0)
STRATA = 4


@pytest.fixture(scope="module")
def store(convert_source: Callable[..., ups_data.Store]) -> ups_data.Store:
    frames = [wave_frames((32, 24), num_frames=5, seed=seed) for seed in range(6)]
    return convert_source(MemorySource.grid(frames, splits=["train"] * 6), page_points=8, num_strata=STRATA)


def build(store: ups_data.Store, rule: FeedbackRule = RULE, **options: int) -> ups_data.QueryLoader:
    dataset = ups_data.QueryDataset(store, sampler=ups_data.AdaptiveSampler(0.2, feedback=rule), seed=3)
    return ups_data.build_loader(dataset, batch_size=4, **options)


def losses_of(batch: ups_data.SparseBatch) -> torch.Tensor:
    """Return losses that depend on all that was drawn: large where x is."""
    return batch.query_coords[..., 0] ** 4 + batch.query_targets[:, 0, :, 0].abs() * 1e-3


def content(batch: ups_data.SparseBatch) -> bytes:
    return batch.buffer.numpy().tobytes()


def serve(loader: ups_data.QueryLoader | ups_data.DeviceLoader, batches: int) -> list[bytes]:
    """Return the bytes of the next batches, each fed back."""
    found: list[bytes] = []
    while len(found) < batches:
        for batch in loader:
            found.append(content(batch))
            loader.feedback(batch, losses_of(batch))
            if len(found) == batches:
                break
    return found


def memory_of(rule: FeedbackRule) -> Feedback:
    return Feedback({None: Learner(rule=rule, num_strata=STRATA)})


@pytest.fixture(scope="module")
def expected(store: ups_data.Store) -> list[bytes]:
    return serve(build(store), 18)


def test_draws_change_once_losses_are_known(store: ups_data.Store) -> None:
    """Before step lag + warm-up they are those of importance without walking; then budgets follow the losses."""
    sampler = ups_data.ImportanceSampler(0.2, walk=False)
    plain = ups_data.build_loader(ups_data.QueryDataset(store, sampler=sampler, seed=3), batch_size=4)
    loader, count = build(store), 0
    for _ in range(3):
        for one, other in zip(plain, loader, strict=True):
            loader.feedback(other, losses_of(other))
            assert (one.sample_ids == other.sample_ids).all()
            same = torch.equal(one.query_index, other.query_index)
            assert one.origin is not None
            assert same == (one.origin.step < RULE.lag + RULE.warmup)
            count += same
    assert count == 13


@pytest.mark.parametrize("trust", [0.5, 1.0])
def test_budgets_and_weights_of_an_emphasis(store: ups_data.Store, trust: float) -> None:
    """Shares follow N_s e_s beside floor and map; each weight is 1 / (N times the chance to be drawn); starts stay."""
    layout = store.layout(0)
    sampler = ups_data.AdaptiveSampler(0.2, uniform_share=0.1, feedback=FeedbackRule(trust=trust))
    starts = []
    for emphasis in (None, (1.0, 1.0, 1.0, 1.0), (1.0, 2.0, 4.0, 1.0), (9.0, 0.1, 0.1, 0.1)):
        key = DrawKey(seed=0, epoch=1, sample=2, emphasis=emphasis)
        draw = sampler.draw(layout, key)
        assert draw.strata is not None
        budgets = np.bincount(draw.strata, minlength=STRATA)
        for stratum, (budget, size) in enumerate(zip(budgets, layout.stratum_pages, strict=True)):
            np.testing.assert_allclose(draw.weights[draw.strata == stratum], size / budget / layout.num_points)
        starts.append(sampler._starts(layout, budgets, key).tolist())
        if emphasis is not None:
            wanted = layout.stratum_points * np.array(emphasis)
            wanted = 0.1 * layout.stratum_points / layout.num_points + 0.9 * wanted / wanted.sum()
            wanted = trust * wanted + (1 - trust) * ups_data.ImportanceSampler(0.2, uniform_share=0.1).shares(
                layout, key
            )
            np.testing.assert_allclose(sampler.shares(layout, key), wanted)
            order = np.argsort(wanted)
            free = (budgets > 1) & (budgets < layout.stratum_pages)
            assert (np.diff(budgets[order][free[order]]) >= -1).all()
    assert starts == [starts[0]] * 4


def test_what_is_fed_back_is_told_by_strata(store: ups_data.Store) -> None:
    """Queries come stratum by stratum, each stratum with one weight, and losses are counted with their own stratum."""
    batch = next(iter(build(store)))
    assert batch.stratum_queries is not None
    assert (batch.stratum_queries.sum(dim=1) == batch.query_mask.sum(dim=1)).all()
    losses = torch.full(batch.query_weights.shape, 1e9)  # on padding: must not count
    for row, counts in enumerate(batch.stratum_queries.tolist()):
        parts = batch.query_weights[row, : sum(counts)].split(counts)
        assert len(parts) == STRATA
        assert all(part.unique().numel() == 1 for part in parts)
        numbers = torch.arange(STRATA).repeat_interleave(torch.tensor(counts))
        losses[row, : sum(counts)] = (numbers + 1.0) ** 2
    feedback = memory_of(FeedbackRule(every=1, lag=0, warmup=0, decay=1.0, least_effective=1.0))
    feedback.add(batch, losses)
    assert feedback.emphases(1)[None] == pytest.approx([0.4, 0.8, 1.2, 1.6])


@pytest.mark.parametrize("told", [1, 2, 3])
def test_losses_of_fresh_points_are_told_frame_by_frame(store: ups_data.Store, told: int) -> None:
    """Of all frames or the first few: each loss is counted with the stratum of its point in that frame."""
    window = ups_data.Window(targets=3, points="fresh")
    dataset = ups_data.QueryDataset(store, sampler=ups_data.AdaptiveSampler(0.2, feedback=RULE), window=window)
    batch = next(iter(ups_data.build_loader(dataset, batch_size=4)))
    assert batch.stratum_queries is not None
    assert batch.stratum_queries.shape == (4, 3, STRATA)
    assert (batch.stratum_queries.sum(dim=2) == batch.query_mask.sum(dim=2)).all()
    losses = torch.full(batch.query_weights[:, :told].shape, 1e9)  # on padding: must not count
    for row in range(4):
        for frame in range(told):
            counts = batch.stratum_queries[row, frame]
            drawn = batch.query_weights[row, frame, : int(counts.sum())]
            assert all(part.unique().numel() == 1 for part in drawn.split(counts.tolist()))
            losses[row, frame, : len(drawn)] = (torch.arange(STRATA).repeat_interleave(counts) + 1.0) ** 2
    feedback = memory_of(FeedbackRule(every=1, lag=0, warmup=0, decay=1.0, least_effective=1.0))
    feedback.add(batch, losses)
    assert feedback.emphases(1)[None] == pytest.approx([0.4, 0.8, 1.2, 1.6])
    for wrong in (losses[:, 0], losses[:, :0], losses[..., 1:]):
        with pytest.raises(DatasetError, match="losses of shape"):
            memory_of(RULE).add(batch, wrong)


def test_fresh_points_learn_alike_with_any_number_of_workers(store: ups_data.Store) -> None:
    def run(**options: int) -> list[bytes]:
        sampler, window = ups_data.AdaptiveSampler(0.2, feedback=RULE), ups_data.Window(targets=2, points="fresh")
        dataset = ups_data.QueryDataset(store, sampler=sampler, window=window, seed=3)
        loader, found = ups_data.build_loader(dataset, batch_size=4, **options), []
        for _ in range(5):
            for batch in loader:
                found.append(content(batch))
                loader.feedback(batch, batch.query_coords[..., 0] ** 4)
        assert any(emphasis for _, emphasis in loader.state_dict()["feedback"]["learnt"][0]["emphases"])
        return found

    alone = run()
    assert len(alone) > RULE.warmup + RULE.lag + RULE.every
    assert run(num_workers=2) == alone


@pytest.mark.parametrize("options", [{"num_workers": 1}, {"num_workers": 2}, {"read_together": 3}], ids=str)
def test_workers_change_nothing(store: ups_data.Store, expected: list[bytes], options: dict[str, int]) -> None:
    assert serve(build(store, **options), 18) == expected


def test_a_device_loader_that_holds_batches_changes_nothing(store: ups_data.Store, expected: list[bytes]) -> None:
    assert serve(ups_data.DeviceLoader(build(store, num_workers=1), "cpu", ahead=2), 18) == expected


@pytest.mark.parametrize("ahead", [0, 2])
def test_every_step_resumes(store: ups_data.Store, expected: list[bytes], ahead: int) -> None:
    loader = ups_data.DeviceLoader(build(store), "cpu", ahead=ahead)
    states = [json.dumps(loader.state_dict())]
    while len(states) <= 16:
        for batch in loader:
            loader.feedback(batch, losses_of(batch))
            states.append(json.dumps(loader.state_dict()))
    for step in range(17):
        other = build(store, num_workers=step % 2)
        other.load_state_dict(json.loads(states[step]))
        assert serve(other, 18 - step) == expected[step:]


def test_what_is_not_fed_back_is_told(store: ups_data.Store) -> None:
    loader = build(store)
    list(loader)
    what = r"draws of global step 11 go by the losses of the steps before 2, .* of 0 were"
    with pytest.raises(StateError, match=what):
        list(loader)
    loader = build(store)
    batches = iter(loader)
    first, second = next(batches), next(batches)
    with pytest.raises(StateError, match=r"before global step 2 needs .* those of 0 are due"):
        loader.state_dict()
    with pytest.raises(StateError, match="losses of global step 1 were fed back, those of 0 are due"):
        loader.feedback(second, losses_of(second))
    with pytest.raises(DatasetError, match=r"losses of shape \(4, 3\) were fed back"):
        loader.feedback(first, torch.zeros(4, 3))
    loader.feedback(first, losses_of(first))
    with pytest.raises(StateError, match="losses of global step 0 were fed back, those of 1 are due"):
        loader.feedback(first, losses_of(first))


def test_where_draws_cannot_adapt_is_told(store: ups_data.Store) -> None:
    adaptive = ups_data.QueryDataset(store, sampler=ups_data.AdaptiveSampler(0.2, feedback=RULE), seed=3)
    with pytest.raises(DatasetError, match=r"up to 12 batches .* a lag of 9; set FeedbackRule\(lag=12\)"):
        build(store, num_workers=4, prefetch_factor=3)
    with pytest.raises(DatasetError, match="up to 10 batches are drawn ahead"):
        ups_data.DeviceLoader(build(store, num_workers=2), "cpu", ahead=6)
    with pytest.raises(DatasetError, match="use build_loader"):
        ups_data.dataloader_arguments(adaptive, batch_size=2)
    balanced = ups_data.QueryDataset(store, sampler=ups_data.BalancedSampler(0.2), seed=3)
    plain = ups_data.build_loader(balanced, batch_size=4)
    assert not plain.wants_feedback
    batch = next(iter(plain))
    with pytest.raises(DatasetError, match="does not learn from losses; use AdaptiveSampler"):
        plain.feedback(batch, losses_of(batch))
    with pytest.raises(StateError, match="whose sampler adapts"):
        plain.load_state_dict(build(store).state_dict())


@pytest.mark.parametrize("why", ["not finite", "all zero", "one point decides"])
def test_draws_fall_back_where_losses_tell_nothing(store: ups_data.Store, why: str) -> None:
    batch = next(iter(build(store)))
    batch.origin = BatchOrigin(dataset=None, epoch=0, step=0, global_samples=4)
    losses = {
        "not finite": torch.full_like(batch.query_weights, torch.nan),
        "all zero": torch.zeros_like(batch.query_weights),
        "one point decides": 1e-6 + 1e6 * (batch.query_index == batch.query_index[0, 0]),
    }[why]
    feedback = memory_of(FeedbackRule(every=1, lag=0, warmup=0, least_effective=32.0))
    feedback.add(batch, losses)
    assert feedback.emphases(1) == {None: None}
    if why == "not finite":
        # It is forgotten with the steps that it belongs to.
        batch.origin = BatchOrigin(dataset=None, epoch=0, step=1, global_samples=4)
        feedback.add(batch, torch.ones_like(batch.query_weights))
        assert feedback.emphases(2)[None] == pytest.approx([1.0] * STRATA)
        batch.origin = BatchOrigin(dataset=None, epoch=0, step=0, global_samples=4)
    sound = memory_of(FeedbackRule(every=1, lag=0, warmup=0, least_effective=4.0))
    sound.add(batch, torch.ones_like(batch.query_weights))
    assert sound.emphases(1)[None] == pytest.approx([1.0] * STRATA)


@pytest.mark.parametrize(
    "wrong", [{"every": 0}, {"lag": -1}, {"decay": 1.5}, {"warmup": -1}, {"trust": 1.1}, {"least_effective": -1.0}]
)
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SamplerError, match="feedback needs"):
        FeedbackRule(**wrong)  # type: ignore[arg-type]  # counts and shares in one mapping


# -- mixtures ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coarse(convert_source: Callable[..., ups_data.Store]) -> ups_data.Store:
    frames = [wave_frames((16, 12), num_frames=4, seed=seed + 9) for seed in range(3)]
    return convert_source(MemorySource.grid(frames, splits=["train"] * 3), page_points=4, num_strata=2)


def mix(store: ups_data.Store, coarse: ups_data.Store, batches: str, **options: int) -> ups_data.QueryLoader:
    """Return a loader of two datasets that learn, by rules and strata of their own, and one that does not."""
    learning = ups_data.AdaptiveSampler(0.2, feedback=RULE)
    other = ups_data.AdaptiveSampler(0.25, feedback=FeedbackRule(every=3, lag=9, warmup=3, least_effective=4.0))
    statistics = store.manifest.statistics
    mixture = ups_data.MixtureDataset(
        {
            "fine": ups_data.QueryDataset(store, sampler=learning, seed=3),
            "coarse": ups_data.QueryDataset(coarse, sampler=other, seed=4, statistics=statistics),
            "plain": ups_data.QueryDataset(store, sampler=ups_data.BalancedSampler(0.2), seed=5),
        },
        weights={"fine": 2, "coarse": 1, "plain": 1},
        batches=batches,
    )
    return ups_data.build_loader(mixture, batch_size=4, **options)


@pytest.mark.parametrize("batches", ["homogeneous", "padded"])
def test_datasets_of_a_mixture_learn_apart(store: ups_data.Store, coarse: ups_data.Store, batches: str) -> None:
    """Workers change nothing and every step resumes; each dataset learns from its own samples, by its own rule."""
    loader = mix(store, coarse, batches)
    states, found = [json.dumps(loader.state_dict())], []
    while len(found) < 26:
        for batch in loader:
            found.append(content(batch))
            loader.feedback(batch, losses_of(batch))
            states.append(json.dumps(loader.state_dict()))
            if len(found) == 26:
                break
    assert serve(mix(store, coarse, batches, num_workers=2), 26) == found
    for step in (1, 6, 13, 24):
        other = mix(store, coarse, batches)
        other.load_state_dict(json.loads(states[step]))
        assert serve(other, 26 - step) == found[step:]
    learnt = {part["dataset"]: part for part in json.loads(states[-1])["feedback"]["learnt"]}
    assert {name: len(part["sums"]) for name, part in learnt.items()} == {"fine": STRATA, "coarse": 2}
    assert [step for step, _ in learnt["fine"]["emphases"]] == [16, 18, 20, 22, 24, 26]
    assert [step for step, _ in learnt["coarse"]["emphases"]] == [15, 18, 21, 24]
    for part in learnt.values():
        _, emphasis = part["emphases"][-1]
        assert max(emphasis) > min(emphasis)
    early = {part["dataset"]: part for part in json.loads(states[1])["feedback"]["learnt"]}
    first = sum(np.array(part["fresh"])[:, 0].sum() for part in early.values())
    assert first == first_queries(store, coarse, batches)


def first_queries(store: ups_data.Store, coarse: ups_data.Store, batches: str) -> int:
    """Return the drawn points of samples of learning datasets in the first batch."""
    batch = next(iter(mix(store, coarse, batches)))
    assert batch.origin is not None
    if batch.origin.sources is None:
        return int(batch.query_mask.sum()) if batch.origin.dataset != "plain" else 0
    rows = [row for row, (name, _) in enumerate(batch.origin.sources) if name != "plain"]
    return int(batch.query_mask[rows].sum())


def test_a_state_of_other_learners_is_refused(store: ups_data.Store) -> None:
    feedback = memory_of(RULE)
    with pytest.raises(StateError, match=r"datasets \[None\] learnt .* here \['other'\] do"):
        Feedback({"other": Learner(rule=RULE, num_strata=STRATA)}).load_state_dict(feedback.state_dict())


def test_losses_that_are_not_finite_stay_so_in_a_state(store: ups_data.Store) -> None:
    batch = next(iter(build(store)))
    rule = FeedbackRule(every=2, lag=0, warmup=0, least_effective=0.0)
    feedback, other = memory_of(rule), memory_of(rule)
    feedback.add(batch, torch.full_like(batch.query_weights, torch.inf))
    other.load_state_dict(json.loads(json.dumps(feedback.state_dict(), allow_nan=False)))
    batch.origin = BatchOrigin(dataset=None, epoch=0, step=1, global_samples=4)
    for one in (feedback, other):
        one.add(batch, torch.ones_like(batch.query_weights))
        assert one.emphases(2) == {None: None}
    assert feedback.state_dict() == other.state_dict()
