"""Floating-point operations of a training step of NL: what its matrix products cannot do without.

A product [n, k] x [k, m] is 2 n k m operations. Backward has two products for each of forward, one
for the gradient of each factor; only the first layer needs none for its input, which is the data.
Norms, activations, dropout, losses and the optimiser are not counted: they are no products.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from whenabouts.models.hierarchical import NL


@dataclass(frozen=True)
class Sizes:
    """A batch of whole videos of equal length, and the widths of the model.

    width: D; embedded: E; hidden: of both attention networks; inner: I of the non-local block.
    """

    num_videos: int
    num_frames: int
    segment_frames: int
    width: int
    embedded: int
    hidden: int
    inner: int
    num_video_classes: int

    @classmethod
    def of(
        cls,
        settings: NL,
        num_videos: int,
        num_frames: int,
        segment_frames: int,
        width: int,
        num_video_classes: int,
    ) -> Sizes:
        assert settings.segment_attention.hidden == settings.video_attention.hidden
        embedded = settings.embedding.width_of(width)
        return cls(
            num_videos=num_videos,
            num_frames=num_frames,
            segment_frames=segment_frames,
            width=width,
            embedded=embedded,
            hidden=settings.segment_attention.hidden,
            inner=embedded // settings.non_local.reduction,
            num_video_classes=num_video_classes,
        )

    @property
    def largest_product(self) -> tuple[int, int, int]:
        """(n, k, m) of the embedding of all frames of the batch."""
        return self.num_videos * self.num_frames, self.width, self.embedded


def forward_flops(sizes: Sizes) -> dict[str, int]:
    """Operations of forward by the product's name. The segment head is not part of this loss."""
    return {name: 2 * n * k * m for name, n, k, m in _products(sizes)}


def _products(s: Sizes) -> Iterator[tuple[str, int, int, int]]:
    frames, length = s.num_videos * s.num_frames, s.num_frames // s.segment_frames
    segments = s.num_videos * length
    yield "embedding", frames, s.width, s.embedded
    yield "segment attention, hidden", frames, s.embedded, s.hidden
    yield "segment attention, out", frames, s.hidden, 1
    yield "segment attention, pooling", frames, 1, s.embedded
    yield "non-local, Q K V", segments, s.embedded, 3 * s.inner
    yield "non-local, scores", segments, s.inner, length
    yield "non-local, weighted values", segments, length, s.inner
    yield "non-local, out", segments, s.inner, s.embedded
    yield "video attention, hidden", segments, s.embedded, s.hidden
    yield "video attention, out", segments, s.hidden, 1
    yield "video attention, pooling", segments, 1, s.embedded
    yield "video head", s.num_videos, s.embedded, s.num_video_classes


def step_flops(sizes: Sizes) -> int:
    """Operations of forward and backward."""
    forward = forward_flops(sizes)
    return 3 * sum(forward.values()) - forward["embedding"]
