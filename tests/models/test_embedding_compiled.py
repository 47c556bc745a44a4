"""The embedding under torch.compile, traced but not turned into machine code, which takes long."""

from __future__ import annotations

import pytest
import torch

from whenabouts.models.embedding import Embedding, EmbeddingSettings


@pytest.mark.filterwarnings("default")  # those of torch's own compiler
def test_compiled_it_drops_the_same_share_and_passes_gradients() -> None:
    torch.manual_seed(0)
    plain = Embedding(EmbeddingSettings(width=64, dropout=0.25), 32).train()
    compiled = torch.compile(plain, backend="aot_eager", dynamic=True)
    for num_rows in (2000, 2003):
        rows = torch.randn(num_rows, 32)
        plain.zero_grad()
        embedded = compiled(rows)
        embedded.square().sum().backward()
        # relu(BN(..)) of random rows: half of them 0, and the mean square of the others 1.
        assert (embedded == 0).float().mean().item() == pytest.approx(0.5 + 0.5 * 0.25, abs=0.01)
        assert embedded.square().mean().item() == pytest.approx(0.5 / 0.75, rel=0.03)
        # BN and relu scale with `scale`, so that the loss is quadratic in it (with `shift` at 0).
        assert plain.linear.scale.grad is not None
        assert (plain.linear.scale.grad * plain.linear.scale).sum().item() == pytest.approx(
            2 * embedded.square().sum().item(), rel=1e-3
        )
