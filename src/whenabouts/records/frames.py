"""The frames of one feature list, seen where they lie.

A `tensorflow.FeatureList` is a row of Features, here of one bytes value each. When all values have
the same length, as the frames of a video do, and the writer is a plain one, every frame takes the
same number of bytes: the list is a strided array, and its frames can be viewed without a copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whenabouts.core.errors import RecordError
from whenabouts.records.features import BYTES, FIELD_1, KIND_NAMES, Region, read_feature
from whenabouts.records.wire import read_varint, walk_fields


@dataclass(frozen=True, slots=True)
class FrameList:
    """Where the `count` frames of a list lie, each `width` bytes.

    Frame t starts at byte `offset + t * stride` of the buffer, or, where the frames are not evenly
    spaced, at `offsets[t]` (int64 [count]; `stride` is then 0).
    """

    count: int
    width: int
    offset: int
    stride: int
    offsets: NDArray[np.int64] | None = None


EMPTY = FrameList(0, 0, 0, 0)


def frames_of(buffer: NDArray[np.uint8], frame_list: FrameList) -> NDArray[np.uint8]:
    """The frames [count, width]: a view of `buffer`, or a copy where they are unevenly spaced."""
    if frame_list.offsets is not None:
        return buffer.take(frame_list.offsets[:, None] + np.arange(frame_list.width))
    shape = (frame_list.count, frame_list.width)
    return np.ndarray(shape, np.uint8, buffer, frame_list.offset, (frame_list.stride, 1))


def find_frames(
    buffer: NDArray[np.uint8], view: memoryview, regions: list[Region], path: str
) -> FrameList | None:
    """The frames of the FeatureList whose bytes are `regions`; None if it holds other features.

    Raises RecordError on a malformed list, on frames of different widths and, where any feature
    holds bytes, on one that does not hold exactly one value.
    """
    if len(regions) == 1:
        even = _find_even_frames(buffer, view, regions[0], path)
        if even is not None:
            return even
    return _find_any_frames(view, regions, path)


def _find_even_frames(
    buffer: NDArray[np.uint8], view: memoryview, region: Region, path: str
) -> FrameList | None:
    """The frames, if each is encoded as plainly as the first one and they fill the list."""
    start, end = region
    if end == start:
        return EMPTY
    first = _plain_frame(view, start, end, path)
    if first is None:
        return None
    offset, stop = first
    count, rest = divmod(end - start, stop - start)
    if rest:  # so too where the first frame runs past the end
        return None
    # Equal headers say equal lengths: the structure of the first frame holds for every frame.
    headers = np.ndarray((count, offset - start), np.uint8, buffer, start, (stop - start, 1))
    if headers.tobytes() != bytes(view[start:offset]) * count:
        return None
    return FrameList(count, stop - offset, offset, stop - start)


def _plain_frame(view: memoryview, start: int, end: int, path: str) -> Region | None:
    """The first frame's bytes, if nothing but that frame stands in its messages; or None."""
    position, stops = start, set[int]()
    for _message in ("Feature", "BytesList", "value"):
        if position >= end or view[position] != FIELD_1:
            return None
        length, position = read_varint(view, position + 1, end, path)
        stops.add(position + length)
    stop = stops.pop()
    return (position, stop) if not stops else None


def _find_any_frames(view: memoryview, regions: list[Region], path: str) -> FrameList | None:
    """The frames of a list however it is encoded, feature by feature; None if none holds bytes."""
    frames, odd, num_features = list[Region](), "", 0
    for feature in _features(view, regions, path):
        kind, values = read_feature(view, [feature], path)
        holds_bytes = kind == BYTES and len(values) > 0
        if holds_bytes:
            frames.append(values[0])
        if not odd and not (holds_bytes and len(values) == 1):
            odd = f"frame {num_features} holds {len(values)} {KIND_NAMES[kind]}"
        num_features += 1
    if num_features and not frames:
        return None
    if odd:
        raise RecordError(odd, where=path, rule="each frame is one bytes value")
    return _frame_list(np.array(frames, np.int64).reshape(-1, 2), path)


def _features(view: memoryview, regions: list[Region], path: str) -> Iterator[Region]:
    for start, end in regions:
        for tag, a, b in walk_fields(view, start, end, path):
            if tag == FIELD_1:
                yield a, b


def _frame_list(frames: NDArray[np.int64], path: str) -> FrameList:
    """The FrameList of frames that lie at [start, end) [count, 2]."""
    if not len(frames):
        return EMPTY
    starts, widths = frames[:, 0], frames[:, 1] - frames[:, 0]
    differs = widths != widths[0]
    if differs.any():
        frame = int(differs.argmax())
        raise RecordError(
            f"frame {frame} has {widths[frame]} bytes, frame 0 has {widths[0]}",
            where=path,
            rule="all frames of a list have one width",
        )
    count, width, offset, steps = len(frames), int(widths[0]), int(starts[0]), np.diff(starts)
    if (steps != steps[:1]).any():
        return FrameList(count, width, offset, 0, starts.copy())
    return FrameList(count, width, offset, int(steps[0]) if len(steps) else width)
