from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from corpus_writer import Video, make_small_corpus
from whenabouts.corpus.corpus import Corpus

# Whole and partial segments, lists that are too short, too long, empty or unevenly spaced, ids that
# are not in order, and three segments rated for several classes.
ODD_SHARDS = (
    (
        "v1",
        [
            Video("nn", 12, (3, 1), ((5, 7, 0), (0, 9, 1), (0, 7, 1), (10, 9, 1))),
            Video("b", 5, (), ((0, 7, 0),), audio_frames=3),
            Video("k", 11, (2,), ((10, 7, 1), (5, 8, 0)), is_irregular=True),
        ],
    ),
    ("train", [Video("a", 1), Video("z", 7, (5,), audio_frames=9), Video("e", 6, audio_frames=0)]),
    (
        "v2",
        [
            Video("ö", 13, (1,), ((10, 8, 1), (10, 7, 1), (0, 9, 0)), audio_frames=11),
            Video("c", 14, (1,), ((0, 9, 1),), audio_frames=8, is_irregular=True),
        ],
    ),
    ("test", [Video("t", 300)]),
)
ODD_VIDEOS = [video for _, videos in ODD_SHARDS for video in videos]


@pytest.fixture(scope="session")
def odd_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The corpus of ODD_SHARDS; not to be changed."""
    return make_small_corpus(tmp_path_factory.mktemp("odd"), *ODD_SHARDS)


@pytest.fixture(scope="session")
def odd_videos() -> list[Video]:
    """The videos of `odd_corpus`, by row."""
    return ODD_VIDEOS


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not shutil.which("mount"):
        pytest.skip("no mount command here")
    options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting is not permitted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
