"""`tensorflow.python.framework.tensor_util`."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.compat.symbols import delegate
from graphc.frontend.arguments import constant_value
from graphc.frontend.arguments import is_tensor as is_tensor  # offered under its own name
from graphc.ir import graphdef
from graphc.ir.graphdef import make_ndarray as MakeNdarray
from graphc.ir.literal import as_array

make_ndarray = MakeNdarray


def make_tensor_proto(values: Any, dtype: Any = None, shape: Any = None) -> Any:
    """A TensorProto of what `constant` takes."""
    array = as_array(values, dtype)
    if shape is not None:
        array = np.broadcast_to(array, tuple(shape)) if array.size == 1 else array.reshape(shape)
    return graphdef.make_tensor_proto(np.ascontiguousarray(array).reshape(array.shape))


__all__ = ["MakeNdarray", "constant_value", "is_tensor", "make_ndarray", "make_tensor_proto"]
__getattr__ = delegate(__name__)
