"""`make bench`: measure what docs/speed.md claims; writes bench/results.json.

    python bench/run.py [--quick] [--out FILE]

Takes about ten minutes and 7 GB of disk under the system's temporary folder. tf.data is measured
where TensorFlow is installed in an environment of its own:

    python3 -m venv .venv-tf && .venv-tf/bin/pip install tensorflow-cpu
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import bench_commands
import bench_deep
import bench_memory
import bench_netvlad
import bench_ranking
import bench_reading
from whenabouts.corpus.corpus import open_corpus
from whenabouts.corpus.made import MadeCorpus, make_corpus

RESULTS = Path(__file__).with_name("results.json")
CORPUS = MadeCorpus(
    num_train=17_000,
    num_validate=3000,
    num_test=0,
    num_classes=1200,
    num_rated_classes=1000,
    max_frames=240,
    videos_per_shard=1000,
)
QUICK = MadeCorpus(
    num_train=300, num_validate=300, num_test=0, num_classes=1200, num_rated_classes=1000
)
HOW = {
    "gather_over_copy": "bytes/s of gathering random videos, 32 a batch / of numpy.copyto",
    "gather_over_tfdata": "videos/s of gathering random videos / videos/s of tf.data in file order",
    "index_videos_per_s": "whenabouts index: all checksums, all cores, start of processes included",
    "slogi_segments_per_s": "whenabouts train s-logi, 1152 features, batch 1024, rated pairs only",
    "predict_segments_per_s": "whenabouts predict of 3,000 videos, S-Logi, 1000 classes, float32",
    "evaluate_100m_s": "1000 classes x 100,000 tokens against 237,788 rated pairs",
    "submit_200k_s": "200,000 segments x 1000 classes, float32 Scores, 100,000 a class",
    "cli_help_s": "whenabouts --help in a new process",
    "nl_step": "training step of NL, scale paper, 128 videos of 300 frames, video loss; floor: "
    "operations of its matrix products / rate of torch.mm, the better of two shapes, in the same "
    "run; half: in bfloat16; a share is that of the floor in the median step",
    "nl_step_system_allocator_s": "the step without keep_freed_memory",
    "netvlad_step": "training step of NetVLAD, scale paper, 128 videos of 300 drawn frames",
    "streaming": "whenabouts train att2 --scale small on a corpus ten times the budget: budget as "
    "limit of a control group, page cache counted; free and capped begin with no shard in the page "
    "cache, cached with all; peaks: resident, anonymous and mapped from files",
}
QUICK_STEP = ("--scale", "small", "--batch-size", "8", "--rounds", "2")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: does everything run?")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder), QUICK if args.quick else CORPUS)
        measured |= measure_attention(Path(folder), is_quick=args.quick)
    result = {**measured, "how": HOW, "machine": machine()}
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


def measure(folder: Path, made: MadeCorpus) -> dict[str, Any]:
    corpus, index_path = folder / "corpus", folder / "corpus.index"
    say(f"making a corpus of {made.num_videos:,} videos")
    make_corpus(corpus, made, os.cpu_count() or 1)
    say("reading")
    result: dict[str, Any] = {
        "index_videos_per_s": bench_commands.index_videos_per_s(corpus, index_path)
    }
    result |= bench_reading.gather_rates(open_corpus(index_path))
    result |= tfdata(corpus, result["gather_videos_per_s"])
    say("training and predicting")
    run = folder / "run"
    result["slogi_segments_per_s"] = bench_commands.train_segments_per_s(index_path, run)
    result["predict_segments_per_s"] = bench_commands.predict_segments_per_s(
        run, index_path, folder / "scores"
    )
    result["cli_help_s"] = bench_commands.help_seconds()
    for done in (corpus, folder / "scores"):
        shutil.rmtree(done)
    say("rankings")
    evaluated, submitted = (
        bench_ranking.evaluate_submission_seconds(),
        bench_ranking.submit_seconds(),
    )
    result |= {
        "evaluate_100m_s": evaluated.seconds,
        "evaluate_100m_peak_bytes": evaluated.peak_bytes,
        "submit_200k_s": submitted.seconds,
        "submit_200k_peak_bytes": submitted.peak_bytes,
    }
    return result


def measure_attention(folder: Path, *, is_quick: bool) -> dict[str, Any]:
    say("the training step of NL")
    flags = QUICK_STEP if is_quick else ("--compile",)
    told = bench_deep.nl_step(*flags)
    plain = bench_deep.nl_step(
        *(QUICK_STEP if is_quick else ("--rounds", "3")), "--system-allocator"
    )
    say("the training step of NetVLAD")
    netvlad = bench_deep.told_by(bench_netvlad.__file__, *(QUICK_STEP if is_quick else ()))
    say("training on a corpus ten times the memory")
    plan = bench_memory.QUICK if is_quick else bench_memory.Plan()
    return {
        "nl_step": told,
        "nl_step_system_allocator_s": plain["step_s"],
        "netvlad_step": netvlad,
        "streaming": bench_memory.streaming(folder / "streaming", plan),
    }


def tfdata(corpus: Path, gather_videos_per_s: float) -> dict[str, float]:
    rate = bench_reading.tfdata_videos_per_s(corpus)
    if rate is None:
        say(f"tf.data left out: no TensorFlow in {bench_reading.TF_PYTHON}")
        return {}
    return {"tfdata_videos_per_s": rate, "gather_over_tfdata": gather_videos_per_s / rate}


def machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "processor": processor(),
        "python": sys.version.split()[0],
    }


def processor() -> str:
    """Its model, as far as the system tells, and what makes products in bfloat16 fast."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return platform.machine()
    told = dict(line.split("\t: ", 1) for line in path.read_text().splitlines() if "\t: " in line)
    facts = {name.strip(): value for name, value in told.items()}
    flags = set(facts.get("flags", "").split()) & {"avx512f", "avx512_bf16", "amx_bf16"}
    return ", ".join((facts.get("model name", platform.machine()), *sorted(flags)))


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
