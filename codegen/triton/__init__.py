"""The Triton back end: kernels as Triton source, by recipe."""

from graphc.codegen.triton.emit import emit, emit_kernel
from graphc.codegen.triton.launch import Launch, Options, Stage, Workspace, most_registers

__all__ = ["Launch", "Options", "Stage", "Workspace", "emit", "emit_kernel", "most_registers"]
