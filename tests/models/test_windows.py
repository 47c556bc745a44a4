from __future__ import annotations

import numpy as np
import pytest
import torch

from layer_oracle import EMPTY, MASK, frames_of, videos_of
from shapes import checked
from whenabouts.models.windows import sliding_windows, window_means

WIDTH = 6


@pytest.mark.parametrize("num_windows", [1, 2, 3, 5, 9])
def test_against_the_formula(num_windows: int) -> None:
    features = frames_of(WIDTH)
    means, holds = checked(window_means)(features, MASK, num_windows)
    for video, x in enumerate(videos_of(features)):
        parts: list[list[np.ndarray]] = [[] for _ in range(num_windows)]
        for rank, frame in enumerate(x):
            parts[rank * num_windows // len(x)].append(frame)
        wanted = [sum(part) / len(part) if part else np.zeros(WIDTH) for part in parts]
        np.testing.assert_allclose(means[video], np.stack(wanted), rtol=1e-12, atol=1e-15)
        assert holds[video].tolist() == [bool(part) for part in parts]


def test_by_hand() -> None:
    """Seven frames in three windows, of 3, 2 and 2; four with a hole, of 2, 1 and 1."""
    frames = torch.tensor([[1.0, 2, 6, 4, 6, 8, 10], [1, 99, 3, 7, 5, 99, 99]]).unsqueeze(-1)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 1, 0, 0]], dtype=torch.bool)
    means, holds = window_means(frames, mask, 3)
    torch.testing.assert_close(means.squeeze(-1), torch.tensor([[3.0, 5, 9], [2, 7, 5]]))
    assert holds.all()


def test_one_window_is_the_mean_of_the_video() -> None:
    features = frames_of(WIDTH)
    means, holds = window_means(features, MASK, 1)
    for video, x in enumerate(videos_of(features)):
        if video != EMPTY:
            np.testing.assert_allclose(means[video, 0], x.mean(axis=0), rtol=1e-12)
    assert holds.squeeze(1).tolist() == MASK.any(dim=1).tolist()


def test_every_frame_counts_once_and_no_padding_does() -> None:
    features = frames_of(WIDTH).requires_grad_()
    means, _ = window_means(features, MASK, 2)
    means.sum().backward()
    assert features.grad is not None
    assert (features.grad[MASK] > 0).all()
    assert not features.grad[~MASK].any()


def test_twice_the_frames_are_the_same_windows() -> None:
    """What makes drawn frames and all frames alike: the cut is by share of the video."""
    features = frames_of(WIDTH, mask=torch.ones(2, 6, dtype=torch.bool))
    mask = torch.ones(2, 6, dtype=torch.bool)
    wanted = window_means(features, mask, 3)[0]
    twice = features.repeat_interleave(2, dim=1), mask.repeat_interleave(2, dim=1)
    torch.testing.assert_close(window_means(*twice, 3)[0], wanted)


def test_sliding_windows_by_hand() -> None:
    """Of two frames, in segments of five, three, one and no frames."""
    mask = torch.arange(5) < torch.tensor([[5], [3], [1], [0]])
    found = checked(sliding_windows)(mask, 2)
    where = [[w.nonzero().flatten().tolist() for w in windows] for windows in found]
    assert where == [
        [[0, 1], [1, 2], [2, 3], [3, 4]],
        [[0, 1], [1, 2], [1, 2], [1, 2]],
        [[0], [0], [0], [0]],
        [[], [], [], []],
    ]


@pytest.mark.parametrize("num_frames", [5, 8])
def test_one_window_as_long_as_the_segment(num_frames: int) -> None:
    mask = torch.arange(5) < torch.tensor([[5], [2]])
    assert torch.equal(sliding_windows(mask, num_frames), mask.unsqueeze(1))
