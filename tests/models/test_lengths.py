import numpy as np
import torch

from layer_oracle import unit as unit_by_definition
from shapes import checked
from whenabouts.models.lengths import EPS, unit, unit_clusters


def test_unit_by_hand() -> None:
    got = unit(torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, EPS / 2]]))
    torch.testing.assert_close(got, torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.0, 0.5]]))


def test_unit_clusters_by_definition() -> None:
    """A whole video, one with a cluster of 0 and one below EPS, and one that is 0."""
    residuals = np.random.default_rng(0).normal(size=(3, 4, 5))
    residuals[1, 2], residuals[1, 3], residuals[2] = 0, 1e-7, 0
    wanted = [
        unit_by_definition(np.concatenate([unit_by_definition(v) for v in x])) for x in residuals
    ]
    got = unit_clusters(torch.from_numpy(residuals))
    np.testing.assert_allclose(got, wanted, rtol=1e-12)
    np.testing.assert_allclose(got.norm(dim=1), [1, 1, 0], rtol=1e-12)


def test_gradients() -> None:
    residuals = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(unit_clusters, residuals)
    assert torch.autograd.gradcheck(unit, residuals)
    nothing = torch.zeros(2, 3, 4, requires_grad=True)
    unit_clusters(nothing).sum().backward()
    assert nothing.grad is not None
    assert nothing.grad.isfinite().all()


def test_shapes() -> None:
    assert checked(unit)(torch.randn(2, 3, 4)).shape == (2, 3, 4)
    assert checked(unit_clusters)(torch.randn(2, 3, 4)).shape == (2, 12)
