"""The layer of attention; re-exported by `layers`."""

from __future__ import annotations

from typing import Any

from graphc.frontend.arguments import as_value
from graphc.frontend.array import reshape, shape, transpose
from graphc.frontend.attention import scaled_dot_product_attention
from graphc.frontend.initializers import Zeros
from graphc.frontend.layer import Layer, known_dim
from graphc.frontend.linalg import tensordot
from graphc.frontend.normalization import bias_add
from graphc.frontend.variables import Variable
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Value


class MultiHeadAttention(Layer):
    """Attention by several heads side by side (Vaswani et al., 2017, section 3.2.2).

    query: [batch, n, width]; value and key, which are the query and the value unless given:
    [batch, m, any]. -> [batch, n, width]. Each head has `size` features, its values `value_size`;
    `size` is width / heads unless given.
    """

    base_name = "multi_head_attention"

    def __init__(
        self,
        heads: int,
        size: int | None = None,
        value_size: int | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = None,
        bias_initializer: Any = Zeros,
        trainable: bool = True,
        name: str | None = None,
        reuse: Any = None,
    ) -> None:
        super().__init__(trainable, name, reuse=reuse)
        if heads < 1:
            raise AttributeValueError(f"attention needs a head or more, got {heads}")
        self.heads = heads
        self.size = size
        self.value_size = value_size
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer
        self.parts: dict[str, tuple[Variable, Variable | None]] = {}

    def call(
        self, query: Value, value: Any = None, key: Any = None, mask: Any = None,
        causal: bool = False,
    ) -> Value:  # fmt: skip
        """`mask` broadcasts to [batch, heads, n, m]; see `nn.scaled_dot_product_attention`."""
        value = query if value is None else as_value(value)
        key = value if key is None else as_value(key)
        width = known_dim(query, -1, "attention")
        size = self._size(width)
        q, k = (self._heads(x, n, size) for x, n in ((query, "query"), (key, "key")))
        v = self._heads(value, "value", self.value_size or size)
        mixed = transpose(scaled_dot_product_attention(q, k, v, mask, causal), [0, 2, 1, 3])
        features = self.heads * (self.value_size or size)
        return self._product(reshape(mixed, [*_sizes(query), features]), "output", width)

    def _size(self, width: int) -> int:
        if self.size is None and width % self.heads:
            raise AttributeValueError(
                f"{self.heads} heads do not divide a width of {width}; give the size of a head"
            )
        return self.size or width // self.heads

    def _heads(self, x: Value, name: str, size: int) -> Value:
        """[batch, time, any] -> [batch, heads, time, size]"""
        if x.type.rank != 3:
            raise ShapeError(f"attention needs [batch, time, features], got {x!r}")
        y = self._product(x, name, self.heads * size)
        return transpose(reshape(y, [*_sizes(x), self.heads, size]), [0, 2, 1, 3])

    def _product(self, x: Value, name: str, units: int) -> Value:
        if name not in self.parts:
            kernel = self.add_weight(
                f"{name}_kernel", [known_dim(x, -1, "attention"), units],
                initializer=self.kernel_initializer,
            )  # fmt: skip
            bias = None
            if self.use_bias:
                bias = self.add_weight(f"{name}_bias", [units], initializer=self.bias_initializer)
            self.parts[name] = kernel, bias
        kernel, bias = self.parts[name]
        y = tensordot(x, kernel, 1)
        return y if bias is None else bias_add(y, bias)


def _sizes(x: Value) -> list[Any]:
    """Batch and time, as numbers where they are known."""
    assert x.type.shape is not None
    return [d if isinstance(d, int) else shape(x)[i] for i, d in enumerate(x.type.shape[:2])]


__all__ = ["MultiHeadAttention"]
