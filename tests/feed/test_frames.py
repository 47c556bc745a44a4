from __future__ import annotations

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shapes import checked
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


FLOATS = DatasetSettings("x", (FeatureList("a", 7, dtype="float32"),), low=-1.0, high=3.0)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from([(4,), (3, 1), (2, 3, 2)]))
def test_floats_are_taken_as_they_are(seed, shape):
    """The range is that of bytes; NaN behind the mask is nothing too."""
    rng = np.random.default_rng(seed)
    frames = rng.standard_normal((*shape, 7), np.float32) * 100
    mask = rng.random(shape) < 0.7
    frames[~mask] = rng.choice([np.nan, np.inf, -1], (*shape, 7))[~mask]
    given_frames = torch.from_numpy(frames.copy())
    features = checked(normalised)(given_frames, torch.from_numpy(mask), FLOATS).numpy()
    norm = np.sqrt((frames[mask].astype(np.float64) ** 2).sum(-1, keepdims=True))
    np.testing.assert_allclose(features[mask], frames[mask] / norm, atol=3e-7)
    assert (features[~mask] == 0).all()
    np.testing.assert_array_equal(given_frames.numpy(), frames)


def test_floats_of_any_size_are_finite():
    largest = torch.finfo(torch.float32).max
    frames = torch.tensor([[0.0] * 7, [largest] * 7, [1e-45] * 7, [3.0, 4, 0, 0, 0, 0, 0]])
    features = normalised(frames, torch.ones(4, dtype=torch.bool), FLOATS)
    assert torch.isfinite(features).all()
    assert features[0].tolist() == [0] * 7
    assert features[3, :2].tolist() == pytest.approx([0.6, 0.8])


def test_frames_of_another_type_than_the_data_set_are_noticed():
    mask = torch.ones(2, dtype=torch.bool)
    for frames, dataset in (
        (torch.zeros(2, 7), YT8M),
        (torch.zeros(2, 7, dtype=torch.uint8), FLOATS),
    ):
        with pytest.raises(AssertionError, match="frames are of the data set's type"):
            normalised(frames, mask, dataset)


def test_shapes_and_types_are_as_declared():
    frames, mask = torch.zeros(2, 5, 1152, dtype=torch.uint8), torch.ones(2, 5, dtype=torch.bool)
    assert checked(normalised)(frames, mask, YT8M).shape == (2, 5, 1152)
    for wrong in (mask[:1], mask[0], mask.float()):
        with pytest.raises(jaxtyping.TypeCheckError):
            checked(normalised)(frames, wrong, YT8M)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_buffer_has_the_shape_and_type_that_are_asked_for(dtype):
    buffer = BatchBuffer(CPU, dtype)
    for shape in ((2, 3, 4), (1, 3, 4), (5, 3, 4), (0, 3, 4), (7,)):
        block = buffer.take(shape)
        assert block.shape == shape
        assert block.dtype == getattr(torch, dtype)
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

    for dtype in ("uint8", "float32"):
        buffer = BatchBuffer(torch.device("cuda"), dtype)
        asked.clear()
        with monkeypatch.context() as patched:
            patched.setattr(torch, "empty", recorded)
            blocks = [buffer.take((3, 4)) for _ in range(2)]
        assert asked == [True, True]
        assert blocks[0].data_ptr() != blocks[1].data_ptr()
        assert [(b.shape, b.dtype) for b in blocks] == [((3, 4), getattr(torch, dtype))] * 2
