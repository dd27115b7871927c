from collections.abc import Mapping

import pytest
import torch

import ups_data
from tests.ups_data.models.cases import batch_of, dataset_of
from ups_data.errors import ConfigError
from ups_data.models import GridEncoder, GridEncoderConfig, ProblemSpec


def encoder_of(store: ups_data.Store, **options: object) -> tuple[GridEncoder, ups_data.SparseBatch]:
    dataset = dataset_of(store, window=ups_data.Window(inputs=2))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = GridEncoder(GridEncoderConfig(**options), ProblemSpec.of(dataset), width=16)
    return encoder, batch_of(dataset, 2)


@pytest.mark.parametrize(("geometry", "tokens"), [("line", 8), ("plane", 8), ("space", 4)])
def test_one_token_a_patch(stores: Mapping[str, ups_data.Store], geometry: str, tokens: int) -> None:
    encoder, batch = encoder_of(stores[geometry], patch=4)
    assert batch.input_axes is not None
    assert encoder(batch.inputs, batch.input_axes).values.shape == (2, tokens, 16)


@pytest.mark.parametrize("geometry", ["line", "plane", "space"])
def test_every_node_is_seen(stores: Mapping[str, ups_data.Store], geometry: str) -> None:
    encoder, batch = encoder_of(stores[geometry], patch=4)
    assert batch.input_axes is not None
    inputs = batch.inputs.clone().requires_grad_()
    encoder(inputs, batch.input_axes).values.square().sum().backward()
    assert inputs.grad is not None
    assert (inputs.grad != 0).all()


def test_a_token_stands_for_its_own_patch(stores: Mapping[str, ups_data.Store]) -> None:
    encoder, batch = encoder_of(stores["plane"], patch=4)
    assert batch.input_axes is not None
    marked = batch.inputs.clone()
    marked[..., 4:8, 0:4] += 10
    moved = encoder.embed(encoder._unshuffle(marked.flatten(1, 2))) - encoder.embed(
        encoder._unshuffle(batch.inputs.flatten(1, 2))
    )
    # (x, y) patches of 4 x 2; the convolution reaches one patch further, around the periodic x and not around y.
    assert (moved.abs().sum(dim=(0, 1)) > 0).tolist() == [[True, True], [True, True], [True, True], [False, False]]
    lattice = encoder(batch.inputs, batch.input_axes)
    assert lattice.shape == (4, 2)
    torch.testing.assert_close(lattice.positions()[0, 2], torch.tensor([5.5 / 16, 1.5 / 7]))


def test_grids_of_another_shape_are_resampled_or_taken_as_they_are(stores: Mapping[str, ups_data.Store]) -> None:
    fine = torch.randn(1, 2, 2, 32, 16, generator=torch.Generator().manual_seed(0))
    axes = (torch.arange(32)[None] / 32, torch.linspace(0, 1, 16)[None])
    for resolution, shape in (("fixed", (4, 2)), ("free", (8, 4))):
        encoder, _ = encoder_of(stores["plane"], patch=4, resolution=resolution)
        assert encoder(fine, axes).shape == shape


def test_inputs_of_another_kind_are_refused(stores: Mapping[str, ups_data.Store]) -> None:
    encoder, batch = encoder_of(stores["plane"], patch=4)
    assert batch.input_axes is not None
    with pytest.raises(ConfigError, match="made for 2 frames of 2 channels in 2-D"):
        encoder(batch.inputs[:, :1], batch.input_axes)
    with pytest.raises(ConfigError, match="use the point encoder"):
        encoder_of(stores["cloud"])
