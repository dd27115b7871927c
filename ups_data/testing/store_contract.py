"""What every store must answer, as tests that any back end, and any store of a user, can be held against.

Subclass `StoreContract` in a test module and give pytest fixtures `store` and `truth`:

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self):
            return ups_data.open_store("data/burgers")

        @pytest.fixture
        def truth(self):
            return None  # or a StoreTruth, where the source values are at hand

`check_processes` is apart, since it starts processes.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Float64, Shaped

from ups_data.errors import DatasetError
from ups_data.storage import Store


@dataclass(frozen=True, kw_only=True, eq=False)
class StoreTruth:
    """What a store was made from, one entry a trajectory.

    Attributes:
        frames: values (T, C, N), points in C order of the grid.
        coordinates: physical coordinates (N, D).
        times: physical times (T,).
        parameters: scalars (K,).
        splits: name of the split.
    """

    # Named axes would have to agree between trajectories.
    frames: Sequence[Float[np.ndarray, "_ _ _"]]
    coordinates: Sequence[Float64[np.ndarray, "_ _"]]
    times: Sequence[Float64[np.ndarray, "_"]]
    parameters: Sequence[Float64[np.ndarray, "_"]]
    splits: Sequence[str]


class StoreContract:
    """Tests of the `Store` contract; fixtures `store` and `truth` come from the subclass."""

    def test_sizes_agree_with_the_manifest(self, store: Store) -> None:
        """Counts of trajectories, frames and points are those of the manifest, and splits part the trajectories."""
        numbers = range(len(store))
        assert len(store) == store.manifest.num_trajectories
        assert sum(store.num_frames(number) for number in numbers) == store.manifest.num_frames
        assert sum(store.num_points(number) for number in numbers) == store.manifest.num_points
        assert all(int(np.prod(store.shape(number))) == store.num_points(number) for number in numbers)
        assert {name: len(members) for name, members in store.splits.items()} == dict(store.manifest.splits)
        np.testing.assert_array_equal(np.sort(np.concatenate(list(store.splits.values()))), np.arange(len(store)))

    def test_dense_frames_equal_the_source(self, store: Store, truth: StoreTruth | None) -> None:
        """Every value of every frame is the source's, bit for bit, in the stored dtype."""
        for number in range(len(store)):
            dense = store.read_dense(number, range(store.num_frames(number)))
            assert dense.dtype == np.dtype(store.manifest.dtype)
            assert dense.shape == _dense_shape(store, number)
            may_miss = np.array(store.manifest.missing_channels)[:, None]
            assert (np.isfinite(dense) | (np.isnan(dense) & may_miss)).all()
            if truth is not None:
                np.testing.assert_array_equal(dense, truth.frames[number])

    def test_frames_and_channels_come_in_the_order_asked(self, store: Store) -> None:
        """Any order, repetition and selection of frames and channels gives the same values; none gives none."""
        for number in range(len(store)):
            frames = [*reversed(range(store.num_frames(number))), 0]
            channels = (*reversed(range(len(store.manifest.channel_names))), 0)
            dense = store.read_dense(number, range(store.num_frames(number)))
            np.testing.assert_array_equal(store.read_frames(number, frames, channels), dense[frames][:, list(channels)])
            assert store.read_frames(number, [], channels).shape == (0, len(channels), store.num_points(number))

    def test_blocks_cover_the_frames(self, store: Store) -> None:
        """Blocks of frames follow one another without a gap, and every frame belongs to the last that begins before."""
        for number in range(len(store)):
            ranges = [store.block_frames(number, block) for block in range(store.num_blocks(number))]
            assert ranges[0].start == 0
            assert ranges[-1].stop == store.num_frames(number)
            assert all(first.start < then.start <= first.stop for first, then in pairwise(ranges))
            for frame in range(store.num_frames(number)):
                block = store.block_of(number, [frame])
                assert frame in ranges[block]
                assert block + 1 == len(ranges) or frame < ranges[block + 1].start

    def test_pages_part_the_points(self, store: Store) -> None:
        """Each point stands on exactly one page, strata hold as many as the layout says; the others have no value."""
        for number, block in _blocks(store):
            layout = store.layout(number, block)
            index = store.read_page_points(number, np.arange(layout.all_pages), block).index
            assert index.shape == (layout.all_pages * layout.page_points,)
            assert (index[index < 0] == -1).all()
            np.testing.assert_array_equal(np.sort(index[index >= 0]), np.arange(store.num_points(number)))
            drawn, resting = np.split(index, [layout.num_pages * layout.page_points])
            np.testing.assert_array_equal(np.sort(drawn[drawn >= 0]), store.drawn_points(number, block))
            pages = np.split(drawn, np.cumsum(layout.stratum_pages)[:-1] * layout.page_points)
            assert [int((part >= 0).sum()) for part in pages] == layout.stratum_points.tolist()
            dense = store.read_dense(number, store.block_frames(number, block))
            assert np.isnan(dense[..., resting[resting >= 0]]).all()
            assert np.isfinite(dense[..., drawn[drawn >= 0]]).any(axis=(0, 1)).all()

    def test_page_values_equal_dense_values(self, store: Store) -> None:
        """Values on pages are those of their points, whatever the order of pages, frames and channels."""
        for number, block in _blocks(store):
            frames = [*reversed(store.block_frames(number, block))]
            channels = tuple(reversed(range(len(store.manifest.channel_names))))
            pages = _some_pages(store, number, block)
            index = store.read_page_points(number, pages, block).index
            values = store.read_page_values(number, frames, pages, channels, block)
            dense = store.read_frames(number, frames, channels).transpose(0, 2, 1)
            assert values.dtype == np.dtype(store.manifest.dtype)
            np.testing.assert_array_equal(values[:, index >= 0], dense[:, index[index >= 0]])
            assert np.isnan(values[:, index < 0]).all()

    def test_page_measures_equal_measures(self, store: Store) -> None:
        """Measures of cells are not negative, and on pages those of their points; stores without any say so."""
        for number, block in _blocks(store):
            pages = _some_pages(store, number, block)
            points = store.read_page_points(number, pages, block)
            if not store.manifest.geometry.has_measures:
                for read in (lambda n=number: store.measures(n), lambda p=pages: self._measures(store, p)):
                    _expect_error(DatasetError, read)
                return
            measures = store.measures(number)
            assert measures.shape == (store.num_points(number),)
            assert (np.isfinite(measures) & (measures >= 0)).all()
            found = store.read_page_measures(number, pages, points, block)
            there = points.index >= 0
            np.testing.assert_array_equal(found[there], measures[points.index[there]])
            assert np.isnan(found[~there]).all()

    @staticmethod
    def _measures(store: Store, pages: Shaped[np.ndarray, " page"]) -> object:
        return store.read_page_measures(0, pages, store.read_page_points(0, pages))

    def test_page_coordinates_equal_coordinates(self, store: Store) -> None:
        """Coordinates on pages are those of their points, NaN on padding."""
        for number, block in _blocks(store):
            points = store.read_page_points(number, _some_pages(store, number, block), block)
            there = points.index >= 0
            np.testing.assert_array_equal(points.coordinates[there], store.coordinates(number)[points.index[there]])
            assert np.isnan(points.coordinates[~there]).all()

    def test_coordinates_lie_in_the_domain(self, store: Store, truth: StoreTruth | None) -> None:
        """Coordinates are the source's, inside of the domain, in point-id order."""
        lower, upper = np.array(store.domain.lower), np.array(store.domain.upper)
        for number in range(len(store)):
            coordinates = store.coordinates(number)
            assert coordinates.shape == (store.num_points(number), store.domain.dims)
            slack = 1e-6 * (upper - lower)
            assert ((coordinates >= lower - slack) & (coordinates <= upper + slack)).all()
            if truth is not None:
                np.testing.assert_array_equal(coordinates, truth.coordinates[number])

    def test_importance_is_non_negative_and_gives_the_masses(self, store: Store) -> None:
        """Maps are finite and non-negative; the masses of strata are their normalised sums."""
        for number, block in _blocks(store):
            importance, layout = store.importance(number, block).astype(np.float64), store.layout(number, block)
            assert importance.shape == (store.num_points(number),)
            drawn = store.drawn_points(number, block)
            assert np.isfinite(importance[drawn]).all()
            assert (importance[drawn] >= 0).all()
            assert np.isnan(np.delete(importance, drawn)).all()
            index = store.read_page_points(number, np.arange(layout.num_pages), block).index
            parts = np.split(index, np.cumsum(layout.stratum_pages)[:-1] * layout.page_points)
            sums = np.array([importance[part[part >= 0]].sum() for part in parts])
            np.testing.assert_allclose(layout.stratum_mass, sums / sums.sum(), rtol=1e-4, atol=1e-6)

    def test_tables_equal_the_source(self, store: Store, truth: StoreTruth | None) -> None:
        """Times, parameters and splits are the source's."""
        names = np.empty(len(store), dtype=object)
        for name, members in store.splits.items():
            names[members] = name
        for number in range(len(store)):
            assert store.times(number).shape == (store.num_frames(number),)
            assert store.parameters(number).shape == (len(store.manifest.parameters),)
            if truth is not None:
                np.testing.assert_array_equal(store.times(number), truth.times[number])
                np.testing.assert_array_equal(store.parameters(number), truth.parameters[number])
                assert names[number] == truth.splits[number]

    def test_numbers_out_of_range_are_refused(self, store: Store) -> None:
        """A trajectory, frame, page or channel that does not exist is an IndexError, also a negative one."""
        frames, pages = store.num_frames(0), store.layout(0).all_pages
        channels, nothing = len(store.manifest.channel_names), np.empty(0, dtype=np.int64)
        for wrong in (-1, len(store)):
            _expect_index_error(store.read_dense, wrong, [0])
            _expect_index_error(store.coordinates, wrong)
            _expect_index_error(store.importance, wrong)
            _expect_index_error(store.layout, wrong)
        for wrong in (-1, frames):
            _expect_index_error(store.read_dense, 0, [0, wrong])
            _expect_index_error(store.read_page_values, 0, [wrong], nothing, (0,))
        for wrong in (-1, store.num_blocks(0)):
            _expect_index_error(store.layout, 0, wrong)
            _expect_index_error(store.importance, 0, wrong)
        for wrong in (-1, channels):
            _expect_index_error(store.read_frames, 0, [0], (wrong,))
            _expect_index_error(store.read_page_values, 0, [0], nothing, (wrong,))
        for wrong in (-1, pages):
            _expect_index_error(store.read_page_points, 0, np.array([wrong]))
            _expect_index_error(store.read_page_values, 0, [0], np.array([0, wrong]), (0,))

    def test_results_belong_to_the_caller(self, store: Store) -> None:
        """Writing into what was read changes nothing that is read later."""
        first = store.read_dense(0, [0])
        kept = first.copy()
        first[...] = 7.0
        np.testing.assert_array_equal(store.read_dense(0, [0]), kept)

    def test_a_copy_reads_the_same_and_counts_for_itself(self, store: Store) -> None:
        """A pickled copy answers alike, with a count of reads of its own."""
        before = read_digest(store)
        asked = store.read_count.num_bytes
        copy = pickle.loads(pickle.dumps(store))
        opened = copy.read_count.num_bytes
        assert read_digest(copy) == before
        assert copy.read_count.num_bytes > opened
        assert store.read_count.num_bytes == asked


def check_processes(store: Store) -> None:
    """Check that forked and spawned processes read the same as this one, whose handles are open.

    Raises:
        AssertionError: one of them does not.
    """
    here = read_digest(store)
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.apply(read_digest, (store,)) == here, f"a process started by {method} reads something else"
    assert read_digest(store) == here


def read_digest(store: Store) -> str:
    """Return a hash of all values, coordinates, pages and importance maps that a store answers with."""
    digest = hashlib.sha256(store.manifest.fingerprint.encode())
    channels = tuple(range(len(store.manifest.channel_names)))
    for number in range(len(store)):
        digest.update(np.ascontiguousarray(store.read_dense(number, range(store.num_frames(number)))).tobytes())
    for number, block in _blocks(store):
        pages = np.arange(store.layout(number, block).all_pages)
        points = store.read_page_points(number, pages, block)
        parts: tuple[Shaped[np.ndarray, "..."], ...] = (
            store.read_page_values(number, store.block_frames(number, block), pages, channels, block),
            points.index,
            points.coordinates,
            store.importance(number, block),
        )
        for part in parts:
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def _dense_shape(store: Store, number: int) -> tuple[int, int, int]:
    return store.num_frames(number), len(store.manifest.channel_names), store.num_points(number)


def _blocks(store: Store) -> Iterator[tuple[int, int]]:
    """Yield every trajectory with each of its blocks."""
    for number in range(len(store)):
        for block in range(store.num_blocks(number)):
            yield number, block


def _some_pages(store: Store, number: int, block: int) -> Shaped[np.ndarray, " page"]:
    """Return all pages in an order that is neither sorted nor reversed, and the first once more."""
    pages = np.arange(store.layout(number, block).all_pages)
    return np.concatenate([pages[1::2], pages[::2], pages[:1]])


def _expect_index_error(call: Callable[..., object], *arguments: object) -> None:
    _expect_error(IndexError, call, *arguments)


def _expect_error(kind: type[Exception], call: Callable[..., object], *arguments: object) -> None:
    try:
        call(*arguments)
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")
