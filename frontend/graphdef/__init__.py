"""TensorFlow's GraphDef protos, in and out: reading, cutting down, freezing."""

from graphc.frontend.graphdef.freezing import (
    convert_variables_to_constants,
    extract_sub_graph,
    remove_training_nodes,
)
from graphc.frontend.graphdef.load import import_graph_def
from graphc.frontend.graphdef.meta import adopt_collections

__all__ = [
    "adopt_collections",
    "convert_variables_to_constants",
    "extract_sub_graph",
    "import_graph_def",
    "remove_training_nodes",
]
