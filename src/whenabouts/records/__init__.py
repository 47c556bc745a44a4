"""Bytes <-> records: TFRecord framing, checksums, the protobuf wire walk, quantisation. No torch."""
