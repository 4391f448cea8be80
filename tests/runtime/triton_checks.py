"""All checks of the Triton device; as `python -m`, in Triton's interpreter, one line of JSON each.

Names of checks may be given; without any, all run.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Final

from graphc.runtime.devices.triton import TritonDevice
from tests.runtime.triton_device_checks import CHECKS as DEVICE_CHECKS
from tests.runtime.triton_device_checks import Check
from tests.runtime.triton_random_checks import CHECKS as RANDOM_CHECKS
from tests.runtime.triton_session_checks import CHECKS as SESSION_CHECKS
from tests.runtime.triton_tuning_checks import CHECKS as TUNING_CHECKS

CHECKS: Final[dict[str, Check]] = {
    **DEVICE_CHECKS, **RANDOM_CHECKS, **SESSION_CHECKS, **TUNING_CHECKS,
}  # fmt: skip


def outcome(check: Check, device: TritonDevice) -> str | None:
    """The traceback of the check's failure, or None."""
    try:
        check(device)
    except Exception:
        return traceback.format_exc()
    return None


def main(names: Sequence[str]) -> None:
    """Run the named checks in the interpreter."""
    device = TritonDevice(interpret=True)
    for name in names or CHECKS:
        failure = outcome(CHECKS[name], device)
        print(json.dumps({"check": name, "failure": failure}), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1:])
