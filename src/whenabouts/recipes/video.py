"""The video classifier's families (Skalic & Austin 2018; NeXtVLAD: Lin et al. 2018; baselines).

They learn the labels of whole videos from frames drawn with replacement, or from the mean features
of video-level files. One dial sets their size: `--scale tiny|small|paper`; `paper` has the
published rates, the smaller sizes have those for some thousand videos (notes/LOG.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from whenabouts.models.dbof import DBoF
from whenabouts.models.heads import HeadSettings
from whenabouts.models.hierarchical import Scale
from whenabouts.models.mix_nextvlad import MixNeXtVLAD
from whenabouts.models.multiple_instance import MIL
from whenabouts.models.netfv import NetFV
from whenabouts.models.netvlad import NetVLAD
from whenabouts.models.nextvlad import NeXtVLAD
from whenabouts.models.recurrent import BiGRU, BiLSTM
from whenabouts.models.video_level import VideoLogistic, VideoMLP, VideoMoE
from whenabouts.models.video_table import VideoSettings, video_scaled
from whenabouts.recipes.recipe import Recipe
from whenabouts.strategies.video_labels import Polish, VideoLabels
from whenabouts.train.settings import Loop, Optimiser


@dataclass(frozen=True)
class _Pace:
    """What goes with a scale: learning rate, its fall, frames drawn, the polish at the end, the
    moving average of the weights."""

    optimiser: Optimiser
    num_frames: int
    evaluate_every: int
    polish: Polish
    average_half_life: int = 0


FEW_VIDEOS = _Pace(
    Optimiser(name="adamw", learning_rate=1e-3, clip_norm=1.0), 64, 25, Polish(epochs=0)
)
PACES: dict[Scale, _Pace] = {
    "tiny": FEW_VIDEOS,
    "small": FEW_VIDEOS,
    "paper": _Pace(
        Optimiser(learning_rate=2e-4, decay=0.8, clip_norm=1.0), 300, 500, Polish(epochs=2)
    ),
}


# A mean frame has length 1: a single layer needs large weights to say much about it.
SINGLE_LAYER_RATE = 1e-2


# A window shows its scene less noisily the more frames are drawn of it; each step scores other
# windows, which the average of the weights evens out.
MIL_PACE = replace(
    FEW_VIDEOS,
    optimiser=replace(FEW_VIDEOS.optimiser, learning_rate=3e-2),
    num_frames=128,
    average_half_life=30,
)
# Batch norm makes much of what hardly varies in the mean features, and a deep network learns it by
# heart: a low rate and the average of the weights hold it back.
MLP_PACE = replace(
    FEW_VIDEOS,
    optimiser=replace(FEW_VIDEOS.optimiser, learning_rate=3e-4),
    average_half_life=50,
)
SMALL_MLP = VideoMLP(num_blocks=1, dropout=0.8, head=HeadSettings("logistic"))


def _pace(model: VideoSettings, scale: Scale) -> _Pace:
    if scale != "paper" and isinstance(model, MIL | VideoMLP):
        return MIL_PACE if isinstance(model, MIL) else MLP_PACE
    return PACES[scale]


def _recipe(model: VideoSettings, scale: Scale) -> Recipe:
    pace = _pace(model, scale)
    optimiser = pace.optimiser
    if scale != "paper" and isinstance(model, VideoLogistic | VideoMoE):
        optimiser = replace(optimiser, learning_rate=SINGLE_LAYER_RATE)
    return Recipe(
        model=video_scaled(model, scale),
        strategy=VideoLabels(num_frames=pace.num_frames, head_l2=1e-6, polish=pace.polish),
        optimiser=optimiser,
        loop=Loop(
            batch_size=128,
            max_steps=500_000,
            evaluate_every=pace.evaluate_every,
            patience=10,
            average_half_life=pace.average_half_life,
        ),
    )


def video_logistic(scale: Scale = "paper") -> Recipe:
    """Video: logistic on the mean frame, a baseline.

    whenabouts train video-logistic INDEX -o RUN --scale small

    Costs seconds to minutes on two cores.
    """
    return _recipe(VideoLogistic(), scale)


def video_moe(scale: Scale = "paper") -> Recipe:
    """Video: mixture of two experts on the mean frame, a baseline.

    whenabouts train video-moe INDEX -o RUN --scale small

    Costs seconds to minutes on two cores.
    """
    return _recipe(VideoMoE(), scale)


def video_mlp(scale: Scale = "paper") -> Recipe:
    """Video: residual network on the mean frame, a strong baseline.

    whenabouts train video-mlp INDEX -o RUN --scale small

    Costs minutes on two cores.
    """
    return _recipe(VideoMLP() if scale == "paper" else SMALL_MLP, scale)


def mil(scale: Scale = "paper") -> Recipe:
    """Video: multiple-instance logistic, every window of a video scored, our own.

    whenabouts train mil INDEX -o RUN --scale small

    Costs minutes on two cores.
    """
    return _recipe(MIL(), scale)


def netvlad(scale: Scale = "paper") -> Recipe:
    """Video: NetVLAD with an audio twin, of the 2018 winner.

    whenabouts train netvlad INDEX -o RUN --scale small

    Costs minutes (small) to days (paper) on two cores.
    """
    return _recipe(NetVLAD(), scale)


def netfv(scale: Scale = "paper") -> Recipe:
    """Video: Fisher vectors with an audio twin, of the 2018 winner.

    whenabouts train netfv INDEX -o RUN --scale small

    Costs minutes (small) to days (paper) on two cores.
    """
    return _recipe(NetFV(), scale)


def dbof(scale: Scale = "paper") -> Recipe:
    """Video: gated soft bag of frames with an audio twin, of the 2018 winner.

    whenabouts train dbof INDEX -o RUN --scale small

    Costs minutes (small) to days (paper) on two cores.
    """
    return _recipe(DBoF(), scale)


def bilstm(scale: Scale = "paper") -> Recipe:
    """Video: BiLSTM, then LSTM, of the 2018 winner.

    whenabouts train bilstm INDEX -o RUN --scale small

    Costs minutes (small) to days (paper) on two cores.
    """
    return _recipe(BiLSTM(), scale)


def bigru(scale: Scale = "paper") -> Recipe:
    """Video: BiGRU, then GRU, of the 2018 winner.

    whenabouts train bigru INDEX -o RUN --scale small

    Costs minutes (small) to days (paper) on two cores.
    """
    return _recipe(BiGRU(), scale)


def nextvlad(scale: Scale = "paper") -> Recipe:
    """Video: NeXtVLAD, of the 2018 challenge's 3rd place.

    whenabouts train nextvlad INDEX -o RUN --scale small

    Costs minutes (small) to days (paper) on two cores.
    """
    return _recipe(NeXtVLAD(), scale)


def mix_nextvlad(scale: Scale = "paper") -> Recipe:
    """Video: three NeXtVLADs that teach each other, as in the 2019 challenge's 3rd place.

    whenabouts train mix-nextvlad INDEX -o RUN --scale small

    Costs minutes (small) to days (paper) on two cores.
    """
    return _recipe(MixNeXtVLAD(), scale)
