"""The NumPy back end: kernels as flat lists of ufunc calls, tiled so that they stay in cache."""

from graphc.codegen.numpy.emit import emit

__all__ = ["emit"]
