"""CRC-32C in the masked form of TFRecord files; the only module that needs `google_crc32c`.

TensorFlow masks a checksum before storing it beside the bytes it covers (`tsl/lib/hash/crc32c.h`):
masked = rotate_right(crc, 15) + 0xa282ead8, modulo 2**32.
"""

from __future__ import annotations

from functools import cache

import google_crc32c
import numpy as np
from numpy.typing import NDArray

MASK_DELTA = 0xA282EAD8


def is_accelerated() -> bool:
    """True where checksums are computed in C (about 20 GB/s) and not in Python (about 5 MB/s)."""
    return bool(google_crc32c.implementation == "c")


def masked_crc(octets: bytes | NDArray[np.uint8]) -> int:
    """The masked CRC-32C of `octets`; a contiguous array is read in place, without a copy."""
    return _mask(google_crc32c.value(octets))


def masked_crc_of_lengths(lengths: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """The masked CRC-32C of each length [N] as it is stored, in eight bytes, lowest first.

    CRC is affine over XOR: crc(x) = crc(0) ^ table[0, x_0] ^ ... ^ table[7, x_7], so that many
    lengths are answered by table look-ups instead of one call each.
    """
    octets = lengths.astype("<u8").view(np.uint8).reshape(-1, 8)
    crc = np.full(len(lengths), google_crc32c.value(bytes(8)), np.uint32)
    for column, table in zip(octets.T, _tables()):
        crc ^= table[column]
    return (crc >> np.uint32(15) | crc << np.uint32(17)) + np.uint32(MASK_DELTA)


@cache
def _tables() -> NDArray[np.uint32]:
    """[8, 256]: what the byte b in column k changes in the checksum of eight zero bytes."""
    zero = google_crc32c.value(bytes(8))
    with_byte = [
        [google_crc32c.value(bytes(k) + bytes([b]) + bytes(7 - k)) ^ zero for b in range(256)]
        for k in range(8)
    ]
    return np.array(with_byte, np.uint32)


def _mask(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF
