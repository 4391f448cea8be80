"""What all tests share: golden texts, and the flag that writes them anew."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from graphc.ir.errors import DeviceError
from graphc.runtime.devices.native_build import find_compiler

Golden = Callable[[str, str], None]


def pytest_configure() -> None:
    """Hear Ctrl-C, which some tests send: what a shell puts into the background ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest --update-golden` accepts what the golden tests find."""
    parser.addoption("--update-golden", action="store_true", help="write golden texts anew")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a C compiler, what runs on the native device is skipped: the others need none."""
    try:
        find_compiler()
    except DeviceError as error:
        skip = pytest.mark.skip(reason=error.message)
        for item in items:
            if item.path.name.startswith("test_native") or "native" in item.name.partition("[")[2]:
                item.add_marker(skip)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The count that may only rise: how many of the ONNX project's own tests pass."""
    names = (Path(__file__).parent / "onnx" / "passing.txt").read_text(encoding="utf-8").split()
    terminalreporter.write_line(f"ONNX backend tests that pass: {len(names)} (docs/onnx.md)")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """`golden(name, text)` compares with golden/<name> beside the test, or writes it."""
    folder = Path(request.path).parent / "golden"

    def check(name: str, text: str) -> None:
        path = folder / name
        if request.config.getoption("--update-golden"):
            folder.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path} is missing: run pytest --update-golden and look at it"
        expected = path.read_text(encoding="utf-8")
        assert text == expected, "run pytest --update-golden where the change is meant"

    return check
