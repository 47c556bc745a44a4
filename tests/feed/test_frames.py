from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whenabouts.corpus.dataset import PRESETS, DatasetSettings, FeatureList
from whenabouts.feed.frames import BatchBuffer, normalised

CPU = torch.device("cpu")
YT8M = PRESETS["yt8m"]


def slow_normalised(
    frames: np.ndarray, mask: np.ndarray, low: float = -2.0, high: float = 2.0
) -> np.ndarray:
    """From the formula of YouTube-8M's reader, in float64."""
    x = frames.astype(np.float64) * (high - low) / 255 + (high - low) / 512 + low
    return np.where(mask[..., None], x / np.sqrt((x**2).sum(-1, keepdims=True)), 0)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32),
    st.sampled_from([(4,), (3, 5), (2, 3, 2)]),
    st.sampled_from([(-2.0, 2.0), (0.0, 1.0), (-1.0, 3.0)]),
)
def test_features_follow_the_formula(seed, shape, limits):
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (*shape, 7), np.uint8)
    mask = rng.random(shape) < 0.7
    dataset = DatasetSettings("x", (FeatureList("a", 7),), low=limits[0], high=limits[1])
    given_frames = torch.from_numpy(frames.copy())
    features = normalised(given_frames, torch.from_numpy(mask), dataset)
    assert features.dtype == torch.float32
    expected = slow_normalised(frames, mask, *limits)
    np.testing.assert_allclose(features.numpy(), expected, atol=3e-7)
    assert (features.numpy()[~mask] == 0).all(), "exactly 0 where nothing is"
    np.testing.assert_array_equal(given_frames.numpy(), frames)


def test_formula_of_youtube_8m_by_hand():
    """x = q * 4/255 + 4/512 - 2: bytes 0 and 255 are -1.9921875 and 2.0078125."""
    features = normalised(torch.tensor([[0, 255]], dtype=torch.uint8), torch.tensor([True]), YT8M)
    norm = (1.9921875**2 + 2.0078125**2) ** 0.5
    assert features[0].tolist() == pytest.approx([-1.9921875 / norm, 2.0078125 / norm], abs=1e-7)


def test_every_frame_has_norm_one_over_all_lists():
    frames = torch.randint(0, 256, (3, 5, 1152), dtype=torch.uint8)
    features = normalised(frames, torch.ones(3, 5, dtype=torch.bool), YT8M)
    assert torch.linalg.vector_norm(features, dim=-1).numpy() == pytest.approx(1, abs=1e-6)


def test_fully_masked_batch_is_finite_and_zero():
    frames = torch.randint(0, 256, (2, 5, 9), dtype=torch.uint8)
    features = normalised(frames, torch.zeros(2, 5, dtype=torch.bool), YT8M)
    assert torch.count_nonzero(features) == 0
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("mask", [True, False])
def test_frame_of_norm_zero_is_finite(mask):
    """In the range [-1, 511] the byte 0 is exactly 0.0."""
    dataset = DatasetSettings("x", (FeatureList("a", 3),), low=-1.0, high=511.0)
    features = normalised(torch.zeros(1, 3, dtype=torch.uint8), torch.tensor([mask]), dataset)
    assert features.tolist() == [[0, 0, 0]]


def test_what_lies_behind_the_mask_is_irrelevant():
    frames = torch.randint(0, 256, (2, 5, 9), dtype=torch.uint8)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.bool)
    other = torch.where(mask[..., None], frames, 255 - frames)
    assert torch.equal(normalised(frames, mask, YT8M), normalised(other, mask, YT8M))


def test_buffer_has_the_shape_that_is_asked_for():
    buffer = BatchBuffer(CPU)
    for shape in ((2, 3, 4), (1, 3, 4), (5, 3, 4), (0, 3, 4), (7,)):
        block = buffer.take(shape)
        assert block.shape == shape
        assert block.dtype == torch.uint8
        block.fill_(7)


def test_memory_is_used_again():
    buffer = BatchBuffer(CPU)
    large = buffer.take((4, 5))
    for shape in ((20,), (4, 5), (3, 2)):
        assert buffer.take(shape).data_ptr() == large.data_ptr()
    larger = buffer.take((3, 7))
    assert buffer.take((21,)).data_ptr() == larger.data_ptr()
    assert buffer.take((20,)).data_ptr() == larger.data_ptr()


def test_memory_for_a_gpu_is_page_locked_and_new(monkeypatch):
    asked, empty = [], torch.empty

    def recorded(*shape: object, pin_memory: bool = False, **settings: object) -> torch.Tensor:
        asked.append(pin_memory)
        return empty(*shape, **settings)

    buffer = BatchBuffer(torch.device("cuda"))
    monkeypatch.setattr(torch, "empty", recorded)
    blocks = [buffer.take((3, 4)) for _ in range(2)]
    assert asked == [True, True]
    assert blocks[0].data_ptr() != blocks[1].data_ptr()
    assert [(b.shape, b.dtype) for b in blocks] == [((3, 4), torch.uint8)] * 2
