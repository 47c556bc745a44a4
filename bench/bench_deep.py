"""How near the training step of NL comes to its arithmetic floor.

    python bench/bench_deep.py [--scale paper] [--batch-size 128] [--rounds 7] [--compile]
        [--system-allocator] [--device cuda] [--peak-tflops 989]

The step is the loop's: gather whole videos, dequantise, normalise, forward with the video loss,
backward, clip, AdamW. The floor is the operations of its matrix products (bench_flops) over the
rate of matrix products on this machine, the better of two shapes. Product, step in float32, in
bfloat16 and compiled take turns, so that a busy machine slows all of them. The videos are made, of
300 frames, in a temporary folder (110 MB).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench_flops import Sizes, forward_flops, step_flops
from whenabouts.core.allocator import keep_freed_memory
from whenabouts.core.classes import ClassOrder
from whenabouts.corpus.corpus import Corpus, open_corpus
from whenabouts.corpus.index import build_index
from whenabouts.corpus.made import MadeCorpus, make_corpus
from whenabouts.corpus.splits import Role
from whenabouts.feed.order import ShuffledOrder
from whenabouts.feed.videos import VideoBatch, Videos
from whenabouts.models.hierarchical import NL, SCALES, Hierarchical, Scale, scaled
from whenabouts.models.table import build_model
from whenabouts.strategies.videos import Terms, both_losses
from whenabouts.train.fit import build_optimiser
from whenabouts.train.settings import Optimiser

NUM_CLASSES, NUM_VIDEO_CLASSES = 1000, 3862
MADE = MadeCorpus(
    num_train=300,
    num_validate=20,
    num_test=0,
    num_classes=NUM_VIDEO_CLASSES,
    num_rated_classes=NUM_CLASSES,
    min_frames=300,
    max_frames=300,
)
SQUARE = (4096, 4096, 4096)
RATE, CLIP_NORM = 2e-4, 1.0
WARM_UP = 3
Loss = Callable[[nn.Module, Any], Tensor]
Seconds = dict[str, float]


class Feed(Protocol):
    """Batches by step."""

    def batch(self, step: int) -> Any: ...


@dataclass(frozen=True)
class Options:
    """What is measured; the fields are the flags of the command."""

    scale: Scale = "paper"
    batch_size: int = 128
    rounds: int = 7
    compile: bool = False
    system_allocator: bool = False
    """Leave the allocator as the system has it, instead of as `whenabouts train` sets it."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    peak_tflops: float = 0.0
    """Peak of the device in bfloat16, from its data sheet; 0 says nothing of a share."""


def nl_step(*flags: str) -> dict[str, Any]:
    return told_by(__file__, *flags)


def told_by(script: str, *flags: str) -> dict[str, Any]:
    """What a script measures in a process of its own, with nothing compiled before."""
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [sys.executable, script, *flags],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache},
        )
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def measure(options: Options) -> dict[str, Any]:
    is_kept = not options.system_allocator and keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, made_corpus(Path(folder)))
        turns = bench.turns()
        for turn in turns.values():
            turn.warm_up()
        rounds = [{name: turn.run() for name, turn in turns.items()} for _ in range(options.rounds)]
        return bench.told(turns, rounds) | {"freed_memory_kept": is_kept}


def made_corpus(folder: Path) -> Corpus:
    make_corpus(folder / "corpus", MADE, processes=1)
    shards: list[tuple[Role, Path]] = [("auto", p) for p in sorted(folder.rglob("*.tfrecord"))]
    build_index(shards, folder / "index")
    return open_corpus(folder / "index")


# ---- what takes turns ----------------------------------------------------------------------------


class Products:
    """Operations a second of torch.mm of one kind of number, at two shapes."""

    def __init__(
        self, largest: tuple[int, int, int], device: torch.device, dtype: torch.dtype
    ) -> None:
        self._device = device
        self._factors = {
            " x ".join(map(str, shape)): _factors(shape, device, dtype)
            for shape in (largest, SQUARE)
        }

    def warm_up(self) -> None:
        self.run()

    def run(self) -> dict[str, float]:
        """Operations a second by shape."""
        rates = {}
        for shape, (left, right, out) in self._factors.items():
            watch = Stopwatch(self._device)
            torch.mm(left, right, out=out)
            watch.lap("product")
            rates[shape] = 2 * left.numel() * right.shape[1] / watch.seconds["product"]
        return rates


def _factors(
    shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    n, k, m = shape
    left, right = torch.randn(n, k).to(device, dtype), torch.randn(k, m).to(device, dtype)
    return left, right, torch.empty(n, m, device=device, dtype=dtype)


class Steps:
    """Training steps, timed part by part."""

    def __init__(self, model: nn.Module, videos: Feed, loss: Loss, *, is_half: bool) -> None:
        self._model, self._videos, self._loss, self._is_half = model, videos, loss, is_half
        self._device = next(model.parameters()).device
        settings = Optimiser(name="adamw", learning_rate=RATE)
        self._optimiser, self._done = build_optimiser(model, settings), 0
        self.first_s = 0.0

    def warm_up(self) -> None:
        """The first steps compile, where that is asked for, and fill the allocator."""
        took = [sum(self.run().values()) for _ in range(WARM_UP)]
        self.first_s = took[0]

    def run(self) -> Seconds:
        """One step; seconds of its parts."""
        self._model.train()
        watch = Stopwatch(self._device)
        batch = self._videos.batch(self._done)
        watch.lap("feed")
        self._optimiser.zero_grad()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._is_half):
            loss = self._loss(self._model, batch)
        watch.lap("forward")
        loss.backward()
        watch.lap("backward")
        nn.utils.clip_grad_norm_(self._model.parameters(), CLIP_NORM)
        watch.lap("clip")
        self._optimiser.step()
        watch.lap("optimiser")
        self._done += 1
        return watch.seconds


class Stopwatch:
    """Seconds between laps, waiting each time for what the device still has to do."""

    def __init__(self, device: torch.device) -> None:
        self._device, self.seconds = device, Seconds()
        self._last_s = self._now_s()

    def lap(self, name: str) -> None:
        now_s = self._now_s()
        self.seconds[name], self._last_s = now_s - self._last_s, now_s

    def _now_s(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


# ---- the measurement -----------------------------------------------------------------------------


class Bench:
    """Model, feed and sizes of one measurement."""

    def __init__(self, options: Options, corpus: Corpus) -> None:
        self.options, self.device = options, torch.device(options.device)
        self.corpus, self.length = corpus, MADE.max_frames
        dataset, settings = corpus.dataset, scaled(NL(), options.scale)
        torch.manual_seed(0)
        self.model = build_model(
            settings,
            dataset.width,
            NUM_CLASSES,
            num_video_classes=NUM_VIDEO_CLASSES,
            segment_frames=dataset.grid.num_frames,
        ).to(self.device)
        self.sizes = Sizes.of(
            settings,
            options.batch_size,
            self.length,
            dataset.grid.num_frames,
            dataset.width,
            NUM_VIDEO_CLASSES,
        )

    def turns(self) -> dict[str, Products | Steps]:
        videos = _videos(self.corpus, self.options.batch_size, self.device)
        turns: dict[str, Products | Steps] = {
            "products": Products(self.sizes.largest_product, self.device, torch.float32),
            "half products": Products(self.sizes.largest_product, self.device, torch.bfloat16),
            "steps": Steps(self.model, videos, video_loss, is_half=False),
            "half steps": Steps(self.model, videos, video_loss, is_half=True),
        }
        if self.options.compile:
            compiled = torch.compile(video_loss, dynamic=True)
            turns["compiled steps"] = Steps(self.model, videos, compiled, is_half=False)
        return turns

    def told(
        self, turns: dict[str, Products | Steps], rounds: list[dict[str, dict[str, float]]]
    ) -> dict[str, Any]:
        columns = {name: [each[name] for each in rounds] for name in turns}
        whole = {name: [sum(step.values()) for step in columns[name]] for name in turns}
        step_s = median(whole["steps"])
        result = against_floor(step_flops(self.sizes), columns["products"], whole["steps"])
        parts = {part: median(s[part] for s in columns["steps"]) for part in columns["steps"][0]}
        half = against_floor(step_flops(self.sizes), columns["half products"], whole["half steps"])
        result |= {
            "parts_s": parts,
            "feed_share": parts["feed"] / step_s,
            "half": half,
            "half_speedup": step_s / half["step_s"],
            "forward_flops": forward_flops(self.sizes),
            "step_flops": step_flops(self.sizes),
            "counted_by_torch": self._counted_by_torch() / step_flops(self.sizes),
            "threads": torch.get_num_threads(),
        }
        compiled = turns.get("compiled steps")
        if isinstance(compiled, Steps):
            result["compiled_first_s"] = compiled.first_s
            result["compiled_speedup"] = step_s / median(whole["compiled steps"])
        if self.device.type == "cuda":
            result |= self._told_of_device(half["step_s"])
        return result

    def _told_of_device(self, step_s: float) -> dict[str, Any]:
        """What only a device has: copies from the host, a peak, memory of its own."""
        num_bytes = self.options.batch_size * self.length * self.sizes.width
        told: dict[str, Any] = {
            "device": torch.cuda.get_device_name(self.device),
            "fed_bytes_per_s": num_bytes / step_s,
            "copied_bytes_per_s": _copied_bytes_per_s(num_bytes, self.device),
            "device_peak_bytes": torch.cuda.max_memory_allocated(self.device),
        }
        if self.options.peak_tflops:
            rate = step_flops(self.sizes) / step_s
            told["half_share_of_peak"] = rate / (self.options.peak_tflops * 1e12)
        return told

    def _counted_by_torch(self) -> int:
        """Operations of forward and backward as torch's own counter sees them."""
        batch = _videos(self.corpus, self.options.batch_size, self.device).batch(0)
        with FlopCounterMode(display=False) as counter:
            video_loss(self.model, batch).backward()
        return int(counter.get_total_flops())


def video_loss(model: nn.Module, batch: VideoBatch) -> Tensor:
    """The loss of pre-training: that of video labels alone."""
    assert isinstance(model, Hierarchical)
    no_rows = torch.zeros(0, dtype=torch.int64, device=batch.place.device)
    return both_losses(model, batch, Terms(), no_rows)


def _videos(corpus: Corpus, batch_size: int, device: torch.device) -> Videos:
    rows = np.arange(len(corpus))
    order = ShuffledOrder(len(rows), batch_size, seed=0)
    video_classes = ClassOrder.of(range(NUM_VIDEO_CLASSES))
    return Videos(corpus, rows, corpus.classes, video_classes, order, device)


def against_floor(
    flops: int, rates: list[dict[str, float]], steps_s: list[float]
) -> dict[str, Any]:
    """The step against the floor at the best rate of the run; and the share round by round."""
    best = {shape: max(each[shape] for each in rates) for shape in rates[0]}
    shape = max(best, key=lambda name: best[name])
    step_s, floor_s = median(steps_s), flops / best[shape]
    shares = [flops / max(rate.values()) / step for rate, step in zip(rates, steps_s)]
    return {
        "step_s": step_s,
        "step_s_range": [min(steps_s), max(steps_s)],
        "floor_s": floor_s,
        "share_of_floor": floor_s / step_s,
        "share_of_floor_by_round": [min(shares), median(shares), max(shares)],
        "product_flops_per_s": best,
        "best_product": shape,
    }


def _copied_bytes_per_s(num_bytes: int, device: torch.device, rounds: int = 9) -> float:
    """Bytes a second from page-locked memory of the host to the device; median."""
    block, times = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True), []
    for _ in range(rounds):
        watch = Stopwatch(device)
        block.to(device, non_blocking=True)
        watch.lap("copy")
        times.append(watch.seconds["copy"])
    return num_bytes / median(times)


def _options() -> Options:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", choices=SCALES, default=Options.scale)
    parser.add_argument("--batch-size", type=int, default=Options.batch_size)
    parser.add_argument("--rounds", type=int, default=Options.rounds)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--system-allocator", action="store_true")
    parser.add_argument("--device", default=Options.device)
    parser.add_argument("--peak-tflops", type=float, default=Options.peak_tflops)
    return Options(**vars(parser.parse_args()))


if __name__ == "__main__":
    print(json.dumps(measure(_options())))
