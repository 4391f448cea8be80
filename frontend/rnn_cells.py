"""Recurrent cells: one step of a recurrent network, as an object with variables.

    cell(inputs [batch, depth], state)  ->  output [batch, output_size], new state

Names and shapes of variables, and the order of the gates, are TensorFlow's, so that checkpoints
of one fit the other: `kernel` [depth + units, 4 * units] with the gates i, j, f, o.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from graphc.frontend import nest
from graphc.frontend.arguments import as_value
from graphc.frontend.array import concat, split
from graphc.frontend.array import shape as shape_of
from graphc.frontend.dropout import dropout
from graphc.frontend.initializers import ones_initializer, zeros_initializer
from graphc.frontend.linalg import clip_by_value, matmul
from graphc.frontend.math import sigmoid, tanh
from graphc.frontend.normalization import bias_add, layer_norm
from graphc.frontend.scopes import AUTO_REUSE, VariableScope, get_variable, variable_scope
from graphc.frontend.sources import zeros
from graphc.frontend.variables import Variable
from graphc.ir.dtypes import float32
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Value

Activation = Callable[[Any], Value]


class LSTMStateTuple(NamedTuple):
    """The state of an LSTM: memory `c` and output `h`, each [batch, units]."""

    c: Any
    h: Any


class RNNCell:
    """What a cell is. Subclasses say `state_size`, `output_size` and `call(inputs, state)`."""

    base_name: ClassVar[str] = "rnn_cell"

    def __init__(self, reuse: Any = None, name: str | None = None, dtype: Any = None) -> None:
        self._reuse = reuse
        self._name = name
        self._dtype = dtype
        self._scope: VariableScope | None = None
        self._made = False

    @property
    def state_size(self) -> Any:
        """The state's sizes, as an int or a structure of ints."""
        raise NotImplementedError(f"{type(self).__name__} has no state_size")

    @property
    def output_size(self) -> Any:
        """The output's last dim."""
        raise NotImplementedError(f"{type(self).__name__} has no output_size")

    def call(self, inputs: Value, state: Any) -> tuple[Value, Any]:
        """One step: the output and the new state."""
        raise NotImplementedError(f"{type(self).__name__} has no call()")

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> tuple[Any, Any]:
        """One step; the first makes the variables, later ones use them."""
        x = as_value(inputs)
        if self._scope is not None and scope is None:
            opened = variable_scope(self._scope, reuse=True)
        else:
            # a second call under the same name shares the variables, as in an unrolled network
            reuse = True if self._made else self._reuse
            opened = variable_scope(scope or self._name, self.base_name, reuse=reuse, dtype=x.dtype)
        with opened as entered:
            self._scope = entered if scope is None else self._scope
            result = self.call(x, state)
        self._made = True
        return result

    def zero_state(self, batch_size: Any, dtype: Any = float32) -> Any:
        """The state of zeros for a batch."""

        def one(size: Any) -> Value:
            dims = size if isinstance(size, (list, tuple)) else [size]
            made: Value = zeros([batch_size, *dims], dtype)
            return made

        return nest.map_leaves(one, self.state_size)

    @property
    def variables(self) -> list[Variable]:
        """The variables made so far."""
        return [] if self._scope is None else self._scope.global_variables()

    @property
    def trainable_variables(self) -> list[Variable]:
        """Those that optimizers train."""
        return [] if self._scope is None else self._scope.trainable_variables()

    trainable_weights = trainable_variables
    weights = variables

    @property
    def name(self) -> str:
        """The cell's name, that of its variables' scope."""
        return self._name or self.base_name


def _width(x: Value) -> int:
    width = x.type.shape[-1] if x.type.shape else None
    if not isinstance(width, int):
        raise ShapeError(f"a cell needs to know the last dim of its inputs, got {x!r}")
    return width


def linear(
    parts: Sequence[Value],
    units: int,
    names: tuple[str, str] = ("kernel", "bias"),
    kernel_initializer: Any = None,
    bias_initializer: Any = None,
) -> Value:
    """concat(parts) @ kernel + bias, one product for all gates."""
    joined = concat(list(parts), 1) if len(parts) > 1 else parts[0]
    shape = [sum(map(_width, parts)), units]
    kernel = get_variable(names[0], shape, joined.dtype, kernel_initializer)
    start = bias_initializer or zeros_initializer()
    bias = get_variable(names[1], [units], joined.dtype, start)
    return bias_add(matmul(joined, kernel), bias)


class BasicRNNCell(RNNCell):
    """output = new state = activation([inputs, state] @ kernel + bias)."""

    base_name = "basic_rnn_cell"

    def __init__(
        self,
        num_units: int,
        activation: Activation | None = None,
        reuse: Any = None,
        name: str | None = None,
        dtype: Any = None,
        **_: Any,
    ) -> None:
        super().__init__(reuse, name, dtype)
        self._units = num_units
        self._activation = activation or tanh

    @property
    def state_size(self) -> int:
        return self._units

    @property
    def output_size(self) -> int:
        return self._units

    def call(self, inputs: Value, state: Any) -> tuple[Value, Any]:
        output = self._activation(linear([inputs, state], self._units))
        return output, output


class GRUCell(RNNCell):
    """Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014."""

    base_name = "gru_cell"

    def __init__(
        self,
        num_units: int,
        activation: Activation | None = None,
        reuse: Any = None,
        kernel_initializer: Any = None,
        bias_initializer: Any = None,
        name: str | None = None,
        dtype: Any = None,
        **_: Any,
    ) -> None:
        super().__init__(reuse, name, dtype)
        self._units = num_units
        self._activation = activation or tanh
        self._initializers = kernel_initializer, bias_initializer

    @property
    def state_size(self) -> int:
        return self._units

    @property
    def output_size(self) -> int:
        return self._units

    def call(self, inputs: Value, state: Any) -> tuple[Value, Any]:
        kernel, bias = self._initializers
        with variable_scope("gates"):  # open at first: the old state is kept
            start = ones_initializer() if bias is None else bias
            gates = sigmoid(linear([inputs, state], 2 * self._units, kernel_initializer=kernel,
                                   bias_initializer=start))  # fmt: skip
        reset, update = split(gates, 2, 1)
        with variable_scope("candidate"):
            candidate = linear([inputs, reset * state], self._units, kernel_initializer=kernel,
                               bias_initializer=bias)  # fmt: skip
        new = update * state + (1.0 - update) * self._activation(candidate)
        return new, new


class LSTMCell(RNNCell):
    """Hochreiter and Schmidhuber 1997, with a forget gate, as in Zaremba et al. 2014.

    c' = sigmoid(f + forget_bias) * c + sigmoid(i) * activation(j), h' = sigmoid(o) * act(c').
    `use_peepholes` lets the gates see c (Sak et al. 2014), `num_proj` makes h smaller by a product.
    """

    base_name = "lstm_cell"

    def __init__(
        self, num_units: int, use_peepholes: bool = False, cell_clip: float | None = None,
        initializer: Any = None, num_proj: int | None = None, proj_clip: float | None = None,
        num_unit_shards: Any = None, num_proj_shards: Any = None, forget_bias: float = 1.0,
        state_is_tuple: bool = True, activation: Activation | None = None, reuse: Any = None,
        name: str | None = None, dtype: Any = None, **_: Any,
    ) -> None:  # fmt: skip
        super().__init__(reuse, name, dtype)
        del num_unit_shards, num_proj_shards
        self._units = num_units
        self._peepholes = use_peepholes
        self._clips = cell_clip, proj_clip
        self._initializer = initializer
        self._projected = num_proj
        self._forget_bias = forget_bias
        self._is_tuple = state_is_tuple
        self._activation = activation or tanh

    @property
    def state_size(self) -> Any:
        sizes = self._units, self.output_size
        return LSTMStateTuple(*sizes) if self._is_tuple else sum(sizes)

    @property
    def output_size(self) -> int:
        return self._projected or self._units

    def call(self, inputs: Value, state: Any) -> tuple[Value, Any]:
        c, h = state if self._is_tuple else split(state, [self._units, self.output_size], 1)
        joined = linear([inputs, h], 4 * self._units, kernel_initializer=self._initializer)
        i, j, f, o = split(joined, 4, 1)
        f = f + self._forget_bias
        if self._peepholes:
            f, i = (g + self.peephole(w, c) for g, w in ((f, "w_f_diag"), (i, "w_i_diag")))
        new = sigmoid(f) * c + sigmoid(i) * self._activation(j)
        if self._clips[0] is not None:
            new = clip_by_value(new, -self._clips[0], self._clips[0])
        if self._peepholes:
            o = o + self.peephole("w_o_diag", new)
        output = self.project(sigmoid(o) * self._activation(new))
        return output, LSTMStateTuple(new, output) if self._is_tuple else concat([new, output], 1)

    def peephole(self, name: str, c: Value) -> Value:
        weights = get_variable(name, [self._units], c.dtype, self._initializer)
        return weights.value() * c

    def project(self, h: Value) -> Value:
        if self._projected is None:
            return h
        with variable_scope("projection"):
            shape = [self._units, self._projected]
            h = matmul(h, get_variable("kernel", shape, h.dtype, self._initializer))
        clip = self._clips[1]
        return h if clip is None else clip_by_value(h, -clip, clip)


class BasicLSTMCell(LSTMCell):
    """An LSTMCell without options."""

    base_name = "basic_lstm_cell"

    def __init__(
        self,
        num_units: int,
        forget_bias: float = 1.0,
        state_is_tuple: bool = True,
        activation: Activation | None = None,
        reuse: Any = None,
        name: str | None = None,
        dtype: Any = None,
        **_: Any,
    ) -> None:
        super().__init__(
            num_units, forget_bias=forget_bias, state_is_tuple=state_is_tuple,
            activation=activation, reuse=reuse, name=name, dtype=dtype,
        )  # fmt: skip


class LayerNormBasicLSTMCell(RNNCell):
    """An LSTM whose gates and memory are layer-normalized (Ba, Kiros and Hinton 2016)."""

    base_name = "layer_norm_basic_lstm_cell"

    def __init__(
        self,
        num_units: int,
        forget_bias: float = 1.0,
        activation: Activation | None = None,
        layer_norm: bool = True,
        dropout_keep_prob: Any = 1.0,
        reuse: Any = None,
        **_: Any,
    ) -> None:
        super().__init__(reuse)
        self._units = num_units
        self._forget_bias = forget_bias
        self._activation = activation or tanh
        self._normalizes = layer_norm
        self._keep = dropout_keep_prob

    @property
    def state_size(self) -> LSTMStateTuple:
        return LSTMStateTuple(self._units, self._units)

    @property
    def output_size(self) -> int:
        return self._units

    def call(self, inputs: Value, state: Any) -> tuple[Value, Any]:
        c, h = state
        joined = concat([inputs, h], 1)
        kernel = get_variable("kernel", [_width(joined), 4 * self._units], joined.dtype)
        product = matmul(joined, kernel)
        if not self._normalizes:
            bias = get_variable("bias", [4 * self._units], joined.dtype, zeros_initializer())
            product = bias_add(product, bias)
        names = ("input", "transform", "forget", "output")
        gates = zip(split(product, 4, 1), names, strict=True)
        i, j, f, o = (self.normalized(g, name) for g, name in gates)
        g = self._activation(j)
        if not isinstance(self._keep, float) or self._keep < 1.0:
            g = dropout(g, self._keep)
        new = self.normalized(c * sigmoid(f + self._forget_bias) + sigmoid(i) * g, "state")
        output = self._activation(new) * sigmoid(o)
        return output, LSTMStateTuple(new, output)

    def normalized(self, x: Value, name: str) -> Value:
        if not self._normalizes:
            return x
        with variable_scope(name):
            gamma = get_variable("gamma", [self._units], x.dtype, ones_initializer())
            beta = get_variable("beta", [self._units], x.dtype, zeros_initializer())
        return layer_norm(x, gamma, beta)


class MultiRNNCell(RNNCell):
    """Cells on top of each other: the output of one is the input of the next."""

    base_name = "multi_rnn_cell"

    def __init__(self, cells: Sequence[RNNCell], state_is_tuple: bool = True) -> None:
        super().__init__()
        if not cells:
            raise AttributeValueError("MultiRNNCell needs at least one cell")
        self._cells = list(cells)
        self._is_tuple = state_is_tuple

    @property
    def state_size(self) -> Any:
        sizes = tuple(c.state_size for c in self._cells)
        return sizes if self._is_tuple else sum(nest.flatten(sizes))

    @property
    def output_size(self) -> Any:
        return self._cells[-1].output_size

    def call(self, inputs: Value, state: Any) -> tuple[Value, Any]:
        x, states = inputs, []
        parts = state if self._is_tuple else split(state, [c.state_size for c in self._cells], 1)
        for number, (cell, part) in enumerate(zip(self._cells, parts, strict=True)):
            with variable_scope(f"cell_{number}"):
                x, new = cell(x, part)
                states.append(new)
        return x, tuple(states) if self._is_tuple else concat(states, 1)


class _Wrapper(RNNCell):
    """A cell around another; its variables are those of the cell inside."""

    def __init__(self, cell: RNNCell) -> None:
        super().__init__()
        self._cell = cell

    @property
    def state_size(self) -> Any:
        return self._cell.state_size

    @property
    def output_size(self) -> Any:
        return self._cell.output_size

    def zero_state(self, batch_size: Any, dtype: Any = float32) -> Any:
        return self._cell.zero_state(batch_size, dtype)

    @property
    def variables(self) -> list[Variable]:
        return self._cell.variables

    @property
    def trainable_variables(self) -> list[Variable]:
        return self._cell.trainable_variables


class DropoutWrapper(_Wrapper):
    """Dropout on a cell's inputs, outputs and states; the memory of an LSTM is left alone."""

    def __init__(
        self,
        cell: RNNCell,
        input_keep_prob: Any = 1.0,
        output_keep_prob: Any = 1.0,
        state_keep_prob: Any = 1.0,
        variational_recurrent: bool = False,
        input_size: Any = None,
        dtype: Any = None,
        seed: int | None = None,
        **_: Any,
    ) -> None:
        super().__init__(cell)
        del input_size, dtype
        if variational_recurrent:
            raise AttributeValueError(
                "variational_recurrent is not offered: give a mask to the cell yourself"
            )
        self._keep = input_keep_prob, output_keep_prob, state_keep_prob
        self._seed = seed

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> tuple[Any, Any]:
        """One step."""
        output, new = self._cell(self.dropped(as_value(inputs), 0), state, scope)
        if isinstance(new, LSTMStateTuple):
            new = LSTMStateTuple(new.c, self.dropped(new.h, 2))
        else:
            new = nest.map_leaves(lambda s: self.dropped(s, 2), new)
        return self.dropped(output, 1), new

    def dropped(self, x: Value, which: int) -> Value:
        keep = self._keep[which]
        if isinstance(keep, (int, float)) and keep >= 1:
            return x
        return dropout(x, keep, seed=None if self._seed is None else self._seed + which)


class ResidualWrapper(_Wrapper):
    """The cell's output plus its input, or `residual_fn(input, output)`."""

    def __init__(self, cell: RNNCell, residual_fn: Callable[[Any, Any], Any] | None = None) -> None:
        super().__init__(cell)
        self._residual = residual_fn

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> tuple[Any, Any]:
        """One step."""
        output, new = self._cell(inputs, state, scope)
        if self._residual is not None:
            return self._residual(inputs, output), new
        return as_value(inputs) + output, new


class DeviceWrapper(_Wrapper):
    """The cell as it is: a session has one device."""

    def __init__(self, cell: RNNCell, device: Any) -> None:
        super().__init__(cell)
        del device

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> tuple[Any, Any]:
        """One step."""
        return self._cell(inputs, state, scope)


class OutputProjectionWrapper(_Wrapper):
    """The cell's output through a dense layer."""

    def __init__(
        self,
        cell: RNNCell,
        output_size: int,
        activation: Activation | None = None,
        reuse: Any = None,
    ) -> None:
        super().__init__(cell)
        self._reuse = reuse
        self._size = output_size
        self._activation = activation

    @property
    def output_size(self) -> int:
        return self._size

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> tuple[Any, Any]:
        """One step."""
        output, new = self._cell(inputs, state, scope)
        with variable_scope("output_projection_wrapper", reuse=AUTO_REUSE):
            projected = linear([output], self._size)
        return (self._activation or (lambda y: y))(projected), new


def batch_size_of(x: Value, axis: int) -> Any:
    """The batch's size: a number where it is known, else a tensor."""
    dim = x.type.shape[axis] if x.type.shape else None
    return dim if isinstance(dim, int) else shape_of(x)[axis]
