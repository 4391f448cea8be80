"""`tf.python.ops`: TensorFlow's insides, which some programs import."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(
    __name__,
    submodules=(
        "array_ops",
        "control_flow_ops",
        "init_ops",
        "lookup_ops",
        "math_ops",
        "nn",
        "nn_ops",
        "random_ops",
        "rnn",
        "rnn_cell",
        "state_ops",
        "tensor_array_ops",
        "variable_scope",
        "variables",
    ),
)
