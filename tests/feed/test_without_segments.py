"""A video-level corpus has no segments: each feed of segments says so, before all else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from corpus_writer import VECTORS, make_small_corpus, vector_record
from whenabouts.core.errors import CorpusError
from whenabouts.corpus.corpus import Corpus
from whenabouts.feed.order import ShuffledOrder
from whenabouts.feed.rated import RatedSegments
from whenabouts.feed.segments import SegmentChunks
from whenabouts.feed.videos import Videos

CPU, ROWS = torch.device("cpu"), np.arange(2)


def rated(corpus: Corpus) -> RatedSegments:
    return RatedSegments(corpus, corpus.rated(ROWS), corpus.classes, CPU)


def chunks(corpus: Corpus) -> SegmentChunks:
    return SegmentChunks(corpus, ROWS, CPU)


def videos(corpus: Corpus) -> Videos:
    order = ShuffledOrder(2, 2, 0)
    return Videos(corpus, ROWS, corpus.classes, corpus.video_classes, order, CPU)


@pytest.mark.parametrize("feed", [rated, chunks, videos])
def test_feed_of_segments_refuses_it(tmp_path, feed: Callable[[Corpus], object]):
    records = [vector_record("a"), vector_record("b")]
    corpus = make_small_corpus(tmp_path, ("v1", records), dataset=VECTORS)
    with pytest.raises(CorpusError, match=r"index: data set 'vectors' has .*, and so no segments"):
        feed(corpus)
