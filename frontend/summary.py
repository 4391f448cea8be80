"""Summaries: fetched, they are the bytes of a `Summary` event for TensorBoard.

A summary is no tensor, for its proto is made after a run: it is a name for some tensors and a
function that writes their values down on the host (see `graphc.runtime.fetches`). Writing needs
the package tensorboard, which is imported when the first summary is fetched.
"""

from __future__ import annotations

import io
import struct
import wave
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np

from graphc.frontend.arguments import as_value
from graphc.frontend.framework import GraphKeys, add_to_collections, get_collection, name_scope
from graphc.ir.dtypes import uint8
from graphc.ir.errors import DTypeError, ShapeError, UnsupportedOp
from graphc.ir.graph import Graph, Node, Value, default_session, get_default_graph

Finish = Callable[[Sequence[Any]], bytes]


class Summary:
    """What a `tf.summary` function gives: fetch it for bytes, or merge it with others."""

    def __init__(self, name: str, values: Sequence[Value], finish: Finish, graph: Graph) -> None:
        self._name = name
        self._values = list(values)
        self._finish = finish
        self.graph = graph

    @property
    def name(self) -> str:
        """`<op name>:0`, as of a tensor."""
        return f"{self._name}:0"

    @property
    def op(self) -> Node:
        """The op whose value is written down."""
        return self._values[0].op

    def __graphc_fetch__(self) -> tuple[list[Value], Finish]:
        return self._values, self._finish

    def eval(self, feed_dict: Any = None, session: Any = None) -> bytes:
        """The bytes, in the given or the default session."""
        result: bytes = (session or default_session()).run(self, feed_dict)
        return result

    def __repr__(self) -> str:
        return f"<summary {self._name!r} of {len(self._values)} tensors>"


def _protos() -> Any:
    try:
        from tensorboard.compat.proto import summary_pb2
    except ImportError as error:
        raise UnsupportedOp(
            "summaries need the package tensorboard: pip install graphc[tensorboard]"
        ) from error
    return summary_pb2


def _summary(
    kind: str,
    name: str,
    tensor: Any,
    collections: Iterable[str] | None,
    family: str | None,
    fill: Callable[[Any, str, Any], None],
) -> Summary:
    """A summary of one tensor, whose tag is its name with the scopes around it.

    `fill(summary, tag, value)` adds to the proto.
    """
    value = as_value(tensor)
    clean = _clean(name if family is None else f"{family}/{name}")
    with name_scope(clean) as scope:
        tag = scope.rstrip("/")
    tag = tag if family is None else f"{family}/{tag}"

    def finish(results: Sequence[Any]) -> bytes:
        proto = _protos().Summary()
        fill(proto, tag, results[0])
        data: bytes = proto.SerializeToString()
        return data

    result = Summary(scope.rstrip("/"), [value], finish, get_default_graph())
    add_to_collections([GraphKeys.SUMMARIES] if collections is None else collections, result)
    return result


def _clean(name: str) -> str:
    """The name with what no op's name may hold made to underscores, as TensorFlow does it."""
    text = "".join(c if c.isalnum() or c in "-./_\\>" else "_" for c in name).lstrip("/_")
    return text or "summary"


def scalar(
    name: str,
    tensor: Any,
    collections: Iterable[str] | None = None,
    family: str | None = None,
) -> Summary:
    """A number over the steps."""
    value = as_value(tensor)
    if value.type.rank not in (0, None):
        raise ShapeError(f"summary.scalar {name!r} needs a scalar, got {value!r}")

    def fill(proto: Any, tag: str, result: Any) -> None:
        proto.value.add(tag=tag, simple_value=float(result))

    return _summary("scalar", name, value, collections, family, fill)


# -- histograms

_LIMITS_PER_SIDE: Final = 1.1  # each bucket is 10% wider than the one before


def _bucket_limits() -> np.ndarray:
    """TensorFlow's buckets: 0, and ±1e-12 * 1.1^k up to 1e20, ended by the largest double."""
    count = int(np.ceil(np.log(1e20 / 1e-12) / np.log(_LIMITS_PER_SIDE)))
    positive = np.append(1e-12 * _LIMITS_PER_SIDE ** np.arange(count), np.finfo(np.float64).max)
    return np.concatenate([-positive[::-1], [0.0], positive])


def _kept_buckets(counts: np.ndarray) -> list[int]:
    """The used buckets, and the last of every run of empty ones between or beside them."""
    used = np.flatnonzero(counts)
    if not used.size:
        return [0]
    first, last = max(int(used[0]) - 1, 0), min(int(used[-1]) + 1, len(counts) - 1)
    return [i for i in range(first, last + 1) if counts[i] or i == last or counts[i + 1]]


def _fill_histogram(proto: Any, tag: str, result: Any) -> None:
    values = np.asarray(result, np.float64).ravel()
    if not np.isfinite(values).all():
        raise DTypeError(f"summary.histogram {tag!r}: the values hold NaN or infinity")
    limits = _bucket_limits()
    counts = np.bincount(np.searchsorted(limits, values, side="right"), minlength=len(limits))
    kept = _kept_buckets(counts)
    histogram = proto.value.add(tag=tag).histo
    if values.size:
        histogram.min, histogram.max = float(values.min()), float(values.max())
    histogram.num = float(values.size)
    histogram.sum, histogram.sum_squares = float(values.sum()), float(np.square(values).sum())
    histogram.bucket_limit.extend(float(limits[i]) for i in kept)
    histogram.bucket.extend(float(counts[i]) for i in kept)


def histogram(
    name: str,
    values: Any,
    collections: Iterable[str] | None = None,
    family: str | None = None,
) -> Summary:
    """The distribution of a tensor's elements over the steps."""
    return _summary("histogram", name, values, collections, family, _fill_histogram)


# -- images, sound, text


def png(image: np.ndarray) -> bytes:
    """A PNG file of a uint8 image [height, width, 1, 3 or 4] (PNG specification, section 5)."""
    height, width, channels = image.shape
    color = {1: 0, 3: 2, 4: 6}[channels]
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # filter type 0 before each row
    rows[:, 1:] = image.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _as_bytes(image: np.ndarray) -> np.ndarray:
    """Floats as 0..255: [0, max] to [0, 255], or where some are negative 0 to 127."""
    if image.dtype == np.uint8:
        return image
    pixels = image.astype(np.float64)
    finite = pixels[np.isfinite(pixels)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    scale, offset = 255.0 / high if high > 0 else 0.0, 0.0
    if low < 0:
        largest = max(abs(low), abs(high))
        scale, offset = 127.0 / largest, 128.0
    shown = np.where(np.isfinite(pixels), pixels * scale + offset, 255.0)
    return np.clip(shown, 0, 255).astype(np.uint8)


def image(
    name: str,
    tensor: Any,
    max_outputs: int = 3,
    collections: Iterable[str] | None = None,
    family: str | None = None,
) -> Summary:
    """The first images of a batch [batch, height, width, 1, 3 or 4 channels]."""
    value = as_value(tensor)
    dims = value.type.shape
    if dims is not None and (len(dims) != 4 or dims[3] in (0, 2) or _more_than(dims[3], 4)):
        raise ShapeError(
            f"summary.image {name!r} needs [batch, height, width, 1, 3 or 4], got {value!r}"
        )
    if not (value.dtype.is_floating or value.dtype is uint8):
        raise DTypeError(f"summary.image {name!r} needs floats or uint8, got {value!r}")

    def fill(proto: Any, tag: str, result: Any) -> None:
        shown = np.asarray(result)[:max_outputs]
        for i, one in enumerate(shown):
            full = f"{tag}/image" if max_outputs == 1 else f"{tag}/image/{i}"
            height, width, channels = one.shape
            entry = proto.value.add(tag=full).image
            entry.height, entry.width, entry.colorspace = height, width, channels
            entry.encoded_image_string = png(_as_bytes(one))

    return _summary("image", name, value, collections, family, fill)


def _more_than(dim: int | str, most: int) -> bool:
    return isinstance(dim, int) and dim > most


def audio(
    name: str,
    tensor: Any,
    sample_rate: Any,
    max_outputs: int = 3,
    collections: Iterable[str] | None = None,
    family: str | None = None,
) -> Summary:
    """The first clips of a batch [batch, frames] or [batch, frames, channels], in [-1, 1]."""
    rate = int(sample_rate)

    def fill(proto: Any, tag: str, result: Any) -> None:
        clips = np.asarray(result)[:max_outputs]
        for i, one in enumerate(clips):
            full = f"{tag}/audio" if max_outputs == 1 else f"{tag}/audio/{i}"
            frames = one.reshape(len(one), -1)
            entry = proto.value.add(tag=full).audio
            entry.sample_rate, entry.num_channels = rate, frames.shape[1]
            entry.length_frames, entry.content_type = len(frames), "audio/wav"
            entry.encoded_audio_string = _wav(frames, rate)

    return _summary("audio", name, tensor, collections, family, fill)


def _wav(frames: np.ndarray, rate: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(frames.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(frames, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def text(name: str, tensor: Any, collections: Iterable[str] | None = None) -> Summary:
    """A text, or an array of texts: a tensor of strings."""
    given = as_value(tensor)
    if not given.dtype.is_string:
        raise DTypeError(f"summary.text {name!r} takes strings, got {tensor!r}")

    def fill(proto: Any, tag: str, result: Any) -> None:
        entry = proto.value.add(tag=tag)
        entry.metadata.plugin_data.plugin_name = "text"
        entry.tensor.dtype = 7  # DT_STRING
        texts = np.asarray(result, dtype=object)
        for size in texts.shape:
            entry.tensor.tensor_shape.dim.add(size=size)
        for one in texts.ravel().tolist():
            entry.tensor.string_val.append(one)

    return _summary("text", name, given, collections, None, fill)


# -- many as one


def merge(
    inputs: Iterable[Summary],
    collections: Iterable[str] | None = None,
    name: str | None = None,
) -> Summary:
    """One summary of several."""
    parts = list(inputs)
    for part in parts:
        if not isinstance(part, Summary):
            raise DTypeError(f"summary.merge takes summaries, got {part!r}")
    values = [v for p in parts for v in p.__graphc_fetch__()[0]]

    def finish(results: Sequence[Any]) -> bytes:
        proto, rest = _protos().Summary(), iter(results)
        for part in parts:
            needed, write = part.__graphc_fetch__()
            proto.MergeFromString(write([next(rest) for _ in needed]))
        data: bytes = proto.SerializeToString()
        return data

    with name_scope(name, "Merge") as scope:
        result = Summary(f"{scope}MergeSummary", values, finish, get_default_graph())
    add_to_collections(collections, result)
    return result


def merge_all(
    key: str = GraphKeys.SUMMARIES, scope: str | None = None, name: str | None = None
) -> Summary | None:
    """One summary of all in the collection; None when there are none."""
    parts = get_collection(key, scope)
    return merge(parts, name=name) if parts else None


__all__ = ["Summary", "audio", "histogram", "image", "merge", "merge_all", "scalar", "text"]
