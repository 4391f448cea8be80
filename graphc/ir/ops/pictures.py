"""Files of images decoded and encoded, by Pillow, which is imported when first needed.

Pixels are [height, width, channels]; those of an animation [frames, height, width, 3].
"""

from __future__ import annotations

import io
from typing import Any, Final

import numpy as np

from graphc.ir.dtypes import string, uint8, uint16
from graphc.ir.errors import AttributeValueError, DTypeError, InputError, ShapeError, UnsupportedOp
from graphc.ir.ops.strings import check_strings, host_op, objects, scalar
from graphc.ir.table import Attrs, Op, Types
from graphc.ir.types import UNKNOWN, Shape, TensorType

_MODES: Final = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_FORMATS: Final = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "JPEG2000")


def pillow() -> Any:
    """The module PIL.Image; UnsupportedOp when Pillow is not installed."""
    try:
        from PIL import Image
    except ImportError as error:
        raise UnsupportedOp(
            "images are decoded and encoded by Pillow: pip install graphc[images]"
        ) from error
    return Image


# -- decoding


def _decode_type(types: Types, attrs: Attrs) -> TensorType:
    check_strings(*types)
    channels, dtype = attrs["channels"], attrs["dtype"]
    if types[0].rank not in (0, None):
        raise ShapeError(f"one image at a time: a scalar is needed, got {types[0]}; use map()")
    if channels not in (0, *_MODES):
        raise AttributeValueError(f"an image has 1 to 4 channels (0: its own), got {channels}")
    if dtype not in (uint8, uint16):
        raise DTypeError(f"images are decoded to uint8 or uint16, not {dtype}")
    pixels: Shape = (UNKNOWN, UNKNOWN, channels or UNKNOWN)
    shapes = {"one": pixels, "all": (UNKNOWN, *pixels), "own": None}
    return TensorType(dtype, shapes[attrs["frames"]])


def _decode(attrs: Attrs, contents: np.ndarray) -> np.ndarray:
    data = scalar(contents)
    library = pillow()
    try:
        with library.open(io.BytesIO(data), formats=_FORMATS) as image:
            return _pixels(image, attrs)
    except (OSError, SyntaxError, ValueError, EOFError, library.DecompressionBombError) as error:
        raise InputError(f"{len(data)} bytes are no image that can be decoded: {error}") from None


def _pixels(image: Any, attrs: Attrs) -> np.ndarray:
    many = attrs["frames"] == "all" or (attrs["frames"] == "own" and image.format == "GIF")
    if attrs["ratio"] > 1:
        image.draft(None, tuple(-(-n // attrs["ratio"]) for n in image.size))
    if not many:
        return _frame(image, attrs)
    frames = []
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        frames.append(_frame(image, {**attrs, "channels": attrs["channels"] or 3}))
    return np.stack(frames)


def _frame(image: Any, attrs: Attrs) -> np.ndarray:
    wide = image.mode.startswith("I")  # 16 bits, which Pillow has for gray images alone
    if wide and attrs["channels"] in (0, 1):
        pixels = np.asarray(image).astype(np.uint16)[..., None]
        return pixels if attrs["dtype"] is uint16 else (pixels >> 8).astype(np.uint8)
    mode = _MODES[attrs["channels"]] if attrs["channels"] else _own_mode(image)
    pixels = np.array(image if image.mode == mode else image.convert(mode))
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return pixels if attrs["dtype"] is uint8 else pixels.astype(np.uint16) * 257


def _own_mode(image: Any) -> str:
    if image.mode in _MODES.values():
        return str(image.mode)
    if image.mode in ("1", "I", "I;16", "I;16B", "F"):
        return "L"
    return "RGBA" if image.mode == "P" and "transparency" in image.info else "RGB"


decode_image: Op = host_op(
    "decode_image", _decode_type, _decode,
    {"channels": 0, "dtype": uint8, "frames": "one", "ratio": 1},
    doc="""The pixels of an image's file.

    frames "one": the first, "all": along a new first dim, "own": all of a GIF, of others one.""",
)  # fmt: skip

# -- encoding


def _encode_type(types: Types, attrs: Attrs) -> TensorType:
    (x,) = types
    dtypes = (uint8, uint16) if attrs["format"] == "PNG" else (uint8,)
    if x.dtype not in dtypes:
        raise DTypeError(f"{attrs['format']} is made of {' or '.join(map(str, dtypes))}, got {x}")
    counts = (1, 3) if attrs["format"] == "JPEG" else (1, 2, 3, 4)
    if x.shape is not None:
        known = x.shape[-1] if len(x.shape) == 3 else -1
        if not isinstance(known, str) and known not in counts:
            raise ShapeError(f"{attrs['format']} of [height, width, {counts} channels], got {x}")
    return TensorType(string, ())


def _encode(attrs: Attrs, x: np.ndarray) -> np.ndarray:
    _encode_type((TensorType(uint16 if x.dtype == np.uint16 else uint8, x.shape),), attrs)
    if 0 in x.shape:
        raise InputError(f"an image of the shape {x.shape} has no pixels")
    if x.dtype == np.uint16 and x.shape[-1] > 1:
        raise UnsupportedOp("Pillow writes PNG of 16 bits with one channel only; cast to uint8")
    image = pillow().fromarray(np.ascontiguousarray(x[..., 0] if x.shape[-1] == 1 else x))
    options: dict[str, Any] = {}
    if attrs["format"] == "JPEG":
        options = {"quality": attrs["quality"], "subsampling": 2 if attrs["subsampled"] else 0,
                   "progressive": attrs["progressive"]}  # fmt: skip
    elif attrs["quality"] >= 0:
        options = {"compress_level": attrs["quality"]}
    file = io.BytesIO()
    image.save(file, attrs["format"], **options)
    return objects([file.getvalue()], ())


encode_image: Op = host_op(
    "encode_image", _encode_type, _encode,
    {"format": "PNG", "quality": -1, "subsampled": True, "progressive": False},
    doc="The file of an image, PNG (quality: level of compression) or JPEG (0 to 100).",
)  # fmt: skip

__all__ = ["decode_image", "encode_image", "pillow"]
