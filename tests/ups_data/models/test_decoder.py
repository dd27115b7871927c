import pytest
import torch

from ups_data.models import AnyPointDecoder, DecoderConfig, Lattice


def decoder_and_latent(config: DecoderConfig, periodic: tuple[bool, ...]) -> tuple[AnyPointDecoder, Lattice]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        decoder = AnyPointDecoder(config, {"u.x": 2, "p": 1}, periodic=periodic, width=16)
        values = torch.randn(2, 4 ** len(periodic), 16)
    axes = tuple(((torch.arange(4) + 0.5) / 4).expand(2, -1) for _ in periodic)
    return decoder, Lattice(values=values, axes=axes, periodic=periodic)


@pytest.mark.parametrize("attention", ["local", "global"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_one_answer_for_each_field_and_point(attention: str, dims: int) -> None:
    decoder, latent = decoder_and_latent(DecoderConfig(attention=attention, layers=2, heads=2), (True,) * dims)
    for count in (1, 5):
        answers = decoder(torch.rand(2, count, dims), latent)
        assert {name: tuple(part.shape) for name, part in answers.items()} == {"u.x": (2, count, 2), "p": (2, count, 1)}


@pytest.mark.parametrize("attention", ["local", "global"])
def test_queries_do_not_see_one_another(attention: str) -> None:
    decoder, latent = decoder_and_latent(DecoderConfig(attention=attention), (True, False))
    points = torch.rand(2, 9, 2, generator=torch.Generator().manual_seed(0))
    together = decoder(points, latent)["p"]
    alone = torch.cat([decoder(points[:, [number]], latent)["p"] for number in range(9)], dim=1)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("window", [2, 3, 4])
def test_answers_are_continuous_also_across_cells_and_the_seam(window: int) -> None:
    decoder, latent = decoder_and_latent(DecoderConfig(window=window), (True, False))
    along = torch.linspace(0, 1, 4001)[None, :, None].expand(2, -1, -1)
    for fixed, axis in ((0.3, 0), (0.7, 1)):
        other = torch.full_like(along, fixed)
        points = torch.cat([along, other] if axis == 0 else [other, along], dim=-1)
        answer = decoder(points, latent)["p"]
        steps = answer.diff(dim=1).abs()
        assert steps.max() < 0.1 * (answer.max() - answer.min())
    ends = decoder(torch.tensor([[[0.0, 0.3], [1.0, 0.3]]]).expand(2, -1, -1), latent)["p"]
    torch.testing.assert_close(ends[:, 0], ends[:, 1], rtol=1e-3, atol=1e-3)


def test_local_answers_depend_on_near_tokens_only() -> None:
    decoder, latent = decoder_and_latent(DecoderConfig(), (False,))
    point = torch.full((2, 1, 1), 0.25)  # between tokens 0 and 1
    tokens = latent.values.clone().requires_grad_()
    decoder(point, latent.with_values(tokens))["p"].sum().backward()
    assert tokens.grad is not None
    reached = tokens.grad.abs().sum(dim=(0, 2)) > 0
    assert reached.tolist() == [True, True, False, False]


def test_gradients_are_right() -> None:
    decoder, latent = decoder_and_latent(DecoderConfig(heads=2), (True, False))
    decoder = decoder.double()
    axes = tuple(axis.double() for axis in latent.axes)
    points = torch.rand(2, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def answer(values: torch.Tensor) -> torch.Tensor:
        return decoder(points, Lattice(values=values, axes=axes, periodic=latent.periodic))["p"]

    assert torch.autograd.gradcheck(answer, latent.values.double().requires_grad_())
