import torch

from ups_data.models.fourier import FourierFeatures


def test_features_wrap_around_periodic_axes_only() -> None:
    features = FourierFeatures((True, False), (1, 2))
    ends = features(torch.tensor([[0.0, 0.3], [1.0, 0.3], [0.3, 0.0], [0.3, 1.0]]))
    assert ends.shape == (4, features.num_features)
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-5)
    assert (ends[2] - ends[3]).abs().max() > 1


def test_features_are_the_stated_ones() -> None:
    turn = torch.tensor(0.2 * torch.pi)
    wrapped, straight = (FourierFeatures((flag,), (3,))(torch.tensor([[0.2]]))[0] for flag in (True, False))
    torch.testing.assert_close(wrapped, torch.stack([(6 * turn).sin(), (6 * turn).cos()]))
    torch.testing.assert_close(straight, torch.stack([(3 * turn).sin(), (3 * turn).cos(), torch.tensor(-0.6)]))
