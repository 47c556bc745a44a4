import numpy as np
import pytest
import torch

from whenabouts.core.errors import SettingsError
from whenabouts.models.heads import (
    Head,
    HeadSettings,
    LogisticHead,
    MixtureHead,
    build_head,
    copy_rows,
    mixture_logit,
)

WIDTH, NUM_CLASSES = 4, 5
SETTINGS = [HeadSettings(), HeadSettings("moe"), HeadSettings("moe", num_experts=3)]


def head_of(settings: HeadSettings, num_classes: int = NUM_CLASSES, seed: int = 0) -> Head:
    torch.manual_seed(seed)
    return build_head(settings, WIDTH, num_classes).double()


def features_of(num_rows: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(0, 2, (num_rows, WIDTH)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def score_by_definition(head: Head, x: np.ndarray, c: int) -> float:
    """p of class c, from the parameters, class by class and expert by expert."""
    if isinstance(head, LogisticHead):
        weight, bias = (p.detach().numpy() for p in head.parameters())
        return float(sigmoid(weight[c] @ x + bias[c]))
    gates, experts, bias = (p.detach().numpy() for p in head.parameters())
    num_experts = len(bias) // head.num_classes
    gate = np.exp([gates[c * (num_experts + 1) + m] @ x for m in range(num_experts + 1)])
    rows = [c * num_experts + m for m in range(num_experts)]
    answers = [*(sigmoid(experts[r] @ x + bias[r]) for r in rows), 0.0]
    return float((gate / gate.sum()) @ answers)


@pytest.mark.parametrize("settings", SETTINGS)
def test_against_the_formula(settings: HeadSettings) -> None:
    head, features = head_of(settings), features_of()
    scores = head(features).sigmoid().detach().numpy()
    expected = [[score_by_definition(head, x, c) for c in range(5)] for x in features.numpy()]
    np.testing.assert_allclose(scores, expected, rtol=1e-10)


@pytest.mark.parametrize("settings", SETTINGS)
def test_pairs_are_those_of_the_whole_table(settings: HeadSettings) -> None:
    head, features = head_of(settings), features_of()
    pair_row, pair_class = torch.tensor([0, 0, 2, 1, 2]), torch.tensor([4, 0, 3, 3, 3])
    got = head.pair_logits(features, pair_row, pair_class)
    torch.testing.assert_close(got, head(features)[pair_row, pair_class])


@pytest.mark.parametrize("settings", SETTINGS)
def test_no_pairs(settings: HeadSettings) -> None:
    head, none = head_of(settings), torch.zeros(0, dtype=torch.long)
    got = head.pair_logits(features_of(), none, none)
    assert got.shape == (0,)
    got.sum().backward()
    assert all(not p.grad.any() for p in head.parameters())


@pytest.mark.parametrize("settings", SETTINGS)
def test_unrated_classes_get_no_gradient(settings: HeadSettings) -> None:
    head = head_of(settings)
    head.pair_logits(features_of(), torch.tensor([0, 1]), torch.tensor([2, 4])).sum().backward()
    for parameter in head.parameters():
        moved = parameter.grad.view(NUM_CLASSES, -1).abs().amin(dim=1) > 0
        assert moved.tolist() == [False, False, True, False, True]


@pytest.mark.parametrize("settings", SETTINGS)
def test_every_parameter_gets_a_gradient(settings: HeadSettings) -> None:
    head = head_of(settings)
    head(features_of()).square().sum().backward()
    assert all(p.grad.abs().min() > 0 for p in head.parameters())


def test_mixture_by_hand() -> None:
    """Gates 1/2, 1/4 and 1/4 (dummy), experts 1/2 and 3/4: p = 1/4 + 3/16 = 7/16."""
    gates = torch.log(torch.tensor([2.0, 1.0, 1.0]))
    experts = torch.log(torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(mixture_logit(gates, experts).exp(), torch.tensor(7 / 9))


def test_mixture_stays_finite_at_the_ends() -> None:
    experts = torch.tensor([[1e4, 1e4], [-1e4, -1e4], [-1e4, 3.0], [0.0, 0.0]], requires_grad=True)
    gates = torch.tensor([[0.0, 0, 0], [0, 0, 0], [1e4, 0, 0], [0, 0, 1e4]], requires_grad=True)
    logits = mixture_logit(gates, experts)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert experts.grad is not None
    assert experts.grad.isfinite().all()
    assert gates.grad is not None
    assert gates.grad.isfinite().all()
    torch.testing.assert_close(logits[0], torch.log(torch.tensor(2.0)))  # two sure, one dummy


def test_kinds() -> None:
    assert isinstance(head_of(HeadSettings()), LogisticHead)
    assert isinstance(head_of(HeadSettings("moe")), MixtureHead)
    assert HeadSettings("moe").num_experts == 2
    with pytest.raises(SettingsError, match="num_experts: the value is 0"):
        HeadSettings("moe", 0)


# ---- copying -------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SETTINGS)
def test_copied_classes_answer_as_in_the_source(settings: HeadSettings) -> None:
    source, target = head_of(settings, num_classes=7), head_of(settings, num_classes=4, seed=1)
    features = features_of()
    own = target(features)
    copy_rows(target, source, torch.tensor([6, -1, 0, 6]))
    theirs, got = source(features), target(features)
    torch.testing.assert_close(got[:, [0, 2, 3]], theirs[:, [6, 0, 6]])
    torch.testing.assert_close(got[:, 1], own[:, 1], rtol=0, atol=0)


def test_copied_rows_by_hand() -> None:
    source, target = LogisticHead(2, 3), LogisticHead(2, 2)
    with torch.no_grad():
        source.linear.weight.copy_(torch.tensor([[1, 2], [3, 4], [5, 6]]))
        source.linear.bias.copy_(torch.tensor([7, 8, 9]))
        target.linear.weight.fill_(-1)
        target.linear.bias.fill_(-2)
    copy_rows(target, source, torch.tensor([-1, 1]))
    assert target.linear.weight.tolist() == [[-1, -1], [3, 4]]
    assert target.linear.bias.tolist() == [-2, 8]


def test_copies_are_apart_and_learn() -> None:
    source, target = head_of(SETTINGS[1]), head_of(SETTINGS[1], seed=1)
    copy_rows(target, source, torch.arange(NUM_CLASSES))
    target(features_of()).sum().backward()
    assert all(p.grad is None for p in source.parameters())
    assert all(p.requires_grad and p.grad.abs().max() > 0 for p in target.parameters())
    before = [p.clone() for p in source.parameters()]
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.add_(1)
    assert all(torch.equal(a, b) for a, b in zip(before, source.parameters()))


def test_wrong_rows_are_refused() -> None:
    source, target = head_of(SETTINGS[0], 7), head_of(SETTINGS[0], 4)
    with pytest.raises(AssertionError, match="a row for each class"):
        copy_rows(target, source, torch.tensor([0, 1]))
    with pytest.raises(IndexError):
        copy_rows(target, source, torch.tensor([0, 1, 2, 7]))
