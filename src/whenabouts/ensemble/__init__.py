"""Several scores of one thing -> one: fusion with video scores, candidates, their search."""
