"""The small corpus, as a fixture of this folder."""

from small_corpus import corpus

__all__ = ["corpus"]
