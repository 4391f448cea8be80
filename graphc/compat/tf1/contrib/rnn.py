"""`tf.contrib.rnn`: the cells of recurrent networks, and how they are unrolled."""

from __future__ import annotations

import math
from typing import Any

from graphc.compat.symbols import delegate
from graphc.frontend.arguments import as_value
from graphc.frontend.array import gather, reshape, split
from graphc.frontend.initializers import random_uniform_initializer, zeros_initializer
from graphc.frontend.linalg import matmul
from graphc.frontend.math import sigmoid, tanh
from graphc.frontend.nn import relu
from graphc.frontend.rnn_cells import LSTMStateTuple, RNNCell
from graphc.frontend.scopes import get_variable
from graphc.ir.errors import ShapeError
from graphc.ir.graph import Value


class EmbeddingWrapper(RNNCell):
    """A cell that takes numbers of words, [batch] or [batch, 1], and looks them up in a table."""

    base_name = "embedding_wrapper"

    def __init__(
        self,
        cell: RNNCell,
        embedding_classes: int,
        embedding_size: int,
        initializer: Any = None,
        reuse: Any = None,
    ) -> None:
        super().__init__(reuse)
        self._cell = cell
        self._shape = [embedding_classes, embedding_size]
        # of variance 1, as TensorFlow's
        self._initializer = initializer or random_uniform_initializer(-math.sqrt(3), math.sqrt(3))

    @property
    def state_size(self) -> Any:
        """The cell's."""
        return self._cell.state_size

    @property
    def output_size(self) -> Any:
        """The cell's."""
        return self._cell.output_size

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> tuple[Any, Any]:
        """One step of the cell on the words' rows."""
        if not as_value(inputs).dtype.is_integer:
            raise ShapeError(f"an EmbeddingWrapper takes numbers of words, got {inputs!r}")
        return super().__call__(inputs, state, scope)

    def call(self, inputs: Value, state: Any) -> tuple[Value, Any]:
        """One step of the cell on the words' rows."""
        dtype = as_value(state[0] if isinstance(state, (list, tuple)) else state).dtype
        table = get_variable("embedding", self._shape, dtype, self._initializer)
        result: tuple[Value, Any] = self._cell(gather(table, reshape(inputs, [-1])), state)
        return result


class NASCell(RNNCell):
    """The cell that Zoph and Le, "Neural Architecture Search with Reinforcement Learning", 2017,
    found."""

    base_name = "nas_cell"

    def __init__(
        self,
        num_units: int,
        num_proj: int | None = None,
        use_bias: bool = False,
        reuse: Any = None,
    ) -> None:
        super().__init__(reuse)
        self._units = num_units
        self._projected = num_proj
        self._biased = use_bias

    @property
    def state_size(self) -> Any:
        """The sizes of memory and output."""
        return LSTMStateTuple(self._units, self.output_size)

    @property
    def output_size(self) -> int:
        """The number of units, or of those that they are projected to."""
        return self._projected or self._units

    def call(self, inputs: Value, state: Any) -> tuple[Value, Any]:
        """One step: eight gates in pairs, in three layers."""
        memory, before = (as_value(s) for s in state)
        width = inputs.type.shape[-1] if inputs.type.shape else None
        if not isinstance(width, int):
            raise ShapeError(f"a cell needs to know the last dim of its inputs, got {inputs!r}")
        gates = 8 * self._units
        recurrent = get_variable("recurrent_kernel", [self.output_size, gates], inputs.dtype)
        kernel = get_variable("kernel", [width, gates], inputs.dtype)
        m = matmul(before, recurrent)
        if self._biased:
            m = m + get_variable("bias", [gates], inputs.dtype, zeros_initializer())
        x0, x1, x2, x3, x4, x5, x6, x7 = split(matmul(inputs, kernel), 8, 1)
        m0, m1, m2, m3, m4, m5, m6, m7 = split(m, 8, 1)
        first = tanh(sigmoid(x0 + m0) * relu(x1 + m1))
        second = tanh(sigmoid(x2 + m2) + relu(x3 * m3))
        third = tanh(tanh(x4 + m4) * sigmoid(x5 + m5))
        fourth = sigmoid(tanh(x6 + m6) + sigmoid(x7 + m7))
        new = tanh(first + memory) * second
        output = tanh(new * tanh(third + fourth))
        if self._projected is not None:
            shape = [self._units, self._projected]
            output = matmul(output, get_variable("projection_weights", shape, inputs.dtype))
        return output, LSTMStateTuple(new, output)


__all__ = ["EmbeddingWrapper", "NASCell"]
__getattr__ = delegate(__name__, "graphc.compat.tf1.nn.rnn_cell", "graphc.compat.tf1.nn")
