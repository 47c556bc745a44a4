"""Records -> bytes: the inverse of `examples` and `framing`.

The bytes are those protobuf writes for the same message with its map entries in the same order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.atomic import atomic_path
from whenabouts.core.errors import RecordError
from whenabouts.records.crc import masked_crc

ContextInput = (
    bytes
    | Sequence[bytes]
    | Sequence[int]
    | Sequence[float]
    | NDArray[np.integer]
    | NDArray[np.floating]
)


class RecordWriter:
    """Writes a TFRecord file, as a context manager; the file appears when the block ends well.

    with RecordWriter(path) as writer:
        writer.write(encode_example(features))
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self.num_records = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            partial = stack.enter_context(atomic_path(self._path))
            self._file = stack.enter_context(partial.open("wb"))
            self._open = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def write(self, payload: bytes) -> None:
        """Append one record."""
        length = struct.pack("<Q", len(payload))
        self._file.write(length + struct.pack("<I", masked_crc(length)))
        self._file.write(payload)
        self._file.write(struct.pack("<I", masked_crc(payload)))
        self.num_records += 1


def write_records(path: str | Path, payloads: Iterable[bytes]) -> int:
    """Write one record a payload; the number of records written."""
    with RecordWriter(path) as writer:
        for payload in payloads:
            writer.write(payload)
    return writer.num_records


def encode_sequence_example(
    context: Mapping[str, ContextInput], lists: Mapping[str, NDArray[np.uint8]]
) -> bytes:
    """A serialised SequenceExample; each list is its frames, uint8 [T, D].

    Raises RecordError on a value that no Feature can hold.
    """
    context_bytes = _encode_features(context)
    list_bytes = b"".join(
        _entry(key, _encode_frames(frames, f"feature list '{key}'"))
        for key, frames in lists.items()
    )
    # A message that nothing was put into is left out, as protobuf does.
    return b"".join(_field(n, part) for n, part in ((1, context_bytes), (2, list_bytes)) if part)


def encode_example(features: Mapping[str, ContextInput]) -> bytes:
    """A serialised Example. Raises RecordError on a value that no Feature can hold."""
    return _field(1, _encode_features(features)) if features else b""


def _encode_features(features: Mapping[str, ContextInput]) -> bytes:
    return b"".join(
        _entry(key, _encode_feature(value, f"feature '{key}'")) for key, value in features.items()
    )


def _encode_feature(value: ContextInput, where: str) -> bytes:
    if isinstance(value, bytes):
        value = [value]
    if isinstance(value, list | tuple):
        octets = [item for item in value if isinstance(item, bytes)]
        if len(octets) == len(value):  # nothing in it: a Feature of no kind
            return _field(1, b"".join(_field(1, item) for item in octets)) if octets else b""
    return _encode_numbers(np.asarray(value), where)


def _encode_numbers(values: NDArray[np.generic], where: str) -> bytes:
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        raise RecordError(
            f"a value of type {values.dtype} and shape {values.shape}",
            where=where,
            rule="a feature is bytes, a list of bytes, or a list of integers or floats",
        )
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, as in protobuf
            packed = values.astype("<f4").tobytes()
        return _field(2, _field(1, packed) if packed else b"")
    if len(values) and int(values.max()) > np.iinfo(np.int64).max:
        raise RecordError(f"{values.max()} is too large", where=where, rule="integers are int64")
    packed = b"".join(_varint(int(v) & 0xFFFF_FFFF_FFFF_FFFF) for v in values)
    return _field(3, _field(1, packed) if packed else b"")


def _encode_frames(frames: NDArray[np.uint8], where: str) -> bytes:
    if frames.dtype != np.uint8 or frames.ndim != 2:
        raise RecordError(
            f"frames of type {frames.dtype} and shape {frames.shape}",
            where=where,
            rule="frames are uint8 [T, D]",
            remedy="turn floats into bytes with records.quantize",
        )
    count, width = frames.shape
    value = _header(1, width)
    values = _header(1, len(value) + width) + value
    header = _header(1, len(values) + width) + values
    rows = np.empty((count, len(header) + width), np.uint8)
    rows[:, : len(header)] = np.frombuffer(header, np.uint8)
    rows[:, len(header) :] = frames
    return rows.tobytes()


def _entry(key: str, value: bytes) -> bytes:
    return _field(1, _field(1, key.encode()) + _field(2, value))


def _field(number: int, value: bytes) -> bytes:
    return _header(number, len(value)) + value


def _header(number: int, length: int) -> bytes:
    """Tag and length of a length-delimited field."""
    return _varint(number << 3 | 2) + _varint(length)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
