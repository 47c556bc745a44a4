"""tf.data over frame-level shards, as TensorFlow users read them; runs in TensorFlow's environment.

    .venv-tf/bin/python bench/tfdata_reader.py SHARDS...

Prints {"videos_per_s": ...}: the best of three rounds over all videos, parsed and decoded to uint8
matrices, with parallel calls as tf.data chooses.
"""

import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import tensorflow as tf

WIDTHS = {"rgb": 1024, "audio": 128}


def parse(payload: tf.Tensor) -> tf.Tensor:
    _, lists = tf.io.parse_single_sequence_example(
        payload,
        context_features={"id": tf.io.FixedLenFeature([], tf.string)},
        sequence_features={k: tf.io.FixedLenSequenceFeature([], tf.string) for k in WIDTHS},
    )
    frames = [tf.reshape(tf.io.decode_raw(lists[k], tf.uint8), [-1, w]) for k, w in WIDTHS.items()]
    return tf.concat(frames, axis=1)


def main() -> None:
    shards = tf.data.Dataset.from_tensor_slices(sys.argv[1:])
    files = shards.interleave(
        tf.data.TFRecordDataset, cycle_length=4, num_parallel_calls=tf.data.AUTOTUNE
    )
    videos = files.map(parse, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    best = 0.0
    for _ in range(3):
        began_s, count = time.perf_counter(), 0
        for _ in videos:
            count += 1
        best = max(best, count / (time.perf_counter() - began_s))
    print(json.dumps({"videos_per_s": best}))


main()
