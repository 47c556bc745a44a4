"""Settings of the loop. Every field can be set from the command line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from whenabouts.core.errors import SettingsError


@dataclass(frozen=True)
class Optimiser:
    """Adam or AdamW, and how the learning rate falls.

    The rate at a step is learning_rate * decay ** (examples seen / decay_examples).
    """

    name: Literal["adam", "adamw"] = "adam"
    """adam, or adamw, whose weight decay is decoupled."""
    learning_rate: float = 0.01
    """Of the first steps, after the warmup."""
    weight_decay: float = 0.0
    """Of matrices alone: decoupled under adamw, L2 under adam."""
    decay: float = 0.95
    """The rate falls by this factor with every decay-examples examples, smoothly."""
    decay_examples: int = 4_000_000
    """Segments, or videos where these are learned from."""
    warmup_steps: int = 0
    """Steps of a linear rise to the learning rate."""
    clip_norm: float = 0.0
    """Largest L2 norm of the whole gradient; 0 does not clip."""

    def __post_init__(self) -> None:
        for name in ("learning_rate", "weight_decay", "warmup_steps", "clip_norm"):
            refuse_below(name, getattr(self, name), 0)
        refuse_below("decay_examples", self.decay_examples, 1)
        if not 0 < self.decay <= 1:
            raise SettingsError(
                f"the value is {self.decay}", where="decay", rule="it must be above 0, at most 1"
            )


@dataclass(frozen=True)
class Loop:
    """How long to train, and when to look.

    Lengths are in steps of one batch, over all processes together.
    """

    batch_size: int = 1024
    """Segments of a step, or videos where these are learned from, over all processes."""
    max_steps: int = 20_000
    """Training ends here, if the plateau does not end it before."""
    evaluate_every: int = 20
    """Steps between two looks at V2."""
    patience: int = 20
    """Evaluations without a better V2 mAP before the plateau is declared."""
    checkpoint_every_s: float = 60.0
    """Seconds between checkpoints; how often changes what a crash costs, never the result."""
    seed: int = 0
    """Of first weights, order of examples and dropout: the same seed gives the same weights."""
    average_half_life: int = 0
    """Steps in which an old weight loses half its part in the exponential moving average that is
    looked at and kept; 0 keeps the weights as they are."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the products in a step; auto: bfloat16 on CUDA, float32 on the CPU."""
    compile: bool = False
    """Compile the loss with torch.compile. On the CPU it does not pay: a minute or two at the
    start, and steps no faster (bench/bench_deep.py --compile)."""

    def of_length(self, num_steps: int | None) -> Loop:
        """The same loop for so many steps (at least one), or as it is."""
        return self if num_steps is None else replace(self, max_steps=max(1, num_steps))

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_steps", "evaluate_every", "patience"):
            refuse_below(name, getattr(self, name), 1)
        for name in ("seed", "checkpoint_every_s", "average_half_life"):
            refuse_below(name, getattr(self, name), 0)


def refuse_below(name: str, value: float, least: float) -> None:
    """Raise SettingsError unless the setting is at least `least` (NaN is not)."""
    if not value >= least:
        raise SettingsError(
            f"the value is {value}", where=name, rule=f"it must be at least {least}"
        )
