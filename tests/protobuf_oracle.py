"""tensorflow.Example and SequenceExample as Google's protobuf library reads and writes them.

The schema is that of `tensorflow/core/example/feature.proto` and `example.proto`. Beside it stand
`OrderedExample` and `OrderedSequenceExample`: the same bytes with the maps declared as what they
are on the wire, repeated entries, so that their order is kept when writing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_TYPES = {"bytes": 12, "string": 9, "float": 2, "int64": 3}

# message: [(field, number, type, repeated)]
SCHEMA = {
    "BytesList": [("value", 1, "bytes", True)],
    "FloatList": [("value", 1, "float", True)],
    "Int64List": [("value", 1, "int64", True)],
    "Feature": [
        ("bytes_list", 1, "BytesList", False),
        ("float_list", 2, "FloatList", False),
        ("int64_list", 3, "Int64List", False),
    ],
    "Features": [("feature", 1, "map Feature", True)],
    "FeatureList": [("feature", 1, "Feature", True)],
    "FeatureLists": [("feature_list", 1, "map FeatureList", True)],
    "Example": [("features", 1, "Features", False)],
    "SequenceExample": [
        ("context", 1, "Features", False),
        ("feature_lists", 2, "FeatureLists", False),
    ],
    "OrderedFeatures": [("feature", 1, "entry Feature", True)],
    "OrderedFeatureLists": [("feature_list", 1, "entry FeatureList", True)],
    "OrderedExample": [("features", 1, "OrderedFeatures", False)],
    "OrderedSequenceExample": [
        ("context", 1, "OrderedFeatures", False),
        ("feature_lists", 2, "OrderedFeatureLists", False),
    ],
}
_ONEOF = {"Feature": "kind"}


def _build_messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="oracle.proto", package="oracle", syntax="proto3"
    )
    for name, fields in SCHEMA.items():
        message = file.message_type.add(name=name)
        if name in _ONEOF:
            message.oneof_decl.add(name=_ONEOF[name])
        for field, number, kind, repeated in fields:
            added = _add_field(message, field, number, kind.split()[-1], repeated)
            if name in _ONEOF:
                added.oneof_index = 0
            if " " in kind:
                _make_entry(message, added, kind, f".oracle.{name}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"oracle.{name}"))
        for name in SCHEMA
    }


def _add_field(message: Any, name: str, number: int, kind: str, repeated: bool) -> Any:
    label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    field.type = _TYPES.get(kind, _Field.TYPE_MESSAGE)
    if kind not in _TYPES:
        field.type_name = f".oracle.{kind}"
    return field


def _make_entry(message: Any, field: Any, kind: str, scope: str) -> None:
    """Declare `field` as a map from strings ("map kind") or as its entries ("entry kind")."""
    entry_name = "".join(part.capitalize() for part in field.name.split("_")) + "Entry"
    entry = message.nested_type.add(name=entry_name)
    entry.options.map_entry = kind.startswith("map")
    key = _add_field(entry, "key", 1, "string", False)
    if not entry.options.map_entry:  # an entry always writes its key, even an empty one
        key.proto3_optional = True
        key.oneof_index = 0
        entry.oneof_decl.add(name="_key")
    _add_field(entry, "value", 2, kind.split()[-1], False)
    field.type_name = f"{scope}.{entry_name}"


MESSAGES = _build_messages()

FeatureValue = tuple[str, tuple[Any, ...]]


def serialize_example(features: Mapping[str, Any]) -> bytes:
    message = MESSAGES["OrderedExample"]()
    for key, value in features.items():
        _fill_entry(message.features.feature.add(), key, value)
    return bytes(message.SerializeToString())


def serialize_sequence_example(
    context: Mapping[str, Any], lists: Mapping[str, Sequence[Any]]
) -> bytes:
    """`lists` holds, for each list, the value of each of its features."""
    message = MESSAGES["OrderedSequenceExample"]()
    for key, value in context.items():
        _fill_entry(message.context.feature.add(), key, value)
    for key, values in lists.items():
        entry = message.feature_lists.feature_list.add(key=key)
        entry.value.SetInParent()
        for value in values:
            fill_feature(entry.value.feature.add(), value)
    return bytes(message.SerializeToString())


def _fill_entry(entry: Any, key: str, value: Any) -> None:
    entry.key = key
    entry.value.SetInParent()
    fill_feature(entry.value, value)


def fill_feature(feature: Any, value: Any) -> None:
    """Numbers by the type of the array or of the first element; [] leaves the Feature empty."""
    if isinstance(value, bytes):
        value = [value]
    if isinstance(value, list) and not value:
        return
    if isinstance(value[0] if len(value) else None, bytes):
        feature.bytes_list.value.extend(value)
    elif np.asarray(value).dtype.kind == "f":
        feature.float_list.SetInParent()
        feature.float_list.value.extend(value)
    else:
        feature.int64_list.SetInParent()
        feature.int64_list.value.extend(int(v) for v in value)


def read_example(payload: bytes) -> dict[str, FeatureValue]:
    """The features of an Example. Raises DecodeError where protobuf refuses the bytes."""
    return _values(MESSAGES["Example"].FromString(payload).features.feature)


def read_sequence_example(
    payload: bytes, ordered: bool = False
) -> tuple[dict[str, FeatureValue], dict[str, list[FeatureValue]]]:
    """Context and feature lists of a SequenceExample, read through its maps or, `ordered`, through
    their plain entries. The two are the same but for entries that hold unknown fields: those do not
    reach the maps in every one of protobuf's implementations.
    """
    name = "OrderedSequenceExample" if ordered else "SequenceExample"
    message = MESSAGES[name].FromString(payload)
    lists = {
        key: [feature_value(feature) for feature in features.feature]
        for key, features in _items(message.feature_lists.feature_list)
    }
    return _values(message.context.feature), lists


def _values(features: Any) -> dict[str, FeatureValue]:
    return {key: feature_value(feature) for key, feature in _items(features)}


def _items(entries: Any) -> list[tuple[str, Any]]:
    if hasattr(entries, "items"):
        return list(entries.items())
    return [(entry.key, entry.value) for entry in entries]


def feature_value(feature: Any) -> FeatureValue:
    """(kind, values) of a Feature; no kind is the same as no bytes. Floats as their bytes."""
    kind = feature.WhichOneof("kind") or "bytes_list"
    values = tuple(getattr(feature, kind).value)
    if kind == "float_list":
        values = (np.array(values, "<f4").tobytes(),)
    return kind, values


def as_feature_values(
    features: Mapping[str, tuple[bytes, ...] | np.ndarray],
) -> dict[str, FeatureValue]:
    """What this project reads, in the same form."""
    return {key: _as_feature_value(value) for key, value in features.items()}


def _as_feature_value(value: tuple[bytes, ...] | np.ndarray) -> FeatureValue:
    if isinstance(value, tuple):
        return "bytes_list", value
    if value.dtype == np.float32:
        return "float_list", (value.tobytes(),)
    assert value.dtype == np.int64
    return "int64_list", tuple(value.tolist())
