"""Hierarchical double-attention models: frames -> segment feature -> video feature, two losses.

    frames [B, T, D]   -- segment module -->           segment feature [B, E] -- segment head --> C
    segments [B, S, E] -- context, video attention --> video feature [B, E]   -- video head   --> V

    family   segment module                      context over the segments of a video
    att2     embedding, attention                none
    loss2    as att2; only its training differs
    nl       embedding, attention                non-local block
    se       embedding, attention                temporal squeeze-and-excitation
    fcfc     FC over channels, FC over frames    non-local block

As in the 11th place solution of the 3rd YouTube-8M challenge (2019), with the attention of STPN.
One more family pools scores instead of features (multiple-instance learning, as `mil`):

    lse      embedding, attention; the video head on every segment, then log-mean-exp of its logits

so that a topic which only a few segments show is not blurred by the others.

A segment may be judged by its windows, as a video is by its segments: the segment feature is then
those of K windows of some frames, one after another, F = K E (without windows K = 1), and

    segment logit = 1/r log mean_k exp(r z_k)          z_k: of window k

so that a sound of a second need not fill five. LSE pools a video over the windows of all segments;
what pools features takes the mean over the windows of a segment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import torch
from torch import nn
from torch.nn import functional

from whenabouts.core.errors import SettingsError
from whenabouts.models.attention import AttentionPool, AttentionSegment, AttentionSettings
from whenabouts.models.checks import refuse_not_above_zero
from whenabouts.models.embedding import EmbeddingSettings
from whenabouts.models.fcfc import FrameMix, FrameMixSettings
from whenabouts.models.heads import HeadSettings, build_head, copy_rows
from whenabouts.models.multiple_instance import log_mean_exp
from whenabouts.models.non_local import NonLocal, NonLocalSettings
from whenabouts.models.rated_kernel import RatedKernel
from whenabouts.models.squeeze_excitation import (
    SqueezeExcitationSettings,
    TemporalSqueezeExcitation,
)

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class _TwoLevels:
    """What all families have; head: the kind of both heads."""

    video_attention: AttentionSettings = field(default_factory=AttentionSettings)
    head: HeadSettings = field(default_factory=HeadSettings)


@dataclass(frozen=True)
class SegmentWindows:
    """Segments judged by the windows in them."""

    frames: int = 0
    """Of a window, one from each frame of the segment on; 0, or as many as a segment has: segments
    are judged as wholes."""
    sharpness: float = 4.0
    """r of the log-mean-exp over a segment's windows: towards 0 their mean, the more the nearer
    their maximum."""

    def __post_init__(self) -> None:
        if self.frames < 0:
            fact = f"the value is {self.frames}"
            raise SettingsError(fact, where="frames", rule="it must be at least 0")
        refuse_not_above_zero(self, "sharpness")


@dataclass(frozen=True)
class _AttendedFrames(_TwoLevels):
    """The families whose segment module is attention."""

    embedding: EmbeddingSettings = field(default_factory=EmbeddingSettings)
    segment_attention: AttentionSettings = field(default_factory=AttentionSettings)
    windows: SegmentWindows = field(default_factory=SegmentWindows)


@dataclass(frozen=True)
class Att2(_AttendedFrames):
    """Settings of Att2: attention twice."""

    family: Literal["att2"] = "att2"


@dataclass(frozen=True)
class Loss2(_AttendedFrames):
    """Settings of Loss2: the network of Att2, trained with both losses at once."""

    family: Literal["loss2"] = "loss2"


@dataclass(frozen=True)
class NL(_AttendedFrames):
    """Settings of NL: Att2 with a non-local block in front of video attention."""

    family: Literal["nl"] = "nl"
    non_local: NonLocalSettings = field(default_factory=NonLocalSettings)


@dataclass(frozen=True)
class SE(_AttendedFrames):
    """Settings of SE: Att2 with squeeze-and-excitation in front of video attention."""

    family: Literal["se"] = "se"
    squeeze_excitation: SqueezeExcitationSettings = field(default_factory=SqueezeExcitationSettings)


@dataclass(frozen=True)
class FCFC(_TwoLevels):
    """Settings of FCFC: two fully connected layers a segment, then as NL."""

    family: Literal["fcfc"] = "fcfc"
    frame_mix: FrameMixSettings = field(default_factory=FrameMixSettings)
    non_local: NonLocalSettings = field(default_factory=NonLocalSettings)


@dataclass(frozen=True)
class LSE(_AttendedFrames):
    """Settings of LSE: the scores of segments are pooled, not their features. video_attention is
    not used."""

    family: Literal["lse"] = "lse"
    sharpness: float = 1.0
    """r of the log-mean-exp over a video's segments: towards 0 their mean, the more the nearer
    their maximum."""

    def __post_init__(self) -> None:
        refuse_not_above_zero(self, "sharpness")


HierarchicalSettings = Att2 | Loss2 | NL | SE | FCFC | LSE


class Hierarchical(nn.Module):
    """A segment module and a video module with a head each.

    `forward` and `pair_logits` are those of every segment model: [B, T, D] -> segment logits.
    Padding, of frames and of segments, never changes an answer. A segment or video that is all
    padding has the feature 0.
    """

    def __init__(
        self,
        settings: HierarchicalSettings,
        width: int,
        num_classes: int,
        num_video_classes: int,
        segment_frames: int,
    ) -> None:
        """width: D; segment_frames: T of a segment, which only FCFC is bound to."""
        super().__init__()
        self.segment_module: AttentionSegment | FrameMix
        if isinstance(settings, FCFC):
            inner = settings.frame_mix.width
            self.segment_module = FrameMix(settings.frame_mix, width, segment_frames)
            windows = SegmentWindows()
        else:
            inner = settings.embedding.width_of(width)
            windows = settings.windows
            self.segment_module = AttentionSegment(
                settings.embedding, settings.segment_attention, width, windows.frames
            )
        self._width, self._window_sharpness = inner, windows.sharpness
        self._sharpness = settings.sharpness if isinstance(settings, LSE) else None
        self.video_attention: AttentionPool | None = None
        if self._sharpness is None:
            self.video_attention = AttentionPool(settings.video_attention, inner)
        self.segment_head = build_head(settings.head, inner, num_classes)
        self.video_head = build_head(settings.head, inner, num_video_classes)
        # Last, so that under one seed all families draw the same numbers for what they share.
        self.context = _build_context(settings, inner)
        self.rated_kernel = RatedKernel(inner, num_classes)

    def encode_segments(
        self, features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B F"], Float[Tensor, "B T"]]:
        """Segment features and the attention on their frames, for segments of any videos."""
        feature, attention = self.segment_module(features, mask)
        return feature, attention

    def windows_of(self, segment_features: Float[Tensor, "*N F"]) -> Float[Tensor, "*N K E"]:
        """The features of the windows of each segment."""
        windows: Tensor = segment_features.unflatten(-1, (-1, self._width))
        return windows

    def wholes_of(self, segment_features: Float[Tensor, "*N F"]) -> Float[Tensor, "*N E"]:
        """The mean of the windows of each segment."""
        if segment_features.shape[-1] == self._width:  # nothing to copy
            return segment_features
        return self.windows_of(segment_features).mean(dim=-2)

    def forward(
        self, features: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B C"]:
        return self.segment_logits(self.encode_segments(features, mask)[0])

    def segment_logits(self, segment_features: Float[Tensor, "N F"]) -> Float[Tensor, "N C"]:
        """Of segments that are encoded already."""
        windows = self.windows_of(segment_features)
        rows = windows.flatten(0, 1)
        logits: Tensor = self.segment_head(rows)
        if self.rated_kernel.is_fitted:
            logits = self.rated_kernel(rows, logits)
        return self._over_windows(logits.unflatten(0, windows.shape[:2]))

    def _over_windows(self, logits: Float[Tensor, "N K C"]) -> Float[Tensor, "N C"]:
        if logits.shape[1] == 1:
            return logits.squeeze(1)
        everything = torch.ones(logits.shape[:2], dtype=torch.bool, device=logits.device)
        return log_mean_exp(logits.float(), everything, self._window_sharpness)

    def pair_logits(
        self,
        features: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T"],
        pair_segment: Int[Tensor, " P"],
        pair_class: Int[Tensor, " P"],
    ) -> Float[Tensor, " P"]:
        encoded = self.encode_segments(features, mask)[0]
        return self.pair_logits_of(encoded, pair_segment, pair_class)

    def pair_logits_of(
        self,
        segment_features: Float[Tensor, "N F"],
        pair_segment: Int[Tensor, " P"],
        pair_class: Int[Tensor, " P"],
    ) -> Float[Tensor, " P"]:
        """As `pair_logits`, of segments that are encoded already."""
        if self.rated_kernel.is_fitted:
            return self.segment_logits(segment_features)[pair_segment, pair_class]
        windows = self.windows_of(segment_features)
        num_windows = windows.shape[1]
        window = torch.arange(num_windows, device=pair_segment.device)
        row = (pair_segment.unsqueeze(1) * num_windows + window).flatten()
        column = pair_class.repeat_interleave(num_windows)
        logits = self.segment_head.pair_logits(windows.flatten(0, 1), row, column)
        return self._over_windows(logits.view(-1, num_windows, 1)).squeeze(1)

    def encode_video(
        self, segment_features: Float[Tensor, "B S F"], segment_mask: Bool[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B E"], Float[Tensor, "B S"]]:
        """Video features and the attention on their segments. LSE has no video features."""
        assert self.video_attention is not None
        segments = self.wholes_of(segment_features)
        if self.context is not None:
            segments = self.context(segments, segment_mask)
        feature, attention = self.video_attention(segments, segment_mask)
        return feature, attention

    def video_logits(
        self, segment_features: Float[Tensor, "B S F"], segment_mask: Bool[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B V"], Float[Tensor, "B S"]]:
        """Logits of whole videos, and the attention on their segments.

        LSE has none: there it is the share of a segment in what the video is found to have,
        sum_c p_c w_sc / sum_c p_c with w the softmax of r z_sc over the segments (or the sum of
        that over its windows); no gradient flows through it.
        """
        if self.video_attention is None:
            return self._pooled_logits(segment_features, segment_mask)
        feature, attention = self.encode_video(segment_features, segment_mask)
        return self.video_head(feature), attention

    def _pooled_logits(
        self, segment_features: Float[Tensor, "B S F"], segment_mask: Bool[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B V"], Float[Tensor, "B S"]]:
        assert self._sharpness is not None
        windows = self.windows_of(segment_features)
        mask = segment_mask.unsqueeze(-1).expand(windows.shape[:-1])
        logits: Tensor = self.video_head(windows.flatten(0, 2))
        flat = mask.flatten(1)
        logits = logits.unflatten(0, flat.shape)  # [B, S K, V]
        pooled = log_mean_exp(logits.float(), flat, self._sharpness)
        if self.training:  # the sum over classes would cost as much as the pooling
            return pooled, torch.zeros_like(segment_mask, dtype=pooled.dtype)
        shares = _shares(logits.detach(), pooled.detach(), flat, self._sharpness)
        return pooled, shares.view(mask.shape).sum(dim=-1)

    def copy_video_head(self, video_rows: Int[Tensor, " C"]) -> None:
        """The segment head gets the video head's rows; at -1 it keeps its own.

        video_rows: the video class of each evaluated class.
        """
        copy_rows(self.segment_head, self.video_head, video_rows)

    def segment_parameters(self) -> Iterator[nn.Parameter]:
        """What fine-tuning on rated segments trains: the segment module and its head."""
        yield from self.segment_module.parameters()
        yield from self.segment_head.parameters()


def _shares(
    logits: Float[Tensor, "B S V"],
    pooled: Float[Tensor, "B V"],
    mask: Bool[Tensor, "B S"],
    sharpness: float,
) -> Float[Tensor, "B S"]:
    """The attention of LSE; 0 on padding."""
    hidden = (sharpness * logits).masked_fill(~mask.unsqueeze(-1), -torch.inf)
    weights = hidden.softmax(dim=1).nan_to_num()  # of a video that is all padding: 0
    # p_c / sum_c p_c, also where every p_c is too small for a float
    of_class = functional.logsigmoid(pooled).softmax(dim=-1).unsqueeze(1)
    return (of_class * weights).sum(dim=-1)


def _build_context(settings: HierarchicalSettings, width: int) -> nn.Module | None:
    match settings:
        case NL() | FCFC():
            return NonLocal(settings.non_local, width)
        case SE():
            return TemporalSqueezeExcitation(settings.squeeze_excitation, width)
        case Att2() | Loss2() | LSE():
            return None


# ---- sizes ---------------------------------------------------------------------------------------

Scale = Literal["tiny", "small", "paper"]
SCALES: tuple[Scale, ...] = get_args(Scale)
Settings = TypeVar("Settings", bound=HierarchicalSettings)

WIDTH_AND_HIDDEN: dict[Scale, tuple[int, int]] = {
    "tiny": (64, 32),
    "small": (512, 128),
    "paper": (1024, 256),
}


def scaled(settings: Settings, scale: Scale) -> Settings:
    """The same settings with the width of the embedding and of attention's hidden layers set."""
    width, hidden = WIDTH_AND_HIDDEN[scale]
    sizes = {
        "embedding": {"width": width},
        "frame_mix": {"width": width},
        "segment_attention": {"hidden": hidden},
        "video_attention": {"hidden": hidden},
    }
    changed: dict[str, Any] = {
        name: replace(getattr(settings, name), **size)
        for name, size in sizes.items()
        if hasattr(settings, name)
    }
    return replace(settings, **changed)
