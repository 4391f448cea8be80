"""The Triton back end: kernels as Triton source, by recipe."""

from typing import Final

from graphc.codegen.triton.convolution import Convolution
from graphc.codegen.triton.emit import emit, emit_kernel
from graphc.codegen.triton.launch import (
    COMPILE_OPTIONS,
    Launch,
    Matrix,
    Options,
    Stage,
    Workspace,
    most_registers,
)
from graphc.codegen.triton.library import Product

# what a Launch is made of
LAUNCH_CLASSES: Final = (Launch, Stage, Workspace, Matrix, Product, Convolution)

__all__ = [
    "COMPILE_OPTIONS", "LAUNCH_CLASSES", "Launch", "Options", "Stage", "Workspace", "emit",
    "emit_kernel", "most_registers",
]  # fmt: skip
