"""What the draws of a dataset must be like, as tests for any store and sampler of a user.

Subclass `DrawContract` in a test module and give a pytest fixture `dataset`:

    class TestMyDraws(DrawContract):
        @pytest.fixture
        def dataset(self):
            store = ups_data.open_store("data/burgers")
            return ups_data.QueryDataset(store, sampler=ups_data.ImportanceSampler(ratio=0.05))

Samplers that mean to be biased (`FixedSampler`, weights other than `unbiased`) fail `test_draws_are_unbiased`, and say
by how much; override it where that is as it should be.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64

from ups_data.dataset import QueryDataset
from ups_data.loader import build_loader
from ups_data.sample import QueryPoints, SparseSample

_NUM_SAMPLES, _NUM_DRAWS = 5, 300
_MOST_SIGMAS = 5.0


class DrawContract:
    """Tests of draws; the fixture `dataset` comes from the subclass."""

    def test_points_are_distinct_and_weights_positive(self, dataset: QueryDataset) -> None:
        """No point comes twice in a frame, every id is one of the trajectory, every weight finite and positive."""
        for sample in _some_samples(dataset):
            for drawn in _draws(sample):
                ids = drawn.index.numpy()
                assert ids.size, f"sample {sample.sample_id} has no point"
                assert np.unique(ids).size == ids.size, f"sample {sample.sample_id} holds a point twice"
                assert ids.min() >= 0
                assert ids.max() < dataset.query_store.num_points(sample.trajectory)
                weights = drawn.weights.numpy()
                assert np.isfinite(weights).all()
                assert (weights > 0).all(), f"sample {sample.sample_id} has a weight that is not positive"

    def test_shapes_are_those_of_the_window(self, dataset: QueryDataset) -> None:
        """Coordinates, targets and weights agree in the number of points, frames and channels."""
        channels = sum(len(field.components) for field in dataset.target_fields)
        fresh = dataset.window.points == "fresh"
        for sample in _some_samples(dataset):
            count, times = sample.query_index.shape[-1], len(sample.target_frames)
            frames = (times,) if fresh else ()
            assert tuple(sample.query_index.shape) == (*frames, count)
            assert tuple(sample.query_coords.shape) == (*frames, count, dataset.domain.dims)
            assert tuple(sample.query_targets.shape) == (times, count, channels)
            assert tuple(sample.query_weights.shape) == (*frames, count)

    def test_values_are_those_of_the_dense_frames(self, dataset: QueryDataset) -> None:
        """Targets at the drawn points are, denormalised, the store's dense values to rounding."""
        names = [field.name for field in dataset.target_fields]
        channels = list(dataset.query_store.manifest.channels_of(tuple(names)))
        for sample in _some_samples(dataset):
            dense = dataset.query_store.read_dense(sample.trajectory, sample.target_frames)[:, channels]
            normaliser = dataset.normalisers.target
            for frame, values in enumerate(sample.query_targets.double().numpy()):
                index = sample.points_at(frame).index.numpy()
                wanted = dense[frame][..., index[index >= 0]].T.astype(np.float64)
                found = values[index >= 0] * normaliser.scale + normaliser.mean
                there = np.isfinite(wanted)
                tolerance = 1e-5 * (np.abs(wanted[there]).max(initial=0.0) + float(np.abs(normaliser.scale).max()))
                np.testing.assert_allclose(found[there], wanted[there], rtol=0, atol=tolerance)

    def test_draws_are_unbiased(self, dataset: QueryDataset) -> None:
        """Over many draws, the mean sum of weights times f is that of f over all points, within 5 standard errors.

        f is 1, the coordinates, and the importance map: what a draw could favour by mistake. Each point is therefore
        held against its share, and with `estimand="integral"` against the measure of its cell, on one trajectory; and
        for each target frame where each has points of its own.
        """
        integrands, truth = _integrands(dataset)
        estimates = np.array([_estimates(dataset, integrands, number) for number in range(_NUM_DRAWS)])
        if estimates.shape[1] > 1 and np.ptp(estimates, axis=0).any():
            assert np.ptp(estimates, axis=1).any(), "the target frames have the same points, not fresh ones"
        error = estimates.mean(axis=0) - truth
        scale = np.abs(integrands).max(axis=0) * max(abs(float(truth[0])), 1e-300)
        noise = estimates.std(axis=0, ddof=1) / np.sqrt(_NUM_DRAWS)
        sigmas = np.abs(error) / np.maximum(noise, 1e-6 * scale + 1e-300)
        assert sigmas.max() < _MOST_SIGMAS, (
            f"estimates miss the truth by {error} over {_NUM_DRAWS} draws, {sigmas} standard errors: biased"
        )

    def test_samples_are_functions_of_their_numbers(self, dataset: QueryDataset) -> None:
        """The same seed, epoch, number and step give the same sample, in a pickled copy and in any order too."""
        again = pickle.loads(pickle.dumps(dataset))
        numbers = _some_numbers(dataset)
        first = {number: _content(dataset.sample(number, epoch=2, step=3)) for number in numbers}
        for number in reversed(numbers):
            assert _content(again.sample(number, epoch=2, step=3)) == first[number], f"sample {number} has changed"

    def test_a_loader_resumes_where_it_stood(self, dataset: QueryDataset) -> None:
        """A loader that is put back to a state serves the batches that followed it."""
        loader = build_loader(dataset, batch_size=1)
        states, contents = [loader.state_dict()], []
        for batch, _ in zip(loader, range(3), strict=False):
            contents.append(batch.buffer.numpy().tobytes())
            states.append(loader.state_dict())
        for place, content in enumerate(contents):
            other = build_loader(dataset, batch_size=1)
            other.load_state_dict(states[place])
            assert next(iter(other)).buffer.numpy().tobytes() == content, f"batch {place} differs after a resume"


def _some_numbers(dataset: QueryDataset) -> list[int]:
    return np.unique(np.linspace(0, len(dataset) - 1, _NUM_SAMPLES).round().astype(int)).tolist()


def _some_samples(dataset: QueryDataset) -> Iterator[SparseSample]:
    for number in _some_numbers(dataset):
        yield dataset.sample(number, epoch=1)


def _content(sample: SparseSample) -> bytes:
    parts = (sample.query_index, sample.query_coords, sample.query_targets, sample.query_weights)
    return b"".join(part.contiguous().numpy().tobytes() for part in parts)


def _place(dataset: QueryDataset) -> tuple[int, int]:
    """Return trajectory and block of the first sample."""
    trajectory, first = dataset.locate(0)
    return trajectory, dataset.query_store.block_of(trajectory, dataset.window.target_frames(first))


def _integrands(
    dataset: QueryDataset,
) -> tuple[Float64[np.ndarray, "point integrand"], Float64[np.ndarray, " integrand"]]:
    """Return functions of the points of the first sample's trajectory, and what sums must estimate of each."""
    store, (trajectory, block) = dataset.query_store, _place(dataset)
    drawn = store.drawn_points(trajectory, block)
    importance = np.nan_to_num(store.importance(trajectory, block).astype(np.float64), nan=0.0)
    coordinates = store.coordinates(trajectory)
    columns = np.column_stack([np.ones(len(coordinates)), coordinates, importance])
    shares = np.full(drawn.size, 1 / drawn.size) if dataset.estimand == "mean" else store.measures(trajectory)[drawn]
    return columns, shares @ columns[drawn]


def _draws(sample: SparseSample) -> Iterator[QueryPoints]:
    """Yield the draws of a sample, without padding: one of each target frame where each has its own."""
    for frame in range(len(sample.target_frames) if sample.has_fresh_points else 1):
        points = sample.points_at(frame)
        drawn = points.index >= 0
        yield QueryPoints(coords=points.coords[drawn], weights=points.weights[drawn], index=points.index[drawn])


def _estimates(
    dataset: QueryDataset, integrands: Float64[np.ndarray, "point integrand"], number: int
) -> Float64[np.ndarray, "draw integrand"]:
    """Return the estimates of the draws of the first sample, under a seed of its own."""
    other = copy.copy(dataset)
    other.seed = number
    drawn = _draws(other.sample(0, epoch=number % 3))
    return np.array([part.weights.double().numpy() @ integrands[part.index.numpy()] for part in drawn])
