from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import ups_data
from tests.ups_data.models.cases import SMALL, batch_of, dataset_of, model_of
from ups_data.errors import DatasetError
from ups_data.inference import PointSet, decode_dense


class LargestTensor(TorchDispatchMode):
    """Notes the bytes of the largest tensor that an operation of torch gives."""

    num_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.num_bytes = max(self.num_bytes, made.untyped_storage().nbytes())
        return made


@pytest.mark.parametrize("geometry", ["line", "plane", "space", "cloud"])
@pytest.mark.parametrize("query_chunk", [7, 65536])
def test_a_dense_answer_is_that_of_the_model(
    stores: Mapping[str, ups_data.Store], geometry: str, query_chunk: int
) -> None:
    store = stores[geometry]
    dataset = dataset_of(store, ups_data.DenseSampler())
    residual = {"residual": geometry == "plane"}
    model, batch = model_of(dataset, SMALL.model_copy(update=residual)), batch_of(dataset, 1)
    points = PointSet.cloud(store.coordinates(0)) if geometry == "cloud" else PointSet.grid(*store.axes(0))
    base = model.last_frame(batch) if geometry == "plane" else None
    found = decode_dense(
        model,
        model.rollout(batch)[1],
        points,
        base=base,
        normaliser=batch.normalisers.target,
        query_chunk=query_chunk,
    )
    expected = np.empty((2, len(points)))
    expected[:, batch.query_index[0].numpy()] = batch.denormalize(model.predict(batch))[0, 1].T.numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_memory_does_not_grow_with_the_points(stores: Mapping[str, ups_data.Store], tmp_path) -> None:
    """No tensor is larger with 100 times the points; the answer goes where it is told, here to a file."""
    dataset = dataset_of(stores["plane"])
    model, batch = model_of(dataset, SMALL.model_copy(update={"residual": True})), batch_of(dataset, 1)
    latent, base = model.rollout(batch)[0].with_values(model.rollout(batch)[0].values.detach()), model.last_frame(batch)
    most = []
    for size in (20, 200):
        points = PointSet.grid(np.linspace(0, 0.9, size), np.linspace(0, 1, size))
        out = np.lib.format.open_memmap(tmp_path / f"{size}.npy", mode="w+", dtype="float32", shape=(2, size**2))
        with LargestTensor() as largest:
            decode_dense(model, latent, points, base=base, query_chunk=200, out=out)
        assert np.isfinite(out).all()
        most.append(largest.num_bytes)
    assert most[0] == most[1] < 200 * 16 * 4 * 16


def test_a_refined_grid_holds_the_coarse_one() -> None:
    uneven = np.array([0.0, 0.1, 0.5, 2.0])
    coarse = PointSet.grid(np.arange(4) / 2, uneven)
    fine = coarse.refine(3, lower=(0.0, 0.0), upper=(2.0, 2.0), periodic=(True, False))
    assert fine.shape == (12, 10)
    np.testing.assert_allclose(fine.axes[0], np.arange(12) / 6)
    np.testing.assert_array_equal(fine.axes[1][::3], uneven)
    np.testing.assert_allclose(fine.axes[1][:4], [0, 0.1 / 3, 0.2 / 3, 0.1])
    np.testing.assert_array_equal(fine.coordinates(11, 13), fine.coordinates()[11:13])


def test_what_cannot_be_decoded_is_refused(stores: Mapping[str, ups_data.Store]) -> None:
    dataset = dataset_of(stores["plane"])
    model = model_of(dataset)
    one, three = (model.encode(batch_of(dataset, size)) for size in (1, 3))
    plane = PointSet.grid([0.0, 0.5], [0.0, 1.0])
    with pytest.raises(DatasetError, match="the points have 1 coordinates, the model was made for 2: x, y"):
        decode_dense(model, one, PointSet.grid([0.0, 0.5]))
    with pytest.raises(DatasetError, match="the tokens are of 3"):
        decode_dense(model, three, plane)
    with pytest.raises(DatasetError, match="at least 1, got 0"):
        decode_dense(model, one, plane, query_chunk=0)
    with pytest.raises(DatasetError, match=r"the shape \(2, 4\), the array to fill \(2, 3\)"):
        decode_dense(model, one, plane, out=np.empty((2, 3), dtype="float32"))
    with pytest.raises(DatasetError, match="give one of them"):
        PointSet()
    with pytest.raises(DatasetError, match="at least one"):
        PointSet.grid([])
    with pytest.raises(DatasetError, match="no resolution to refine"):
        PointSet.cloud(np.zeros((3, 2))).refine(2, lower=(0.0,), upper=(1.0,), periodic=(False,))
    with pytest.raises(DatasetError, match="got 0"):
        plane.refine(0, lower=(0.0, 0.0), upper=(1.0, 1.0), periodic=(False, False))
