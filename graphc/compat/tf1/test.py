"""`tf.test`: unittest's, and questions about the machine."""

from __future__ import annotations

import tempfile
import unittest
from typing import Any

import numpy as np

from graphc.compat.symbols import delegate
from graphc.ir.errors import DeviceError
from graphc.ir.graph import Graph
from graphc.runtime.devices import open_device
from graphc.runtime.session import Session


class TestCase(unittest.TestCase):
    """A test case with a graph of its own, and comparisons of arrays."""

    def setUp(self) -> None:
        """Enter a graph."""
        scope = Graph().as_default()
        scope.__enter__()
        self.addCleanup(scope.__exit__, None, None, None)

    def test_session(self, graph: Graph | None = None, **_: Any) -> Session:
        """A session for a `with` block. It is no test, though unittest takes it for one."""
        if self._testMethodName == "test_session":
            self.skipTest("not a test")
        return Session(graph=graph)

    session = test_session

    def assertAllClose(self, a: Any, b: Any, rtol: float = 1e-6, atol: float = 1e-6) -> None:
        """Fail unless the arrays agree so far."""
        np.testing.assert_allclose(a, b, rtol, atol)

    def assertAllEqual(self, a: Any, b: Any) -> None:
        """Fail unless the arrays are equal."""
        np.testing.assert_array_equal(a, b)


def main(argv: Any = None) -> None:
    """Run the program's tests."""
    unittest.main(argv=argv)


def is_gpu_available(cuda_only: bool = False, min_cuda_compute_capability: Any = None) -> bool:
    """True when there is a GPU that a session can use."""
    del cuda_only, min_cuda_compute_capability
    try:
        open_device("triton")
    except DeviceError:
        return False
    return True


def is_built_with_cuda() -> bool:
    """As `is_gpu_available`."""
    return is_gpu_available()


def gpu_device_name() -> str:
    """The GPU's name, empty where there is none."""
    return "/device:GPU:0" if is_gpu_available() else ""


def get_temp_dir() -> str:
    """A folder for a test's files."""
    return tempfile.mkdtemp()


__getattr__ = delegate(__name__)
