import pytest
import torch

from whenabouts.models.rows import RealRows

MASK = torch.tensor([[True, False, True], [False, False, False], [False, True, True]])


def test_by_hand() -> None:
    values = torch.arange(18.0).view(3, 3, 2)
    real = RealRows(MASK)
    rows = real.take(values)
    assert rows.tolist() == [[0, 1], [4, 5], [14, 15], [16, 17]]
    put = real.put(rows[:, :1] + 1)
    assert put.tolist() == [[[1], [0], [5]], [[0], [0], [0]], [[0], [15], [17]]]


def test_without_padding_nothing_is_copied() -> None:
    values = torch.rand(2, 3, 4)
    real = RealRows(torch.ones(2, 3, dtype=torch.bool))
    rows = real.take(values)
    assert rows.data_ptr() == values.data_ptr()
    assert rows.shape == (6, 4)
    assert torch.equal(real.put(rows), values)
    assert real.put(rows).data_ptr() == values.data_ptr()


@pytest.mark.parametrize(("num_padded", "num_rows"), [(0, 8), (2, 8), (3, 5), (8, 0)])
def test_a_quarter_of_padding_may_stay(num_padded: int, num_rows: int) -> None:
    mask = (torch.arange(8) >= num_padded).view(2, 4)
    values = torch.rand(2, 4, 3) + 1
    assert len(RealRows(mask).take(values)) == 8 - num_padded
    real = RealRows(mask, keep_little=True)
    assert len(real.take(values)) == num_rows
    put = real.put(real.take(values))
    assert torch.equal(put, values if num_rows == 8 else values * mask.unsqueeze(-1))


def test_gradient_reaches_real_positions_alone() -> None:
    values = torch.rand(3, 3, 2, requires_grad=True)
    real = RealRows(MASK)
    (real.put(real.take(values) * 3) * torch.arange(9.0).view(3, 3, 1)).sum().backward()
    expected = 3 * torch.arange(9.0).view(3, 3, 1) * MASK.unsqueeze(-1)
    assert torch.equal(values.grad, expected.expand(3, 3, 2))
