"""`whenabouts pseudo-label cluster`"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from attention_run import make_attention_run
from commandline import run, start, torchrun
from whenabouts.corpus.corpus import Corpus
from whenabouts.models.hierarchical import NL

SMALL = ("--k", "12", "--dims", "8", "--iterations", "4")


def test_labels_and_clusters_are_written(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "labels.parquet"
    words = ("pseudo-label", "cluster", corpus.path, "-o", out, *SMALL)
    told = json.loads(run(capsys, *words, "--judge", "--json").out)
    assert told["labels"] == str(out)
    assert told["totals"]["labelled_pairs"] == pq.read_metadata(out).num_rows > 0
    assert json.loads(Path(told["clusters"]).read_text())["judged"] == told["judged"]
    lines = run(capsys, *words, "--judge").out.splitlines()
    assert lines[0].startswith("12 clusters of ")
    assert lines[1].startswith(f"on {told['judged']['pairs']} rated pairs of V2: precision ")
    assert lines[2].startswith(f"{out}: {told['totals']['labelled_pairs']} pairs of ")
    assert len(run(capsys, *words).out.splitlines()) == 2


def test_an_attention_model_can_embed_and_a_logistic_one_cannot(
    corpus: Corpus, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_path, out = tmp_path / "run", tmp_path / "labels.parquet"
    make_attention_run(run_path, corpus, NL())
    words = ("pseudo-label", "cluster", corpus.path, "-o", out, *SMALL)
    assert run(capsys, *words, "--run", run_path, "--soft").code == 0
    made_by = json.loads(pq.read_schema(out).metadata[b"whenabouts"])
    assert made_by["run"] == str(run_path)
    assert made_by["settings"]["soft"]
    refused = run(capsys, *words, "--run", trained)
    assert refused.code == 1
    assert "its model has no embedding of frames" in refused.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--splits", "v1", "v2"), "V2 is among the splits to label"),
        (("--k", "100000"), "choose a smaller --k"),
        (("--min-votes", "0"), "min_votes"),
    ],
)
def test_wrong_use(
    corpus: Corpus,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    out = tmp_path / "labels.parquet"
    refused = run(capsys, "pseudo-label", "cluster", corpus.path, "-o", out, *words)
    assert refused.code == 2
    assert message in refused.err
    assert not out.exists()


def test_other_files_are_not_overwritten(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "precious.parquet"
    out.write_text("precious")
    assert run(capsys, "pseudo-label", "cluster", corpus.path, "-o", out, *SMALL).code == 1
    assert out.read_text() == "precious"


def test_two_processes_write_what_one_does(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone, shared = tmp_path / "alone.parquet", tmp_path / "shared.parquet"
    words = ("pseudo-label", "cluster", corpus.path, *SMALL, "--device", "cpu", "-o")
    assert run(capsys, *words, alone).code == 0
    done = start((*torchrun(2), *words), shared)
    assert done.code == 0, done.err
    assert pq.read_table(alone).equals(pq.read_table(shared))
