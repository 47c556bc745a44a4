"""Bytes <-> records: TFRecord framing, checksums, the protobuf wire walk, quantising. No torch."""
