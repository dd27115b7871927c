import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ups_data.models.lattice import Lattice, find_neighbours, interpolate, product_positions


def even_axes(shape: tuple[int, ...], batch: int = 2) -> tuple[torch.Tensor, ...]:
    return tuple(((torch.arange(size) + 0.5) / size).expand(batch, -1) for size in shape)


@given(
    shape=st.lists(st.integers(2, 6), min_size=1, max_size=3).map(tuple),
    periodic=st.lists(st.booleans(), min_size=3, max_size=3),
    window=st.integers(2, 4),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_neighbours_are_the_nearest_sites(shape: tuple[int, ...], periodic: list[bool], window: int, seed: int) -> None:
    flags = tuple(periodic[: len(shape)])
    axes, generator = even_axes(shape), torch.Generator().manual_seed(seed)
    points = torch.rand(2, 20, len(shape), generator=generator)
    near = find_neighbours(axes, flags, points, window=window)
    positions = product_positions(axes)
    for query in range(20):
        offset = points[0, query] - positions[0]
        wrap = torch.tensor(flags)
        offset = torch.where(wrap, offset - offset.round(), offset) * torch.tensor(shape)
        found = near.index[0, query]
        assert len(set(found.tolist())) == len(found)
        # The offsets are those of the sites; wrapped ones may differ by a period where an axis has few sites.
        direct = offset[found] - near.offset[0, query]
        whole = direct / torch.tensor(shape)
        assert (torch.where(wrap, whole - whole.round(), whole).abs() < 1e-4).all()
        assert offset.abs().max(dim=1).values.min() >= near.offset[0, query].abs().max(dim=1).values.min() - 1e-4


@pytest.mark.parametrize("periodic", [(True, True), (False, True)])
def test_interpolation_is_exact_on_nodes_and_for_linear_fields(periodic: tuple[bool, bool]) -> None:
    axes = (torch.tensor([[0.0, 0.1, 0.35, 0.6, 0.9]]), torch.arange(4)[None] / 4)
    values = torch.randn(1, 20, 3, generator=torch.Generator().manual_seed(0))
    nodes = Lattice(values=values, axes=axes, periodic=periodic)
    torch.testing.assert_close(interpolate(nodes, nodes.positions()), values)
    linear = nodes.with_values(nodes.positions() @ torch.tensor([[2.0], [3.0]]))
    inside = torch.rand(1, 50, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([0.9, 0.75])
    torch.testing.assert_close(interpolate(linear, inside), inside @ torch.tensor([[2.0], [3.0]]))


def test_interpolation_wraps_across_the_seam() -> None:
    values = torch.tensor([[[0.0], [1.0], [2.0], [5.0]]])
    nodes = Lattice(values=values, axes=(torch.arange(4)[None] / 4,), periodic=(True,))
    found = interpolate(nodes, torch.tensor([[[0.875], [1.0]]]))
    torch.testing.assert_close(found, torch.tensor([[[2.5], [0.0]]]))


def test_mixing_is_gather_product_and_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    near = find_neighbours(even_axes((4, 3)), (True, False), torch.rand(2, 7, 2, generator=generator), window=2)
    values = torch.randn(2, 12, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    shares = torch.rand(2, 7, 4, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    slow = (near.gather(values).unflatten(-1, (2, 3)) * shares[..., None]).sum(dim=2).flatten(2)
    fast = near.mix(values, shares)
    torch.testing.assert_close(fast, slow)
    probe = torch.randn(fast.shape, generator=generator, dtype=torch.float64)
    for mine, plain in zip(
        torch.autograd.grad((fast * probe).sum(), (values, shares)),
        torch.autograd.grad((slow * probe).sum(), (values, shares)),
        strict=True,
    ):
        torch.testing.assert_close(mine, plain)


def test_windows_vanish_where_sites_enter_and_leave() -> None:
    axes = even_axes((8,), batch=1)
    points = torch.tensor([[[0.4375 - 1e-6], [0.4375 + 1e-6]]])  # on both sides of the centre of token 3
    near = find_neighbours(axes, (False,), points, window=2)
    assert near.index[0].tolist() == [[2, 3], [3, 4]]
    torch.testing.assert_close(near.window()[0], torch.tensor([[0.0, 1.0], [1.0, 0.0]]), atol=1e-4, rtol=0)
