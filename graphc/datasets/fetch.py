"""Bringing one published file into a folder: try mirrors in turn, check, then put it in place.

Knows no data set; what a file must be is given as its SHA-256.
"""

from __future__ import annotations

import http.client
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from graphc.datasets.errors import DatasetFormatError, DatasetUnavailable
from graphc.datasets.idx import CHUNK_BYTES, content_sha256, replacing

TIMEOUT_S = 30.0
MAX_BYTES = 64 << 20  # more than twice the largest file of any set here


def fetch_file(urls: Sequence[str], target: Path, sha256: str) -> None:
    """Fetch the first of `urls` whose unpacked content has this SHA-256 to `target`.

    `target` appears whole and checked, or not at all, also when processes fetch it at the same
    time. Raises DatasetUnavailable with what happened at each address, one a line.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    failures: list[str] = []
    for url in urls:
        try:
            with replacing(target) as temporary:
                _download(url, temporary)
                _check_content(temporary, sha256)
            return
        except (OSError, http.client.HTTPException, DatasetFormatError) as error:
            failures.append(f"{url}: {error}")
    raise DatasetUnavailable("\n".join(failures))


def _download(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, path.open("wb") as stream:
        while chunk := response.read(CHUNK_BYTES):
            stream.write(chunk)
            if stream.tell() > MAX_BYTES:
                raise DatasetFormatError(f"more than {MAX_BYTES} bytes")


def _check_content(path: Path, sha256: str) -> None:
    found = content_sha256(path)
    if found != sha256:
        told = f"{path.stat().st_size} bytes with SHA-256 {found}"
        raise DatasetFormatError(f"got {told}, expected {sha256}")
