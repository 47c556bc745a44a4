"""Video-level models: all they read of a video is the mean of its frames.

    x = mean_t x_t                                 over real frames
    video-logistic   p = sigmoid(W x + b)
    video-moe        p = mixture of logistic experts of x
    video-mlp        h_0 = BN(W_0 x);   h_i = h_(i-1) + B_i drop(relu(BN(A_i h_(i-1)))) + b_i
                     p = head(h_last)

The first two: Abu-El-Haija et al., "YouTube-8M: a large-scale video classification benchmark"
(2016). The residual network: after He, Zhang, Ren, Sun, "Deep residual learning for image
recognition" (2016). A file of video-level features is one frame a video; the mean of one is itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from torch import nn

from whenabouts.models.checks import refuse_more_layers, refuse_sizes_below_one
from whenabouts.models.embedding import Embedding, EmbeddingSettings, NormedLinear
from whenabouts.models.heads import HeadSettings, build_head
from whenabouts.models.logistic import mean_over_frames

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


@dataclass(frozen=True)
class VideoLogistic:
    """Settings of video-logistic: it has none."""

    family: Literal["video-logistic"] = "video-logistic"


@dataclass(frozen=True)
class VideoMoE:
    """Settings of video-moe, a mixture of experts."""

    family: Literal["video-moe"] = "video-moe"
    num_experts: int = 2
    """Without the dummy."""

    def __post_init__(self) -> None:
        refuse_sizes_below_one(self, "num_experts")


@dataclass(frozen=True)
class VideoMLP:
    """Settings of video-mlp."""

    family: Literal["video-mlp"] = "video-mlp"
    width: int = 2048
    """Of every h."""
    num_blocks: int = 2
    """Residual blocks, one after another."""
    dropout: float = 0.5
    """Share of a block's inner values set to 0 in training."""
    head: HeadSettings = field(default_factory=lambda: HeadSettings("moe"))

    def __post_init__(self) -> None:
        refuse_sizes_below_one(self, "width", "num_blocks")
        refuse_more_layers(self, "num_blocks")
        self.inner()  # refuses what dropout cannot be

    def inner(self) -> EmbeddingSettings:
        """Settings of drop(relu(BN(A h))), the first half of a block."""
        return EmbeddingSettings(width=self.width, dropout=self.dropout)


VideoLevelSettings = VideoLogistic | VideoMoE | VideoMLP


class VideoLevel(nn.Module):
    """[B, T, D] -> logits [B, V]. A video that is all padding has the mean 0.

    The mean may stand in for the frames, as one frame.
    """

    reads_mean = True

    def __init__(self, settings: VideoLevelSettings, width: int, num_video_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        match settings:
            case VideoLogistic():
                head = HeadSettings("logistic")
            case VideoMoE():
                head = HeadSettings("moe", settings.num_experts)
            case VideoMLP():
                head = settings.head
                self.layers.extend(_residual_layers(settings, width))
                width = settings.width
        self.head = build_head(head, width, num_video_classes)

    def forward(
        self, features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B V"]:
        logits: Tensor = self.head(self.layers(mean_over_frames(features, mask)))
        return logits


def _residual_layers(settings: VideoMLP, width: int) -> list[nn.Module]:
    blocks = [ResidualBlock(settings.inner()) for _ in range(settings.num_blocks)]
    return [NormedLinear(width, settings.width), *blocks]


class ResidualBlock(nn.Module):
    """[B, E] -> [B, E]: h + B drop(relu(BN(A h))) + b."""

    def __init__(self, inner: EmbeddingSettings) -> None:
        super().__init__()
        self.inner = Embedding(inner, inner.width)
        self.out = nn.Linear(inner.width, inner.width)

    def forward(self, features: Float[Tensor, "B E"]) -> Float[Tensor, "B E"]:
        added: Tensor = self.out(self.inner(features))
        return features + added
