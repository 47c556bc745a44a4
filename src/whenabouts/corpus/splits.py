"""Splits: train (video labels), V1 (trains on ratings), V2 (validates), test (nothing known).

A *role* is what the user says of a set of shards; the split of a video follows from it:

    train, v1, v2, test   as said
    validate              V1 or V2 by a hash of the video id, so that a video never moves
    auto                  as `validate` for videos with rated segments, else `train`
"""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

Split = Literal["train", "v1", "v2", "test"]
Role = Literal["train", "v1", "v2", "test", "validate", "auto"]
SPLITS: tuple[Split, ...] = get_args(Split)
ROLES: tuple[Role, ...] = get_args(Role)


def half_of(video_id: bytes) -> Split:
    """V1 or V2: the lowest bit of BLAKE2b(id), the same on every machine and in every corpus."""
    return "v2" if hashlib.blake2b(video_id, digest_size=8).digest()[-1] & 1 else "v1"


def split_of(role: Role, video_id: bytes, *, is_rated: bool) -> Split:
    if role in SPLITS:
        return role
    if role == "auto" and not is_rated:
        return "train"
    return half_of(video_id)
