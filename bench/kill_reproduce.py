"""Kill `whenabouts reproduce` again and again, let it end, and compare with a run left alone.

    python bench/kill_reproduce.py INDEX WORK --kills 20 --scale tiny

Both runs are whole: from the models of the preset (--preset) to the report. What tells the time
(logs, run.json, metrics.jsonl, checkpoints) is left out of the comparison. Exits with 1 if a file
differs.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

VARYING = {"logs", "stages", "running.lock", "run.json", "metrics.jsonl", "checkpoints"}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def main() -> int:
    args = arguments()
    left_alone, killed = args.work / "left-alone", args.work / "killed"
    started(args, left_alone).wait()
    draw = random.Random(args.seed)
    for kill in range(args.kills):
        call, after_s = started(args, killed), draw.uniform(1, args.most_s)
        number = draw.choice(SIGNALS)
        time.sleep(after_s)
        call.send_signal(number)
        call.wait()
        done = sum('"done"' in path.read_text() for path in (killed / "stages").glob("*.json"))
        print(
            f"kill {kill + 1}: {number.name} after {after_s:.1f} s, {done} stages done", flush=True
        )
    code = started(args, killed).wait()
    expected, found = files(left_alone), files(killed)
    differ = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
    print(f"exit code {code}; {len(expected)} files, {len(differ)} differ: {differ[:20]}")
    return int(bool(differ) or code != 0)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--most-s", type=float, default=30.0)
    parser.add_argument("--scale", default="tiny")
    parser.add_argument("--preset", nargs="+", default=["published"])
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def started(args: argparse.Namespace, out: Path) -> subprocess.Popen[bytes]:
    words = ("reproduce", "--data", str(args.index), "-o", str(out), "--scale", args.scale)
    return subprocess.Popen(
        [sys.executable, "-m", "whenabouts", *words, "--preset", *args.preset, "--jobs", "2"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def files(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and not VARYING & set(path.relative_to(out).parts)
    }


if __name__ == "__main__":
    sys.exit(main())
