"""`tensorflow.python.framework.importer`."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.frontend.graphdef.load")
