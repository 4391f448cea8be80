"""Images decoded and encoded while a run goes on, by Pillow (`pip install graphc[images]`)."""

from __future__ import annotations

from typing import Any

from graphc.frontend.arguments import as_value, static_int
from graphc.frontend.image_color import convert_image_dtype
from graphc.ir.dtypes import as_dtype, uint8, uint16
from graphc.ir.errors import AttributeValueError
from graphc.ir.graph import Value
from graphc.ir.table import OPS


def _decoded(contents: Any, channels: int | None, name: str, **attrs: Any) -> Value:
    return OPS["decode_image"](as_value(contents), channels=channels or 0, name=name, **attrs)


def decode_jpeg(
    contents: Any,
    channels: int = 0,
    ratio: int = 1,
    fancy_upscaling: bool = True,
    try_recover_truncated: bool = False,
    acceptable_fraction: float = 1,
    dct_method: str = "",
    name: str | None = None,
) -> Value:
    """uint8 [height, width, channels] of a JPEG's bytes, made smaller by `ratio` (1, 2, 4, 8).

    channels 0: as many as the image has. Any other format that Pillow reads is taken, too.
    """
    del fancy_upscaling, try_recover_truncated, acceptable_fraction, dct_method
    if ratio not in (1, 2, 4, 8):
        raise AttributeValueError(f"ratio is 1, 2, 4 or 8, got {ratio}")
    return _decoded(contents, channels, name or "DecodeJpeg", ratio=ratio)


def decode_png(
    contents: Any, channels: int = 0, dtype: Any = uint8, name: str | None = None
) -> Value:
    """[height, width, channels] of a PNG's bytes, uint8 or uint16."""
    return _decoded(contents, channels, name or "DecodePng", dtype=as_dtype(dtype))


def decode_bmp(contents: Any, channels: int = 0, name: str | None = None) -> Value:
    """uint8 [height, width, channels] of a BMP's bytes."""
    return _decoded(contents, channels, name or "DecodeBmp")


def decode_gif(contents: Any, name: str | None = None) -> Value:
    """uint8 [frames, height, width, 3] of a GIF's bytes."""
    return _decoded(contents, 3, name or "DecodeGif", frames="all")


def decode_image(
    contents: Any,
    channels: int | None = None,
    dtype: Any = uint8,
    name: str | None = None,
    expand_animations: bool = True,
) -> Value:
    """The pixels of an image of any format; a GIF has one dim more unless expand_animations=False.

    With a floating dtype in [0, 1). The shape is unknown while the graph is built: set_shape().
    """
    wanted = as_dtype(dtype)
    frames = "own" if expand_animations else "one"
    own = uint16 if wanted is uint16 else uint8
    pixels = _decoded(contents, channels, name or "DecodeImage", frames=frames, dtype=own)
    return pixels if wanted is own else convert_image_dtype(pixels, wanted)


def encode_jpeg(
    image: Any,
    format: str = "",
    quality: int = 95,
    progressive: bool = False,
    optimize_size: bool = False,
    chroma_downsampling: bool = True,
    density_unit: str = "in",
    x_density: int = 300,
    y_density: int = 300,
    xmp_metadata: str = "",
    name: str | None = None,
) -> Value:
    """A JPEG's bytes of uint8 [height, width, 1 or 3]."""
    del format, optimize_size, density_unit, x_density, y_density, xmp_metadata
    quality = static_int(quality, "quality")
    if not 0 <= quality <= 100:
        raise AttributeValueError(f"quality is in 0 .. 100, got {quality}")
    return OPS["encode_image"](
        as_value(image), format="JPEG", quality=quality, subsampled=chroma_downsampling,
        progressive=progressive, name=name or "EncodeJpeg",
    )  # fmt: skip


def encode_png(image: Any, compression: int = -1, name: str | None = None) -> Value:
    """A PNG's bytes of uint8 [height, width, 1 to 4], or uint16 with one channel."""
    level = static_int(compression, "compression")
    if not -1 <= level <= 9:
        raise AttributeValueError(f"compression is -1, or in 0 .. 9, got {level}")
    return OPS["encode_image"](
        as_value(image), format="PNG", quality=level, name=name or "EncodePng"
    )


__all__ = [
    "decode_bmp", "decode_gif", "decode_image", "decode_jpeg", "decode_png", "encode_jpeg",
    "encode_png",
]  # fmt: skip
