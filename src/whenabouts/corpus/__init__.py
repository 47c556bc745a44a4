"""Corpus: TFRecord shards where they lie, plus one Parquet index that says what is where."""
