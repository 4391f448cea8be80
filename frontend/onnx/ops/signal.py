"""Spectra and images sampled at points."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from graphc.frontend import math as m
from graphc.frontend.onnx.reading import dtype_of
from graphc.frontend.onnx.registry import Call, converter
from graphc.ir.dtypes import float32, float64, int64
from graphc.ir.graph import Value, convert
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.table import OPS
from graphc.ir.types import normalize_axis


@converter("DFT")
def dft(call: Call) -> Value:
    """The discrete Fourier transform along an axis, as a product with its matrix."""
    x = call.x()
    length = call.static(1)
    if call.version >= 20:
        given = call.static(2)
        axis = -2 if given is None else int(given.ravel()[0])
    else:
        axis = call.attr("axis", 1)
    inverse, onesided = bool(call.attr("inverse", 0)), bool(call.attr("onesided", 0))
    dims = call.dims(x)
    axis = normalize_axis(axis, len(dims))
    count = dims[axis] if length is None else int(length.ravel()[0])
    if inverse and onesided:
        return _real_inverse(x, axis, count if length is not None else 2 * (dims[axis] - 1))
    x = _fitted(x, axis, count)
    if dims[-1] == 1:
        x = OPS["concat"](x, mv.zeros_like(x), axis=len(dims) - 1)
    y = OPS["fourier"](x, axis=axis, inverse=inverse)
    return _fitted(y, axis, count // 2 + 1) if onesided else y


def _real_inverse(x: Value, axis: int, count: int) -> Value:
    """The real signal of which x is one side of the spectrum."""
    dims = x.type.static_shape
    kept, rank = count // 2 + 1, len(dims)
    x = _fitted(m.cast(x, float64), axis, kept)
    weights = np.full(kept, 2.0)
    weights[0] = 1
    if count % 2 == 0:
        weights[-1] = 1
    angles = 2 * np.pi * np.outer(np.arange(kept), np.arange(count)) / count
    order = [i for i in range(rank) if i != axis]
    moved = mv.transpose(x, perm=(*order[:-1], axis, order[-1]))
    factors = [convert(weights[:, None] * f(angles) / count) for f in (np.cos, np.sin)]
    y = _times(moved[..., 0], factors[0]) - _times(moved[..., 1], factors[1])
    back = list(range(rank - 2))
    back.insert(axis, rank - 2)
    y = mv.transpose(OPS["expand_dims"](y, axis=(rank - 1,)), perm=(*back, rank - 1))
    return m.cast(y, float32)


def _times(x: Value, matrix: Value) -> Value:
    if x.type.rank == 1:
        return OPS["matmul"](OPS["expand_dims"](x, axis=(0,)), matrix)[0]
    return OPS["matmul"](x, matrix)


def _fitted(x: Value, axis: int, count: int) -> Value:
    """The first `count` along the axis, or zeros after the last."""
    have, rank = x.type.static_shape[axis], x.type.rank or 0
    if have > count:
        return x[tuple(slice(0, count) if i == axis else slice(None) for i in range(rank))]
    if have == count:
        return x
    high = tuple(count - have if i == axis else 0 for i in range(rank))
    return OPS["pad"](x, low=(0,) * rank, high=high, interior=(0,) * rank, fill=0)


@converter("STFT")
def stft(call: Call) -> Value:
    """Transforms of windows of a signal."""
    x, step = call.x(0), call.value(1)
    window, length = call.get(2), call.static(3)
    batch, samples, parts = call.dims(x)
    if parts != 1:
        raise call.refused("a complex signal")
    size = int(length.ravel()[0]) if length is not None else call.dims(call.x(2))[0]
    hop = int(step.ravel()[0])
    frames = (samples - size) // hop + 1
    call.check_table(frames, size)
    index = np.arange(frames)[:, None] * hop + np.arange(size)
    pieces = OPS["gather"](mv.reshape(x, shape=(batch, samples)), convert(index), axis=1)
    pieces = pieces if window is None else pieces * window
    kept = size // 2 + 1 if call.attr("onesided", 1) else size
    angles = 2 * np.pi * np.outer(np.arange(size), np.arange(kept)) / size
    matrices = [convert(p.astype(x.dtype.numpy)) for p in (np.cos(angles), -np.sin(angles))]
    return OPS["stack"](*(OPS["matmul"](pieces, p) for p in matrices), axis=3)


@converter("HannWindow", "HammingWindow", "BlackmanWindow")
def window(call: Call) -> Value:
    """Sums of cosines."""
    size = call.value(0)
    count = int(size.ravel()[0])
    call.check_table(count)
    dtype = dtype_of(call.attr("output_datatype", 1), call.op)
    period = count if call.attr("periodic", 1) else count - 1
    angle = 2 * np.pi * np.arange(count) / period
    weights = {"HannWindow": (0.5, 0.5, 0.0), "HammingWindow": (25 / 46, 21 / 46, 0.0),
               "BlackmanWindow": (0.42, 0.5, 0.08)}[call.op]  # fmt: skip
    a, b, c = weights
    values = a - b * np.cos(angle) + c * np.cos(2 * angle)
    return convert(values.astype(dtype.numpy))


@converter("MelWeightMatrix")
def mel_weight_matrix(call: Call) -> Value:
    """Triangles on the mel scale, as a matrix from spectra to bands."""
    given = [call.static(i) for i in range(5)]
    bands, length, rate, low, high = (v.ravel()[0] for v in given if v is not None)
    dtype = dtype_of(call.attr("output_datatype", 1), call.op)
    call.check_table(length // 2 + 1, bands)
    edges = np.arange(bands + 2).astype(np.float64)
    lowest, highest = (2595 * np.log10(1 + f / 700) for f in (low, high))
    mels = edges * (highest - lowest) / (bands + 2) + lowest
    bins = ((length + 1) * (700 * (10 ** (mels / 2595) - 1)) // rate).astype(int)
    result = np.zeros((length // 2 + 1, bands), dtype.numpy)
    for i in range(bands):
        left, middle, right = bins[i : i + 3]
        if left == middle:
            result[middle, i] = 1
        for j in range(left, middle + 1 if left != middle else left):
            result[j, i] = (j - left) / (middle - left)
        for j in range(middle, right):
            result[j, i] = (right - j) / (right - middle)
    return convert(result)


# -- images at points


@converter("GridSample")
def grid_sample(call: Call) -> Value:
    """The image at points between -1 and 1, by interpolation (Jaderberg et al. 2015)."""
    x, grid = call.x(0), call.x(1)
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(call.attr("mode", "linear"),
                                                         call.attr("mode", "linear"))  # fmt: skip
    dims = call.dims(x)
    spatial = len(dims) - 2
    sizes = dims[2:]
    aligned = bool(call.attr("align_corners", 0))
    border = call.attr("padding_mode", "zeros")
    points = []
    for i, size in enumerate(sizes):
        p = grid[..., spatial - 1 - i]
        p = (p + 1) * ((size - 1) / 2) if aligned else ((p + 1) * size - 1) / 2
        points.append(p)
    if mode == "cubic" and spatial != 2:
        raise call.refused("cubic interpolation of volumes")
    if mode != "cubic":  # a cubic's taps are folded one by one
        points = [_folded(p, n, border, aligned) for p, n in zip(points, sizes, strict=True)]
    taps = [_taps(p, mode) for p in points]
    total = None
    for corner in np.ndindex(*(len(t) for t in taps)):
        index = [taps[i][c][0] for i, c in enumerate(corner)]
        weight = None
        for i, c in enumerate(corner):
            w = taps[i][c][1]
            weight = w if weight is None else weight if w is None else weight * w
        value = _image_at(call, x, index, border, aligned)
        part = value if weight is None else value * OPS["expand_dims"](weight, axis=(1,))
        total = part if total is None else total + part
    assert total is not None
    return total


def _folded(p: Value, size: int, border: str, aligned: bool) -> Value:
    """A coordinate brought into the image, as the padding mode says."""
    if border == "border":
        return pw.minimum(pw.maximum(p, mv.zeros_like(p)), mv.zeros_like(p) + (size - 1))
    if border == "reflection":
        low, high = (0.0, size - 1.0) if aligned else (-0.5, size - 0.5)
        span = high - low
        if span == 0:
            return mv.zeros_like(p)
        away = m.floormod(p - low, 2 * span)
        back = low + pw.where(away > span, 2 * span - away, away)
        return pw.minimum(pw.maximum(back, mv.zeros_like(p)), mv.zeros_like(p) + (size - 1))
    return p


def _taps(p: Value, mode: str) -> list[tuple[Value, Value | None]]:
    """(position, weight) of the pixels that a coordinate mixes."""
    if mode == "nearest":
        return [(m.round(p), None)]
    floor = m.floor(p)
    t = p - floor
    if mode == "linear":
        return [(floor, 1 - t), (floor + 1, t)]
    return [(floor + (i - 1), w) for i, w in enumerate(_cubic(t, -0.75))]


def _cubic(t: Value, a: float) -> list[Value]:
    """Keys' kernel at the four pixels around (Keys 1981)."""
    u, v, w = t + 1, 1 - t, 2 - t
    return [
        ((a * u - 5 * a) * u + 8 * a) * u - 4 * a,
        ((a + 2) * t - (a + 3)) * t * t + 1,
        ((a + 2) * v - (a + 3)) * v * v + 1,
        ((a * w - 5 * a) * w + 8 * a) * w - 4 * a,
    ]


def _image_at(call: Call, x: Value, index: list[Value], border: str, aligned: bool) -> Value:
    """x [n, c, ...] at whole positions [n, ...], as [n, c, ...]; zeros outside."""
    dims = call.dims(x)
    n, channels, *sizes = dims
    inside = None
    wide = []
    for p, size in zip(index, sizes, strict=True):
        p = _folded(p, size, border, aligned) if border != "zeros" else p
        ok = m.logical_and(p >= 0, p <= size - 1)
        inside = ok if inside is None else m.logical_and(inside, ok)
        wide.append(m.cast(pw.where(ok, p, mv.zeros_like(p)), int64))
    assert inside is not None
    points = wide[0].type.static_shape
    batch = np.arange(n).reshape(n, *[1] * (len(points) - 1))
    flat: Any = convert(np.broadcast_to(batch, points).astype(np.int64))
    for p, size in zip(wide, sizes, strict=True):
        flat = flat * size + p
    order = (0, *range(2, len(dims)), 1)
    table = mv.reshape(mv.transpose(x, perm=order), shape=(n * math.prod(sizes), channels))
    values = OPS["gather"](table, flat, axis=0)  # [n, ..., c]
    last = len(points)
    moved = mv.transpose(values, perm=(0, last, *range(1, last)))
    return pw.where(OPS["expand_dims"](inside, axis=(1,)), moved, mv.zeros_like(moved))


@converter("DeformConv")
def deform_conv(call: Call) -> Value:
    """A convolution that reads between the pixels, at places of its own (Dai et al. 2017)."""
    x, w, offset, mask = call.x(0), call.x(1), call.x(2), call.get(4)
    n, channels, *sizes = call.dims(x)
    outs, _, *window = call.dims(w)
    space, count, parts = call.dims(offset)[2:], math.prod(window), call.attr("offset_group", 1)
    if len(sizes) != 2:
        raise call.refused(f"deformable convolution over {len(sizes)} dims")
    shifts = mv.reshape(offset, shape=(n, parts, count, 2, *space))
    factors = None if mask is None else mv.reshape(mask, shape=(n, parts, 1, count, *space))
    groups, share = call.attr("group", 1), channels // parts
    made = []
    for part in range(parts):
        places = _regular_places(call, window, space)
        points = [shifts[:, part, :, i] + convert(p, like=x.dtype) for i, p in enumerate(places)]
        image = x[:, part * share : (part + 1) * share]
        values = _bilinear(call, image, points)
        made.append(values if factors is None else values * factors[:, part])
    pixels = OPS["concat"](*made, axis=1)
    pixels = mv.reshape(pixels, shape=(n, groups, channels // groups, count, *space))
    filters = mv.reshape(w, shape=(groups, outs // groups, channels // groups, count))
    y = OPS["contract"](pixels, filters, spec="ngckhw,gock->ngohw")
    y = mv.reshape(y, shape=(n, outs, *space))
    bias = call.get(3)
    return y if bias is None else y + mv.reshape(bias, shape=(outs, 1, 1))


def _regular_places(call: Call, window: list[int], space: tuple[int, ...]) -> list[np.ndarray]:
    """The row, and the column, that a convolution reads: [window, height, width]."""
    strides, dilations = (call.ints(k, None, [1, 1]) for k in ("strides", "dilations"))
    pads = call.ints("pads", None, [0] * 4)
    inside = np.indices(window).reshape(2, -1, 1, 1)
    starts = np.indices(space)[:, None]
    return [starts[i] * strides[i] - pads[i] + inside[i] * dilations[i] for i in range(2)]


def _bilinear(call: Call, x: Value, points: list[Value]) -> Value:
    """x [n, c, h, w] at points [n, ...], zeros outside: [n, c, ...]."""
    total = None
    rows, columns = (_taps(p, "linear") for p in points)
    for row, down in rows:
        for column, right in columns:
            value = _image_at(call, x, [row, column], "zeros", True)
            weight = down if right is None else right if down is None else down * right
            part = value if weight is None else value * OPS["expand_dims"](weight, axis=(1,))
            total = part if total is None else total + part
    assert total is not None
    return total


@converter("RoiAlign")
def roi_align(call: Call) -> Value:
    """Means (or maxima) of interpolated points in the cells of boxes (He et al. 2017)."""
    x, rois, batch = call.value(0), call.value(1), call.value(2)
    height, width = call.attr("output_height", 1), call.attr("output_width", 1)
    ratio, scale = call.attr("sampling_ratio", 0), call.attr("spatial_scale", 1.0)
    half = 0.5 if call.attr("coordinate_transformation_mode",
                            "half_pixel" if call.version >= 16 else "output_half_pixel"
                            ) == "half_pixel" else 0.0  # fmt: skip
    call.check_table(len(rois), x.shape[1], height, width)
    result = np.zeros((len(rois), x.shape[1], height, width), x.dtype)
    for r, (roi, n) in enumerate(zip(rois, batch, strict=True)):
        x1, y1, x2, y2 = (v * scale - half for v in roi)
        w, h = x2 - x1, y2 - y1
        if not half:
            w, h = max(w, 1.0), max(h, 1.0)
        counts = [ratio or math.ceil(e / p) for e, p in ((h, height), (w, width))]
        for i, j in np.ndindex(height, width):
            ys = y1 + (i + (np.arange(counts[0]) + 0.5) / counts[0]) * h / height
            xs = x1 + (j + (np.arange(counts[1]) + 0.5) / counts[1]) * w / width
            corners = _interpolated(x[n], ys, xs)
            if call.attr("mode", "avg") == "avg":
                result[r, :, i, j] = corners.sum(0).mean((1, 2))
            else:
                result[r, :, i, j] = corners.max((0, 2, 3))
    return convert(result)


def _interpolated(image: np.ndarray, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
    """The four weighted corners [4, c, ys, xs] of each point; zeros beyond the border."""
    height, width = image.shape[1:]
    y, x = np.meshgrid(ys, xs, indexing="ij")
    outside = (y < -1) | (y > height) | (x < -1) | (x > width)
    y, x = np.maximum(y, 0), np.maximum(x, 0)
    low_y, low_x = np.minimum(y.astype(int), height - 1), np.minimum(x.astype(int), width - 1)
    y, x = np.where(low_y == height - 1, low_y, y), np.where(low_x == width - 1, low_x, x)
    high_y, high_x = np.minimum(low_y + 1, height - 1), np.minimum(low_x + 1, width - 1)
    b, a = y - low_y, x - low_x
    parts = [image[:, low_y, low_x] * (1 - b) * (1 - a), image[:, low_y, high_x] * (1 - b) * a,
             image[:, high_y, low_x] * b * (1 - a), image[:, high_y, high_x] * b * a]  # fmt: skip
    return np.where(outside, 0, np.stack(parts))


# -- resizing


_PER_ROW: Final = 1 << 10  # numbers, that making one row of weights is worth


@converter("Resize", "Upsample")
def resize(call: Call) -> Value:
    """Each axis by a matrix of weights, so that gradients and fusion come by themselves."""
    x = call.x()
    dims = call.dims(x)
    rank = len(dims)
    roi, scales, sizes = _resize_arguments(call, rank)
    axes = [normalize_axis(a, rank) for a in call.ints("axes", None, list(range(rank)))]
    if sizes is not None:
        scales, sizes = _by_policy(call, dims, axes, sizes)
    if scales is None:
        raise call.refused("neither scales nor sizes are given")
    for k, axis in enumerate(axes):
        scale = float(scales[k])
        size = int(sizes[k]) if sizes is not None else math.floor(dims[axis] * scale)
        if scale == 1 and size == dims[axis] and roi is None:
            continue
        call.check_table(size, max(dims[axis], _PER_ROW))
        span = (0.0, 1.0) if roi is None else (float(roi[k]), float(roi[len(axes) + k]))
        weights, outside = _weights(call, dims[axis], size, scale, span)
        x = _applied(x, axis, weights, outside, call)
    return x


def _resize_arguments(call: Call, rank: int) -> tuple[Any, Any, Any]:
    if call.op == "Upsample" or call.version < 11:
        scales = call.attrs["scales"] if "scales" in call.attrs else call.static(1)
        return None, scales, None
    mode = call.attr("coordinate_transformation_mode", "half_pixel")
    roi = call.static(1) if mode == "tf_crop_and_resize" else None
    scales, sizes = call.static(2), call.static(3)
    return roi, scales if scales is not None and scales.size else None, sizes


def _by_policy(
    call: Call, dims: tuple[int, ...], axes: list[int], sizes: np.ndarray
) -> tuple[list[float], list[int]]:
    """Scales and sizes, with one scale for all where the aspect ratio is to be kept."""
    ratios = [int(s) / dims[a] for s, a in zip(sizes, axes, strict=True)]
    policy = call.attr("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return ratios, [int(s) for s in sizes]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    kept = [math.floor(scale * dims[a] + 0.5) for a in axes]
    return [scale] * len(axes), kept


def _weights(
    call: Call, have: int, want: int, scale: float, span: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """The matrix [want, have] of one axis, and which results lie outside the input."""
    mode = (
        "nearest"
        if call.op == "Upsample" and "mode" not in call.attrs
        else call.attr("mode", "nearest")
    )
    at = _coordinates(call, have, want, scale, span)
    outside = (at < 0) | (at > have - 1)
    matrix = np.zeros((want, have))
    for row, p in enumerate(at):
        if mode == "nearest":
            index = int(np.clip(_nearest(call, p), 0, have - 1))
            matrix[row, index] = 1
            continue
        positions, factors = _kernel(call, mode, p, scale)
        if call.attr("exclude_outside", 0):
            inside = (positions >= 0) & (positions < have)
            factors = factors * inside
            factors = factors / factors.sum()
        for i, w in zip(np.clip(positions, 0, have - 1), factors, strict=True):
            matrix[row, i] += w
    crops = call.attr("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    return matrix, outside & crops


def _coordinates(
    call: Call, have: int, want: int, scale: float, span: tuple[float, float]
) -> np.ndarray:
    """Where in the input each result lies."""
    default = "asymmetric" if call.op == "Upsample" or call.version < 11 else "half_pixel"
    mode = call.attr("coordinate_transformation_mode", default)
    i = np.arange(want, dtype=np.float64)
    match mode:
        case "asymmetric":
            return i / scale
        case "align_corners":
            whole = have * scale  # before it is rounded down
            return i * (have - 1) / (whole - 1) if whole != 1 else np.zeros(want)
        case "pytorch_half_pixel":
            return (i + 0.5) / scale - 0.5 if want > 1 else np.zeros(want)
        case "half_pixel_symmetric":
            adjustment = want / (scale * have)
            center = have / 2
            return center * (1 - adjustment) + (i + 0.5) / scale - 0.5
        case "tf_crop_and_resize":
            start, end = span
            if want > 1:
                return start * (have - 1) + i * (end - start) * (have - 1) / (want - 1)
            return np.full(want, 0.5 * (start + end) * (have - 1))
        case "tf_half_pixel_for_nn":
            return (i + 0.5) / scale
    return (i + 0.5) / scale - 0.5


def _nearest(call: Call, p: float) -> int:
    match call.attr("nearest_mode", "round_prefer_floor" if call.version >= 11 else "floor"):
        case "round_prefer_ceil":
            return math.floor(p + 0.5)
        case "floor":
            return math.floor(p)
        case "ceil":
            return math.ceil(p)
    return math.ceil(p - 0.5)


def _kernel(call: Call, mode: str, p: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The input positions that a result mixes, and their weights."""
    stretch = min(scale, 1.0) if call.attr("antialias", 0) else 1.0
    reach = (1 if mode == "linear" else 2) / stretch
    base = math.floor(p)
    if stretch == 1.0:
        positions = np.arange(base, base + 2) if mode == "linear" else np.arange(base - 1, base + 3)
    else:
        positions = np.arange(math.floor(p - reach) + 1, math.ceil(p + reach))
    distance = np.abs(positions - p) * stretch
    if mode == "linear":
        factors = np.maximum(1 - distance, 0)
    else:
        a = call.attr("cubic_coeff_a", -0.75)
        near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        factors = np.where(distance <= 1, near, np.where(distance < 2, far, 0))
    return positions, factors / factors.sum()


def _applied(x: Value, axis: int, weights: np.ndarray, outside: np.ndarray, call: Call) -> Value:
    rank = x.type.rank or 0
    one_each = ((weights == 1).sum(1) == 1) & ((weights != 0).sum(1) == 1)
    if one_each.all():
        y = OPS["gather"](x, convert(weights.argmax(1)), axis=axis)
    else:
        letters = "abcdefghij"[:rank]
        left = letters.replace(letters[axis], "k")
        wide = x if x.dtype in (float32, float64) else m.cast(x, float32)
        matrix = convert(weights.astype(wide.dtype.numpy))
        y = OPS["contract"](wide, matrix, spec=f"{left},{letters[axis]}k->{letters}")
        y = m.cast(y, x.dtype)
    if outside.any():
        shape = [-1 if i == axis else 1 for i in range(rank)]
        fill = convert(np.asarray(call.attr("extrapolation_value", 0.0)).astype(x.dtype.numpy))
        y = pw.where(convert(outside.reshape(shape)), fill, y)
    return y
