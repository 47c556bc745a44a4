"""Kernel logistic regression on rated segments: its optimum, its answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from torch import Tensor

from rated_world import CLASSES, SEGMENTS, SETTINGS, WIDTH, rated
from shapes import checked
from whenabouts.core.errors import SettingsError
from whenabouts.models import rated_kernel
from whenabouts.models.rated_kernel import (
    KernelSettings,
    RatedKernel,
    RatedPairs,
    class_loss,
    fit_class,
    rbf,
    squared_distances,
)

# ---- the fit of one class ------------------------------------------------------------------------


def one_class(
    num: int, seed: int = 0, offset: float = 1.0, equal: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Kernel, offset and labels of `num` rows, both kinds of label among them; the last `equal`
    rows are the first ones again, with labels of their own."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(num, 3))
    if equal:
        rows[-equal:] = rows[:equal]
    kernel = np.exp(-((rows[:, None] - rows[None]) ** 2).sum(-1) / 2)
    label = (rng.random(num) < 0.4).astype(float)
    label[:2] = 1, 0
    parts = kernel, offset * rng.normal(size=num), label
    return tuple(torch.from_numpy(part) for part in parts)  # type: ignore[return-value]


def loss_of(
    kernel: NDArray, offset: NDArray, label: NDArray, penalty: float, a: NDArray, b: float
) -> float:
    f = offset + kernel @ a + b
    return float((np.logaddexp(0, f) - label * f).sum() + penalty / 2 * a @ kernel @ a)


def test_the_loss_by_its_formula() -> None:
    kernel, offset, label = one_class(9)
    a, b = torch.linspace(-1, 2, 9, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    wanted = loss_of(*(p.numpy() for p in (kernel, offset, label)), 0.7, a.numpy(), 0.3)
    found = checked(class_loss)(kernel, offset, label, 0.7, a, b)
    assert float(found) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("penalty", [0.01, 0.3, 10.0])
def test_without_an_offset_it_is_logistic_regression_on_the_kernels_features(
    penalty: float,
) -> None:
    """On the rows of a root of K: |w|^2 = a^T K a, and C is 1 / penalty."""
    kernel, _, label = one_class(25, offset=0)
    values, vectors = np.linalg.eigh(kernel.numpy())
    root = vectors * np.sqrt(values.clip(0))
    oracle = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000).fit(root, label)
    a, b = fit_class(kernel, torch.zeros_like(label), label, penalty)
    found = (kernel @ a + b).numpy()
    np.testing.assert_allclose(found, oracle.decision_function(root), atol=2e-4)
    assert float(b) == pytest.approx(float(oracle.intercept_[0]), abs=2e-4)


@pytest.mark.parametrize(("seed", "penalty"), [(0, 0.1), (1, 0.3), (2, 3.0)])
def test_no_descent_finds_a_smaller_loss(seed: int, penalty: float) -> None:
    """L-BFGS on the loss written once more, from zero: the same optimum, offsets and all."""
    kernel, offset, label = one_class(20, seed, offset=2.0)
    a = torch.zeros(20, dtype=torch.float64, requires_grad=True)
    b = torch.zeros((), dtype=torch.float64, requires_grad=True)
    descent = torch.optim.LBFGS([a, b], max_iter=500, line_search_fn="strong_wolfe",
                                tolerance_grad=1e-10, tolerance_change=1e-14)  # fmt: skip

    def loss() -> Tensor:
        descent.zero_grad()
        f = offset + kernel @ a + b
        value = torch.logaddexp(f, torch.zeros_like(f)) - label * f
        whole = value.sum() + penalty / 2 * a @ (kernel @ a)
        whole.backward()
        return whole

    descent.step(loss)
    found_a, found_b = checked(fit_class)(kernel, offset, label, penalty)
    least = float(loss().detach())
    found = loss_of(*(p.numpy() for p in (kernel, offset, label)), penalty,
                    found_a.numpy(), float(found_b))  # fmt: skip
    assert found == pytest.approx(least, abs=1e-7)
    torch.testing.assert_close(
        kernel @ found_a + found_b, (kernel @ a + b).detach(), atol=1e-4, rtol=0
    )


HARD = {
    "usual": (one_class(40), 0.3),
    "two": (one_class(2), 0.3),
    "two, held by little": (one_class(2), 1e-6),
    "weak penalty": (one_class(40), 1e-3),
    "strong penalty": (one_class(40), 1e6),
    "equal rows of other labels": (one_class(40, equal=20), 0.3),
    "equal rows, least penalty": (one_class(40, equal=20), 1e-6),
    "many": (one_class(200, offset=3.0), 0.3),
    "sure and wrong": (one_class(40, offset=300.0), 0.3),
}


@pytest.mark.parametrize(("given", "penalty"), HARD.values(), ids=HARD)
def test_the_gradient_is_zero_where_it_ends(
    given: tuple[Tensor, Tensor, Tensor], penalty: float
) -> None:
    """penalty a = y - p, and the sum of it is zero, as it is of any step."""
    kernel, offset, label = given
    a, b = fit_class(kernel, offset, label, penalty)
    p = (offset + kernel @ a + b).sigmoid()
    assert a.isfinite().all()
    assert float((kernel @ (p - label + penalty * a)).abs().max()) < 2e-3
    assert abs(float((p - label).sum())) < 2e-3
    assert abs(float(a.sum())) < 1e-6 * max(1.0, float(a.abs().max()))


@pytest.mark.parametrize("offset", [1e4, 1e8])
def test_offsets_that_no_sigmoid_tells_apart(offset: float) -> None:
    """Far from where the loss bends: it ends better than it began, and finite."""
    kernel, offsets, label = one_class(40, offset=offset)
    a, b = fit_class(kernel, offsets, label, 0.3)
    start = class_loss(kernel, offsets, label, 0.3, torch.zeros_like(a), torch.zeros_like(b))
    assert a.isfinite().all()
    assert b.isfinite()
    assert class_loss(kernel, offsets, label, 0.3, a, b) < start


def test_full_steps_alone_would_overshoot() -> None:
    """Sure and wrong at the start: Newton's full step makes the loss larger, a part of it less."""
    kernel, offset, label = one_class(12, offset=0.0)
    offset = offset + 6 * (1 - 2 * label)
    parts = kernel, offset, label, 1e-3
    a, b = torch.zeros_like(offset), torch.zeros((), dtype=torch.float64)
    step_a, step_b = rated_kernel._newton_step(*parts, a, b)
    start = class_loss(*parts, a, b)
    assert class_loss(*parts, a + step_a, b + step_b) > start
    found = class_loss(*parts, *fit_class(*parts))
    assert found < 0.1 * start


def test_separable_labels_end() -> None:
    """The loss has a least value as |f| costs; the sides are told apart."""
    label = torch.tensor([1.0, 1, 0, 0], dtype=torch.float64)
    rows = torch.tensor([[2.0], [3], [-2], [-3]], dtype=torch.float64)
    kernel = rbf(rows, rows, torch.tensor(4.0, dtype=torch.float64))
    a, b = fit_class(kernel, torch.zeros_like(label), label, 1e-6)
    f = kernel @ a + b
    assert (f[label == 1] > 3).all()
    assert (f[label == 0] < -3).all()


# ---- distances -----------------------------------------------------------------------------------


def test_distances_and_similarity_by_hand() -> None:
    rows, others = torch.tensor([[0.0, 0], [3, 4]]), torch.tensor([[0.0, 0], [0, 4], [6, 8]])
    distances = checked(squared_distances)(rows, others)
    assert distances.tolist() == [[0, 16, 100], [25, 9, 25]]
    similar = checked(rbf)(rows, others, torch.tensor(8.0))
    torch.testing.assert_close(similar, torch.exp(-distances / 8))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_distances_are_never_negative(scale: float) -> None:
    rows = scale * (10 + torch.randn(64, 50, generator=torch.Generator().manual_seed(0)))
    raw = rows.square().sum(1)[:, None] - 2 * rows @ rows.T + rows.square().sum(1)
    assert (raw < 0).any()  # or nothing is tested
    assert (squared_distances(rows, rows) >= 0).all()
    assert (rbf(rows, rows, torch.tensor(1e-6)) <= 1).all()


def median_of(features: Tensor) -> float:
    return float(checked(rated_kernel._median_distance)(features))


def test_the_median_distance_by_hand() -> None:
    """Distances 1, 4, 9 (of 0, 1, 3 there are 1, 9 and 4); none of a row to itself."""
    assert median_of(torch.tensor([[0.0], [1], [3]])) == pytest.approx(4)
    assert median_of(torch.tensor([[0.0], [1], [3], [3], [3], [3]])) == pytest.approx(4)


def test_equal_features_have_no_median() -> None:
    for features in (torch.randn(1, 300), torch.zeros(1, 4)):
        assert median_of(10 * features.expand(50, -1).contiguous()) == 1.0
        assert median_of(features) == 1.0


def test_the_median_is_of_an_even_sample() -> None:
    """2,500 features, every third of which is drawn: those are far from each other."""
    features = torch.zeros(2500, 1)
    features[::3, 0] = torch.arange(len(features[::3])).float()
    drawn = features[::3]
    wanted = torch.nn.functional.pdist(drawn).square().median()
    assert median_of(features) == pytest.approx(float(wanted))
    assert median_of(features) > 1000


# ---- fitting all classes, and answers ------------------------------------------------------------


def fitted(pairs: RatedPairs | None = None, settings: KernelSettings = SETTINGS) -> RatedKernel:
    kernel = RatedKernel(WIDTH, CLASSES)
    kernel.fit(settings, pairs or rated())
    return kernel


def queries(num: int = 7, seed: int = 5) -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    features = torch.randn(num, WIDTH, generator=drawn)
    return features, torch.randn(num, CLASSES, generator=drawn)


def slow_answer(
    pairs: RatedPairs, settings: KernelSettings, features: Tensor, logits: Tensor
) -> NDArray:
    """Pair by pair, in float64; the widths from all distances of different segments."""
    share, parts = settings.answers, []
    for weight, ours, theirs in (
        (1 - share, pairs.features, features),
        (share, pairs.logits.sigmoid().sqrt(), logits.sigmoid().sqrt()),
    ):
        s, x = ours.double().numpy(), theirs.double().numpy()
        apart = sorted(float(((s[i] - s[j]) ** 2).sum()) for i in range(len(s)) for j in range(i))
        parts.append((weight / settings.bandwidth / apart[(len(apart) - 1) // 2], s, x))

    def near_to(x_or_s: int, i: int, j: int) -> float:
        """k of query (1) or support (0) i and support j."""
        exponent = sum(w * ((rows[x_or_s][i] - rows[0][j]) ** 2).sum() for w, *rows in parts)
        return float(np.exp(-exponent))

    answer = logits.double().numpy().copy()
    for c in range(CLASSES):
        of_class = [p for p in range(len(pairs.label)) if int(pairs.column[p]) == c]
        label = pairs.label[of_class].double()
        if len(set(label.tolist())) < 2:
            continue
        rows = [int(pairs.segment[p]) for p in of_class]
        near = np.array([[near_to(0, i, j) for j in rows] for i in rows])
        offset = settings.prior * pairs.logits[rows, c].double()
        a, b = fit_class(torch.from_numpy(near), offset, label, settings.penalty)
        for n in range(len(features)):
            added = sum(float(a[k]) * near_to(1, n, i) for k, i in enumerate(rows))
            answer[n, c] = settings.prior * float(logits[n, c]) + added + float(b)
    return answer


@pytest.mark.parametrize(
    "settings", [SETTINGS, KernelSettings(), KernelSettings(0.0, 2.0, 3.0, 0.0)]
)
def test_the_answer_pair_by_pair(settings: KernelSettings) -> None:
    pairs, (features, logits) = rated(), queries()
    found = checked(RatedKernel.forward)(fitted(pairs, settings), features, logits)
    wanted = slow_answer(pairs, settings, features, logits)
    np.testing.assert_allclose(found.numpy(), wanted, atol=2e-4)
    assert np.abs(wanted - logits.numpy())[:, :2].mean() > 0.1


def test_a_class_without_both_labels_keeps_its_logit() -> None:
    features, logits = queries()
    found = fitted()(features, logits)
    assert torch.equal(found[:, 2:], logits[:, 2:])
    assert not torch.isclose(found[:, :2], logits[:, :2]).any()


def test_no_class_has_both_labels() -> None:
    pairs, (features, logits) = rated(), queries()
    kernel = fitted(replace(pairs, label=torch.ones_like(pairs.label)))
    assert kernel.is_fitted
    assert torch.equal(kernel(features, logits), logits)


def test_many_rows_are_answered_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, (features, logits) = fitted(), queries(50)
    whole, asked = kernel(features, logits), []

    def noted(rows: Tensor, supports: Tensor, width: Tensor) -> Tensor:
        asked.append(len(rows))
        return rbf(rows, supports, width)

    monkeypatch.setattr(rated_kernel, "rbf", noted)
    for at_once, count in ((4 * SEGMENTS, 4), (1, 1)):
        monkeypatch.setattr(rated_kernel, "AT_ONCE", at_once)
        asked.clear()
        torch.testing.assert_close(kernel(features, logits), whole)
        assert (max(asked), sum(asked)) == (count, 2 * 50), "of features and of answers"


def test_batch_mates_are_irrelevant() -> None:
    kernel, (features, logits) = fitted(), queries()
    whole = kernel(features, logits)
    for n in range(len(features)):
        alone = kernel(features[n : n + 1], logits[n : n + 1])
        torch.testing.assert_close(alone, whole[n : n + 1])
    assert kernel(features[:0], logits[:0]).shape == (0, CLASSES)


def test_the_order_of_pairs_is_irrelevant() -> None:
    pairs, (features, logits) = rated(), queries()
    order = torch.arange(len(pairs.label)).flip(0)
    columns = ("segment", "column", "label")
    other = replace(pairs, **{name: getattr(pairs, name)[order] for name in columns})
    torch.testing.assert_close(
        fitted(other)(features, logits), fitted(pairs)(features, logits), atol=1e-5, rtol=1e-5
    )


def test_without_answers_the_heads_other_classes_do_not_count() -> None:
    pairs, (features, logits) = rated(), queries()
    moved = logits + torch.tensor([0.0, 0, 3, -3])
    for share, is_same in ((0.0, True), (0.3, False)):
        kernel = fitted(pairs, replace(SETTINGS, answers=share))
        assert kernel.answers.shape == (SEGMENTS, 0 if is_same else CLASSES)
        one, other = (kernel(features, each)[:, :2] for each in (logits, moved))
        assert torch.equal(one, other) == is_same


def test_nearly_all_the_share_leaves_features_out() -> None:
    pairs, (features, logits) = rated(), queries()
    kernel = fitted(pairs, replace(SETTINGS, answers=1 - 1e-9))
    torch.testing.assert_close(kernel(features, logits), kernel(features.flip(0), logits))


def test_answers_that_hardly_differ_do_not_tell_segments_apart() -> None:
    """Of 1e-3 in the logits the median would make as much as of 1."""
    pairs = rated()
    kernel = fitted(replace(pairs, logits=1e-3 * pairs.logits))
    assert float(kernel.answer_width) == pytest.approx(0.7 * 0.01 * 4 * 0.5 / 0.3, rel=1e-2)
    near = rbf(kernel.answers, kernel.answers, kernel.answer_width)
    assert near.min() > 0.999


def test_answers_by_hand() -> None:
    """Odds of 1, 3 and almost 0."""
    logits = torch.tensor([[0.0, np.log(3.0), -200.0]])
    found = checked(rated_kernel.answers_of)(logits)
    torch.testing.assert_close(found, torch.tensor([[0.5**0.5, 0.75**0.5, 0.0]]))


def test_another_fit_forgets_the_first() -> None:
    features, logits = queries()
    kernel = fitted()
    kernel.fit(SETTINGS, rated(1, 20))
    assert torch.equal(kernel(features, logits), fitted(rated(1, 20))(features, logits))


def test_far_from_all_rated_segments_the_head_and_a_bias_remain() -> None:
    kernel, (features, logits) = fitted(), queries()
    found = kernel(features + 1e4, logits)
    torch.testing.assert_close(found, logits * kernel.prior + kernel.bias)


def test_positives_in_two_places_that_no_linear_head_ranks() -> None:
    """Four clusters at the corners of a square, opposite ones of the same label."""
    rng = np.random.default_rng(0)

    def drawn(num: int) -> tuple[NDArray, NDArray]:
        corner = rng.integers(0, 2, (num, 2))
        rows = np.pad(2.0 * corner - 1, ((0, 0), (0, WIDTH - 2)))
        rows += rng.normal(scale=0.4, size=(num, WIDTH))
        return rows.astype(np.float32), (corner[:, 0] == corner[:, 1]).astype(np.float32)

    (rows, label), (others, truth) = drawn(80), drawn(400)
    head = LogisticRegression().fit(rows, label)
    pair = [torch.from_numpy(head.decision_function(x).astype(np.float32)) for x in (rows, others)]
    kernel = RatedKernel(WIDTH, 1)
    column = torch.zeros(len(rows), dtype=torch.int64)
    pairs = RatedPairs(torch.from_numpy(rows), torch.arange(len(rows)), column,
                       torch.from_numpy(label), pair[0][:, None])  # fmt: skip
    kernel.fit(KernelSettings(), pairs)
    answers = kernel(torch.from_numpy(others), pair[1][:, None])[:, 0]
    of_head, found = (average_precision_score(truth, x.numpy()) for x in (pair[1], answers))
    assert of_head < 0.65
    assert found > 0.93


# ---- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["prior", "penalty", "bandwidth"])
@pytest.mark.parametrize("value", [-1.0, -1e-9, float("nan"), float("inf")])
def test_settings_out_of_range(name: str, value: float) -> None:
    with pytest.raises(SettingsError, match=rf"{name}: the value is {value}; it must be at least"):
        KernelSettings(**{name: value})


@pytest.mark.parametrize("value", [-0.1, 1.0, 2.0, float("nan")])
def test_answers_are_a_share(value: float) -> None:
    told = rf"answers: the value is {value}; it is a share: at least 0, below 1"
    with pytest.raises(SettingsError, match=told):
        KernelSettings(answers=value)


def test_a_prior_of_zero_is_none() -> None:
    KernelSettings(prior=0.0)
    for name in ("penalty", "bandwidth"):
        with pytest.raises(SettingsError, match=f"{name}: the value is 0.0; .* at least 1e-06"):
            KernelSettings(**{name: 0.0})
