from collections.abc import Mapping

import numpy as np
import pytest
import torch

import ups_data
from tests.ups_data.models.cases import dataset_of, model_of
from ups_data.errors import DatasetError
from ups_data.training import evaluate


@pytest.mark.parametrize("geometry", ["plane", "cloud"])
def test_errors_are_those_of_numpy_on_whole_fields(stores: Mapping[str, ups_data.Store], geometry: str) -> None:
    """Against a plain computation in physical units, sample by sample; samples of a cloud differ in size."""
    store = stores[geometry]
    dataset = dataset_of(store, ups_data.DenseSampler())
    model = model_of(dataset)
    found = evaluate(model, dataset, batch_size=3)
    relative, vrmse, nrmse = [], [], []
    for number in range(len(dataset)):
        sample = dataset[number]
        batch = ups_data.collate_samples([sample])
        predicted = np.empty((2, 2, store.num_points(sample.trajectory)))
        answer = batch.denormalize(model.predict(batch))[0].numpy()
        predicted[:, :, sample.query_index.numpy()] = answer.transpose(0, 2, 1)
        truth = store.read_frames(sample.trajectory, sample.target_frames, (0, 1)).astype("float64")
        relative.append(np.linalg.norm(predicted - truth) / np.linalg.norm(truth))
        vrmse.append(np.linalg.norm(predicted[:, 1] - truth[:, 1]) / np.linalg.norm(truth[:, 1] - truth[:, 1].mean()))
        nrmse.append(np.linalg.norm(predicted[:, 0] - truth[:, 0]) / np.linalg.norm(truth[:, 0]))
    assert found.relative_l2 == pytest.approx(np.mean(relative), rel=1e-4)
    assert found.vrmse["u1"] == pytest.approx(np.mean(vrmse), rel=1e-4)
    assert found.nrmse["u0"] == pytest.approx(np.mean(nrmse), rel=1e-4)
    assert found.num_samples == len(dataset)


def test_evaluation_is_always_dense(stores: Mapping[str, ups_data.Store]) -> None:
    dataset = dataset_of(stores["plane"], ups_data.UniformSampler(0.5))
    with pytest.raises(DatasetError, match="give the dataset a DenseSampler"):
        evaluate(model_of(dataset), dataset)


def test_the_mode_of_the_model_is_left_as_it_was(stores: Mapping[str, ups_data.Store]) -> None:
    dataset = dataset_of(stores["plane"], ups_data.DenseSampler())
    model = model_of(dataset)
    evaluate(model.train(), dataset, samples=[0])
    assert model.training
    evaluate(model.eval(), dataset, samples=[0])
    assert not model.training
    assert all(part.grad is None for part in model.parameters())
    assert torch.is_grad_enabled()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a torch with CUDA")
@pytest.mark.parametrize("geometry", ["plane", "cloud"])
def test_a_model_on_a_gpu_is_evaluated_there(stores: Mapping[str, ups_data.Store], geometry: str) -> None:
    dataset = dataset_of(stores[geometry], ups_data.DenseSampler())
    model = model_of(dataset)
    expected = evaluate(model, dataset).relative_l2
    assert evaluate(model.to("cuda"), dataset).relative_l2 == pytest.approx(expected, rel=1e-3)
