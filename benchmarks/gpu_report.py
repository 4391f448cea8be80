"""What `make bench-gpu` writes: figures as JSON, and a page with a plot of all rows.

A row has a title, `precision`, `traffic`, `flops` and, per contender, the figures of
`benchmarks.gpu_contender`; rows without figures are said to be not measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu_peers import NAMES
from benchmarks.gpu_rows import GROUPS, NETWORKS, ROWS, TRAINING
from benchmarks.gpu_timing import Limits
from benchmarks.race import Figures
from benchmarks.report import cell, failures, lines, number, plain, with_least, write_beside
from benchmarks.targets import GPU_ROWS, GPU_SUITES, gpu_shortfalls, ratio, suite_means

Row = dict[str, Any]
NOT_MEASURED = "not measured"


def add_row(path: Path, facts: Mapping[str, Any], name: str, row: Row) -> dict[str, Any]:
    """Write a row into the file, in the order of `ROWS`, and the page; gives the file's contents.

    The limits are the best that were ever measured of this GPU, for all rows.
    """
    before = json.loads(path.read_text()) if path.exists() else facts
    limits = Limits(**facts["limits"]).or_better(Limits(**before["limits"]))
    rows = {**before.get("rows", {}), name: row}
    ordered = {n: with_least(rows[n], least_s(rows[n], limits)) for n in ROWS if n in rows}
    contents = {**facts, "limits": asdict(limits), "rows": ordered}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(contents, indent=1) + "\n")
    path.with_suffix(".md").write_text(markdown(contents))
    return contents


def least_s(row: Mapping[str, Any], limits: Limits) -> float:
    """The least time of a row's work."""
    return limits.seconds(row["traffic"], row["flops"], row["precision"])


def line(figures: Figures) -> str:
    """A contender's figures in words."""
    if "step_s" not in figures:
        return str(figures.get("error") or figures.get("absent") or "no figures")
    text = f"{figures['step_s'] * 1e3:10.4f} ms"
    if "first_s" in figures:
        text += f"   first {figures['first_s']:6.2f} s   peak {figures['peak_bytes'] / 1e6:7.0f} MB"
    return text + (f"   host {figures['host_s'] * 1e6:6.1f} us" if "host_s" in figures else "")


# -- tables


def _target(name: str) -> str:
    """What is aimed at: times of torch, torch.compile, JAX over ours; share of the limit."""
    target = GPU_ROWS.get(name)
    if target is None:
        return ""
    text = " / ".join(f"{x:g}" for x in target.ratios)
    return text + (f"; {target.of_limit:.0%}" if target.of_limit else "")


def _times(rows: Mapping[str, Row]) -> list[str]:
    peers = NAMES[1:]
    head = ["", *NAMES, "limit", *(f"{p} / graphc" for p in peers), "of the limit", "target"]
    return lines(head, [_times_of(name, rows.get(name)) for name in ROWS])


def _times_of(name: str, row: Row | None) -> list[str]:
    if row is None:
        return [name, NOT_MEASURED, *[""] * (2 * len(NAMES)), _target(name)]
    contenders = row["contenders"]
    cells = [name, *(cell(contenders.get(n), "step_s", 1e3) for n in NAMES)]
    cells.append(number(row["limit_s"] * 1e3) if row["limit_s"] else "")
    ratios = (ratio(contenders, peer) for peer in NAMES[1:])
    cells += ["" if r is None else f"{r:.2f}" for r in ratios]
    return [*cells, f"{row['of_limit']:.0%}" if "of_limit" in row else "", _target(name)]


def _suites(rows: Mapping[str, Row]) -> list[str]:
    body = []
    for (suite, part), means in suite_means(rows).items():
        aims = GPU_SUITES[suite] if part == "all" else {}
        target = " / ".join(f"{aims[p]:g}" for p in NAMES[1:]) if aims else ""
        cells = [f"{means[p]:.2f}" if p in means else NOT_MEASURED for p in NAMES[1:]]
        body.append([f"{suite}, {part}", *cells, target])
    return lines(["", *(f"{p} / graphc" for p in NAMES[1:]), "target"], body)


def _small(rows: Mapping[str, Row]) -> list[str]:
    """The host's time of rows that are fed, and what is aimed at."""
    found = {n: rows[n] for n in GROUPS["small"] if n in rows}
    body = []
    for name, row in found.items():
        target = GPU_ROWS[name].host_s if name in GPU_ROWS else None
        cells = [cell(row["contenders"].get(n), "host_s", 1e6) for n in NAMES]
        body.append([name, *cells, f"{target * 1e6:g}" if target else ""])
    return lines(["", *NAMES, "target"], body)


def _limits(limits: Mapping[str, Any]) -> str:
    products = (f"{kind} {f / 1e12:.0f} TFLOP/s" for kind, f in limits["flops_per_s"].items())
    return f"{limits['bytes_per_s'] / 1e12:.2f} TB/s (copy), products {', '.join(products)}"


def _said(rows: Mapping[str, Row]) -> list[str]:
    """What failed, and who was not there."""
    said = [f"{name} {text}" for name, row in rows.items() for text in failures(row)]
    absent = {
        f"{n}: {f['absent']}"
        for row in rows.values() for n, f in row["contenders"].items() if "absent" in f
    }  # fmt: skip
    return [*(said or ["all contenders computed the same"]), *sorted(absent)]


def markdown(contents: Mapping[str, Any]) -> str:
    """The page of a GPU."""
    rows = contents["rows"]
    trained = {n: rows[n] for n in TRAINING if n in rows}
    built = {n: rows[n] for n in dict.fromkeys((*TRAINING, *NETWORKS)) if n in rows}
    versions = ", ".join(f"{n} {v}" for n, v in contents["versions"].items())
    left = [name for name in ROWS if name not in rows]
    page = [
        f"# {contents['gpu']}", "",
        f"Written by `make bench-gpu`. {versions}.", "",
        f"Limits: {_limits(contents['limits'])}.", "",
        *([f"Not measured: {', '.join(left)}.", ""] if left else []),
        "## Milliseconds per call or step (medians)", "", *_times(rows), "",
        "Targets: times of torch, torch.compile and JAX over graphc's; share of the limit.", "",
        "## Suites: geometric means", "", *_suites(rows), "",
        "## Short of the target", "",
        *(f"- {text}" for text in gpu_shortfalls(rows) or ["nothing that was measured"]), "",
        "## Microseconds of the host per step", "", *_small(rows), "",
        "## Peak memory of the device in training, MB", "",
        *plain(trained, NAMES, lambda f: cell(f, "peak_bytes", 1e-6)), "",
        "## Seconds until the first step is done, with empty caches", "",
        *plain(built, NAMES, lambda f: cell(f, "first_s", 1)), "",
        "## Rows", "", *(f"- {name}: {row['title']}" for name, row in rows.items()), "",
        "## Results", "", *(f"- {text}" for text in _said(rows)), "",
    ]  # fmt: skip
    return "\n".join(page)


def write(contents: Mapping[str, Any], json_path: Path) -> list[Path]:
    """The page and the plot beside the JSON."""
    return write_beside(json_path, contents, markdown(contents), contents["gpu"])


__all__ = ["add_row", "line", "markdown", "write"]
