from __future__ import annotations

import numpy as np
import pytest

from whenabouts.records.crc import is_accelerated, masked_crc, masked_crc_of_lengths


def slow_masked_crc(octets: bytes) -> int:
    """CRC-32C bit by bit (polynomial 0x1EDC6F41, reflected), then TensorFlow's mask."""
    crc = 0xFFFFFFFF
    for byte in octets:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    rotated = crc >> 15 | (crc & 0x7FFF) << 17
    return (rotated + 0xA282EAD8) % 2**32


def test_known_values():
    # RFC 3720, B.4: the checksum of "123456789" is 0xe3069283, of 32 zero bytes 0x8a9136aa
    assert (
        masked_crc(b"123456789") == ((0xE3069283 >> 15 | (0xE3069283 << 17)) + 0xA282EAD8) % 2**32
    )
    assert masked_crc(bytes(32)) == slow_masked_crc(bytes(32))
    assert masked_crc(b"") == 0xA282EAD8


@pytest.mark.parametrize("num_bytes", [1, 7, 8, 9, 300])
def test_equals_the_bitwise_definition(num_bytes):
    octets = np.random.default_rng(num_bytes).bytes(num_bytes)
    assert masked_crc(octets) == slow_masked_crc(octets)


def test_arrays_are_read_in_place():
    buffer = np.frombuffer(b"xxhello worldyy", np.uint8)  # read-only, as a mapped shard is
    assert masked_crc(buffer[2:13]) == masked_crc(b"hello world")
    assert masked_crc(buffer[:0]) == masked_crc(b"")


def test_lengths_equal_one_call_each():
    lengths = np.random.default_rng(0).integers(0, 2**64, 500, np.uint64) >> np.arange(
        500, dtype=np.uint64
    ) % np.uint64(64)
    lengths[:3] = 0, 1, 2**64 - 1
    expected = [masked_crc(int(n).to_bytes(8, "little")) for n in lengths]
    assert masked_crc_of_lengths(lengths).tolist() == expected
    assert masked_crc_of_lengths(lengths[:0]).shape == (0,)


def test_the_c_implementation_is_in_use():
    assert is_accelerated()
