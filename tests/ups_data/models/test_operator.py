from collections.abc import Mapping

import pytest
import torch

import ups_data
from tests.memory_source import MemorySource, wave_frames
from tests.ups_data.models.cases import SMALL, batch_of, dataset_of, model_of
from ups_data.errors import ConfigError, DatasetError
from ups_data.models import DecoderConfig, GridEncoderConfig, LatentOperatorConfig

GEOMETRIES = ("line", "plane", "space", "cloud")


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_query_sampling_shapes(stores: Mapping[str, ups_data.Store], geometry: str) -> None:
    dataset = dataset_of(stores[geometry])
    batch = batch_of(dataset)
    predicted = model_of(dataset)(batch)
    assert predicted.shape == batch.query_targets.shape
    assert predicted.shape[:2] == (3, 2)
    assert torch.isfinite(predicted).all()


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_every_weight_is_trained(stores: Mapping[str, ups_data.Store], geometry: str) -> None:
    dataset = dataset_of(stores[geometry])
    model = model_of(dataset)
    # The adaptive norms start as plain ones: their gradients, not their values, must reach everything before them.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    model(batch_of(dataset)).square().sum().backward()
    idle = [name for name, part in model.named_parameters() if part.grad is None or not part.grad.any()]
    assert idle == []


@pytest.mark.parametrize("geometry", ["plane", "cloud"])
@pytest.mark.parametrize("attention", ["local", "global"])
def test_prediction_in_parts_is_the_prediction(
    stores: Mapping[str, ups_data.Store], geometry: str, attention: str
) -> None:
    dataset = dataset_of(stores[geometry], ups_data.DenseSampler())
    model = model_of(dataset, SMALL.model_copy(update={"decoder": DecoderConfig(attention=attention, heads=2)}))
    batch = batch_of(dataset)
    torch.testing.assert_close(model.predict(batch, query_chunk=50), model(batch).detach(), rtol=1e-5, atol=1e-6)


def test_sparse_answers_are_the_dense_ones(stores: Mapping[str, ups_data.Store]) -> None:
    dense, sparse = (dataset_of(stores["plane"], part) for part in (None, ups_data.DenseSampler()))
    model = model_of(dense)
    everywhere, drawn = batch_of(sparse), batch_of(dense)
    full = torch.empty(3, 2, 128, 2)
    index = everywhere.query_index.long()
    full.scatter_(2, index[:, None, :, None].expand(-1, 2, -1, 2), model(everywhere).detach())
    picked = full.gather(2, drawn.query_index.long()[:, None, :, None].expand(-1, 2, -1, 2))
    torch.testing.assert_close(model(drawn).detach(), picked, rtol=1e-5, atol=1e-6)


def test_periodic_problems_are_equivariant_to_shifts_by_a_patch(convert_source) -> None:
    frames = wave_frames((16, 16), num_frames=2, num_channels=1, seed=3)
    shifted = torch.roll(torch.from_numpy(frames), 4, dims=2).numpy()
    store = convert_source(MemorySource.grid([frames, shifted], periodic=True), splits={"train": 1.0})
    dataset = ups_data.QueryDataset(store, sampler=ups_data.DenseSampler(), normalize=False)
    # Without Fourier features of the absolute place nothing tells one patch from another.
    model = model_of(dataset)
    torch.nn.init.zeros_(model.encoder.place.weight)
    torch.nn.init.zeros_(model.decoder.start.weight)
    batch = batch_of(dataset, 2)
    answer = torch.empty(2, 256).scatter_(1, batch.query_index.long(), model(batch).detach()[:, 0, :, 0])
    first, second = answer.reshape(2, 16, 16)
    torch.testing.assert_close(second, torch.roll(first, 4, dims=0), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(first, second, atol=1e-3)


def test_answers_to_a_cloud_do_not_depend_on_the_order_of_its_points(stores: Mapping[str, ups_data.Store]) -> None:
    dataset = dataset_of(stores["cloud"])
    model, batch = model_of(dataset), batch_of(dataset, 1)
    assert batch.input_coords is not None
    order = torch.randperm(batch.inputs.shape[-1], generator=torch.Generator().manual_seed(0))
    before = model.encode(batch).values
    batch.inputs.copy_(batch.inputs[..., order].clone())
    batch.input_coords.copy_(batch.input_coords[:, order].clone())
    torch.testing.assert_close(model.encode(batch).values, before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [3, 96, 250])
def test_a_cloud_that_is_gathered_in_chunks_gives_the_same_tokens_and_gradients(
    stores: Mapping[str, ups_data.Store], monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """With one point of each sample a chunk, some, or all but a few; the samples are padded."""
    dataset = dataset_of(stores["cloud"], dtype="float64")
    batch, model = batch_of(dataset), model_of(dataset).double()
    assert batch.input_mask is not None

    def outcome() -> tuple[torch.Tensor, list[torch.Tensor]]:
        model.zero_grad()
        answers = model(batch)
        answers.square().sum().backward()
        return answers.detach(), [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]

    whole, expected = outcome()
    monkeypatch.setattr("ups_data.models.point_encoder.chunk_points", lambda device: chunk)
    answers, gradients = outcome()
    torch.testing.assert_close(answers, whole, rtol=1e-9, atol=1e-12)
    assert len(gradients) == len(expected)
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-8, atol=1e-9)
    with torch.no_grad():
        torch.testing.assert_close(model(batch), whole, rtol=1e-9, atol=1e-12)


def test_padding_of_a_cloud_changes_nothing(stores: Mapping[str, ups_data.Store]) -> None:
    dataset = dataset_of(stores["cloud"])
    model = model_of(dataset)
    # Samples 0 and 2 are of clouds with 90 and 100 points: together the first is padded.
    alone, together = (ups_data.collate_samples([dataset[number] for number in chosen]) for chosen in ((0,), (0, 2)))
    assert together.inputs.shape[-1] > alone.inputs.shape[-1]
    expected = model(alone)[0]
    torch.testing.assert_close(model(together)[0, :, : expected.shape[1]], expected, rtol=1e-5, atol=1e-6)


def test_residual_starts_from_the_last_input(stores: Mapping[str, ups_data.Store]) -> None:
    dataset = dataset_of(stores["plane"], ups_data.DenseSampler())
    model, batch = model_of(dataset, SMALL.model_copy(update={"residual": True})), batch_of(dataset)
    for head in model.decoder.heads:
        torch.nn.init.zeros_(head[-1].weight)
        torch.nn.init.zeros_(head[-1].bias)
    index = batch.query_index.long()[:, None].expand(-1, 2, -1)
    persistence = batch.inputs[:, -1].flatten(2).gather(2, index).transpose(1, 2)
    for frame in range(2):
        torch.testing.assert_close(model(batch)[:, frame], persistence, rtol=1e-5, atol=1e-5)


def test_parameters_and_times_are_conditions(stores: Mapping[str, ups_data.Store]) -> None:
    dataset = dataset_of(stores["plane"])
    model, batch = model_of(dataset), batch_of(dataset)
    with torch.no_grad():
        for parameter in model.latent_operator.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        before = model(batch)
        batch.parameters.add_(0.3)
        after = model(batch)
        batch.target_times.add_(0.5)
        later = model(batch)
    assert (before - after).abs().max() > 1e-5
    assert (later - after).abs().max() > 1e-5


def test_models_answer_on_another_resolution(convert_source) -> None:
    made = {}
    for size in (16, 32):
        frames = wave_frames((size, size), num_frames=2, seed=5)
        source = MemorySource.grid([frames], periodic=True, splits=["train"])
        made[size] = ups_data.QueryDataset(convert_source(source), sampler=ups_data.DenseSampler(), normalize=False)
    model = model_of(made[16])
    fine = batch_of(made[32], 1)
    answer = model.predict(fine)
    assert answer.shape == (1, 1, 1024, 1)
    # Nodes that both grids have see the same tokens when the encoder's input is the same.
    coarse = batch_of(made[16], 1)
    nodes = torch.empty(1024).scatter_(0, fine.query_index[0].long(), answer[0, 0, :, 0]).reshape(32, 32)[::2, ::2]
    fine.inputs[0, 0, 0, ::2, ::2] = coarse.inputs[0, 0, 0]
    again = model.predict(fine)[0, 0, :, 0]
    nodes = torch.empty(1024).scatter_(0, fine.query_index[0].long(), again).reshape(32, 32)[::2, ::2]
    expected = torch.empty(256).scatter_(0, coarse.query_index[0].long(), model.predict(coarse)[0, 0, :, 0])
    torch.testing.assert_close(nodes, expected.reshape(16, 16), rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_refused(stores: Mapping[str, ups_data.Store]) -> None:
    plane, cloud = dataset_of(stores["plane"]), dataset_of(stores["cloud"])
    with pytest.raises(ConfigError, match="'x' has 16 nodes, no multiple of patch=3"):
        model_of(plane, SMALL.model_copy(update={"grid_encoder": GridEncoderConfig(patch=3)}))
    with pytest.raises(ConfigError, match=r"width=16 is no multiple of model.latent_operator.heads=3"):
        model_of(plane, SMALL.model_copy(update={"latent_operator": LatentOperatorConfig(heads=3)}))
    with pytest.raises(ConfigError, match="needs a grid"):
        model_of(cloud, SMALL.model_copy(update={"residual": True}))
    with pytest.raises(ConfigError, match="'u1' is no input field"):
        model_of(dataset_of(stores["plane"], input_fields=["u0"]), SMALL.model_copy(update={"residual": True}))
    with pytest.raises(DatasetError, match="encodes grids"):
        model_of(plane).encode(batch_of(cloud))
    with pytest.raises(DatasetError, match="encodes points"):
        model_of(cloud).encode(batch_of(plane))
