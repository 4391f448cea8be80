"""What `make bench` writes: figures as JSON, tables as Markdown, a plot."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.limits import Limits, least_traffic
from benchmarks.peers import CONTENDERS
from benchmarks.race import OURS, Figures
from benchmarks.targets import MEAN, SPEEDUPS, shortfalls
from benchmarks.workload import Workload
from benchmarks.workloads import ROWS

Row = dict[str, Any]


def best_peer(contenders: Mapping[str, Figures], key: str = "step_s") -> str | None:
    """The fastest of the frameworks that gave the right results; NumPy by hand is none."""
    steps = {n: f[key] for n, f in contenders.items() if CONTENDERS[n].is_peer and key in f}
    return min(steps, key=lambda n: steps[n]) if steps else None


def row_figures(workload: Workload, contenders: Mapping[str, Figures]) -> Row:
    """A workload's row of the file."""
    row: Row = {
        "title": workload.title, "tolerance": workload.tolerance,
        "traffic": least_traffic(workload), "flops": workload.flops,
    }  # fmt: skip
    return with_contenders(row, contenders)


def with_contenders(row: Row, contenders: Mapping[str, Figures]) -> Row:
    """The row with its contenders; `speedup` is the best peer's time over ours."""
    row = dict(row)
    best, ours = best_peer(contenders), contenders.get(OURS, {}).get("step_s")
    if best is not None:
        row["best_peer"] = best
        if ours:
            row["speedup"] = contenders[best]["step_s"] / ours
    return {**row, "contenders": dict(contenders)}


def with_limit(row: Row, limits: Limits) -> Row:
    """The row with the least time of its work here."""
    return with_least(row, limits.seconds(row["traffic"], row["flops"]))


def with_least(row: Row, limit_s: float) -> Row:
    """The row with that least time, and that over our time (1.0: reached)."""
    ours = row["contenders"].get(OURS, {}).get("step_s")
    return {**row, "limit_s": limit_s, **({"of_limit": limit_s / ours} if ours else {})}


def failures(row: Row) -> list[str]:
    """What went wrong: a contender that failed or differed; one that is absent is no failure."""
    said = [f"{n}: {f['error']}" for n, f in row["contenders"].items() if "error" in f]
    return [*said, *([f"row: {row['failure']}"] if "failure" in row else [])]


def add_row(path: Path, facts: Mapping[str, Any], name: str, row: Row) -> dict[str, Any]:
    """Write a row into the file, in the order of `ROWS`; gives the file's contents.

    The limits are the best that were ever measured here, for all rows.
    """
    before = json.loads(path.read_text()) if path.exists() else facts
    limits = Limits(**facts["limits"]).or_better(Limits(**before["limits"]))
    rows = {**before.get("rows", {}), name: row}
    ordered = {n: with_limit(rows[n], limits) for n in ROWS if n in rows}
    contents = {**facts, "limits": asdict(limits), "rows": ordered}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(contents, indent=1) + "\n")
    return contents


# -- tables


def number(x: float) -> str:
    """Three digits, without an exponent."""
    if x >= 100:
        return f"{x:,.0f}"
    return f"{x:.{max(0, 2 - int(np.floor(np.log10(x))))}f}" if x > 0 else "0"


def cell(figures: Figures | None, key: str, scale: float) -> str:
    """A contender's figure times the scale; empty where there is none."""
    if figures is None or "absent" in figures:
        return ""
    if "error" in figures:
        return "failed"
    return number(figures[key] * scale) if key in figures else ""


def lines(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown, numbers to the right."""
    rule = ["---", *("---:" for _ in head[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *body)]


def _times(rows: Mapping[str, Row], names: Sequence[str]) -> list[str]:
    body = []
    for name, row in rows.items():
        best = row.get("best_peer")
        cells = [cell(row["contenders"].get(n), "step_s", 1e3) for n in names]
        marked = [f"**{c}**" if n in (best, OURS) else c for n, c in zip(names, cells, strict=True)]
        ratios = [f"{row['speedup']:.2f}" if "speedup" in row else "", _target(name)]
        ratios.append(f"{row['of_limit']:.0%}" if "of_limit" in row else "")
        limit = number(row["limit_s"] * 1e3) if row["limit_s"] else ""
        body.append([name, *marked, limit, *ratios])
    return lines(["", *names, "limit", "best peer / graphc", "target", "of the limit"], body)


def _target(name: str) -> str:
    return f"{SPEEDUPS[name]}" if name in SPEEDUPS else ""


def _best_rounds(rows: Mapping[str, Row], names: Sequence[str]) -> list[str]:
    """The same of the best rounds, which other programs disturb least."""
    body = []
    for name, row in rows.items():
        contenders = row["contenders"]
        cells = [cell(contenders.get(n), "best_s", 1e3) for n in names]
        ours = contenders.get(OURS, {}).get("best_s")
        peer = best_peer(contenders, "best_s")
        ratio = f"{contenders[peer]['best_s'] / ours:.2f}" if peer and ours else ""
        body.append([name, *cells, ratio])
    return lines(["", *names, "best peer / graphc"], body)


def plain(
    rows: Mapping[str, Row], names: Sequence[str], cell: Callable[[Figures | None], str]
) -> list[str]:
    """A table of a cell per row and contender."""
    body = [[name, *(cell(row["contenders"].get(n)) for n in names)] for name, row in rows.items()]
    return lines(["", *names], body)


def _first(figures: Figures | None) -> str:
    cold = cell(figures, "first_s", 1)
    if figures and cold and "warm_first_s" in figures:
        return f"{cold} / {number(figures['warm_first_s'])}"
    return cold


def geometric_mean(rows: Mapping[str, Row]) -> float | None:
    """Of the ratios to the best peers."""
    ratios = [row["speedup"] for row in rows.values() if "speedup" in row]
    return float(np.exp(np.mean(np.log(ratios)))) if ratios else None


def present(rows: Mapping[str, Row]) -> list[str]:
    """The contenders that have figures in some row."""
    seen = {n for row in rows.values() for n, f in row["contenders"].items() if "step_s" in f}
    return [n for n in CONTENDERS if n in seen]


def _notes(rows: Mapping[str, Row]) -> list[str]:
    """What makes figures less certain."""
    quick = ", ".join(n for n, row in rows.items() if row.get("quick"))
    disturbed = ", ".join(
        f"{n} ({row['others']:.0%})" for n, row in rows.items() if row.get("others", 0.0) > 0.05
    )
    return [
        *([f"Measured quickly: {quick}."] if quick else []),
        *([f"Others used the processors meanwhile: {disturbed}."] if disturbed else []),
    ]


def _agreement(row: Row) -> str:
    """How far the contenders' results are from ours at most."""
    found = {n: f["difference"] for n, f in row["contenders"].items() if "step_s" in f}
    found = {n: d for n, d in found.items() if n != OURS}
    if not found:
        return ""
    last = max(found, key=lambda n: found[n])
    return f" (results agree to {found[last]:.1g}, {last})"


def markdown(contents: Mapping[str, Any]) -> str:
    """The page of a machine."""
    rows, names = contents["rows"], present(contents["rows"])
    limits, mean = contents["limits"], geometric_mean(rows)
    said = [
        f"{name} {line}" for name, row in rows.items() for line in failures(row)
    ] or ["all contenders computed the same"]  # fmt: skip
    absent = sorted(
        {
            f"{n}: {f['absent']}"
            for row in rows.values()
            for n, f in row["contenders"].items()
            if "absent" in f
        }
    )
    versions = ", ".join(f"{n} {v}" for n, v in contents["versions"].items())
    notes = _notes(rows)
    page = [
        f"# {contents['processor']}, {contents['threads']} threads, float32", "",
        f"Written by `make bench`. {versions}.", "",
        f"Limits: {limits['bytes_per_s'] / 1e9:.1f} GB/s (triad), "
        f"{limits['flops_per_s'] / 1e9:.0f} GFLOP/s (multiply-add).",
        "A row's limit is the time for what its definition reads, writes and multiplies; who "
        "multiplies less (Winograd's convolutions) may go beyond.",
        *notes, "",
        "## Milliseconds per step (median of rounds)", "", *_times(rows, names), "",
        *([f"Geometric mean of best peer / graphc: {mean:.2f}; target {MEAN}", ""] if mean else []),
        "## Short of the target", "",
        *(f"- {line}" for line in shortfalls(rows, mean) or ["nothing"]), "",
        "## Milliseconds per step in the best round", "", *_best_rounds(rows, names), "",
        "## Seconds until the first step is done: cold / from the cache on disk", "",
        *plain(rows, names, _first), "",
        "## Peak memory of the process, MB", "",
        *plain(rows, names, lambda f: cell(f, "peak_bytes", 1e-6)), "",
        "## Rows", "",
        *(f"- {name}: {row['title']}{_agreement(row)}" for name, row in rows.items()), "",
        "## Results", "", *(f"- {line}" for line in [*said, *absent]), "",
    ]  # fmt: skip
    return "\n".join(page)


# -- the plot

_COLORS = {
    "graphc": "#d62728", "graphc-numpy": "#ff9896", "numpy": "#7f7f7f", "torch": "#ff7f0e",
    "torch.compile": "#8c564b", "jax": "#1f77b4", "tf1": "#2ca02c", "tf.function": "#98df8a",
    "onnxruntime": "#9467bd",
}  # fmt: skip


def plot(contents: Mapping[str, Any], path: Path, heading: str = "") -> None:
    """Per row, each contender's time over the best peer's; left of 1 is faster than all peers."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    rows = {n: r for n, r in contents["rows"].items() if "best_peer" in r}
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.42 * max(len(rows), 1)))
    for name in present(rows):
        points = []
        for y, row in enumerate(rows.values()):
            best = row["contenders"][row["best_peer"]]["step_s"]
            step_s = row["contenders"].get(name, {}).get("step_s")
            points += [(step_s / best, y)] if step_s else []
        ours = name == OURS
        axes.scatter(
            *zip(*points, strict=True), label=name, color=_COLORS[name], s=90 if ours else 36,
            marker="D" if ours else "o", zorder=3 if ours else 2, edgecolors="black",
            linewidths=0.8 if ours else 0.3, alpha=1.0 if ours else 0.85,
        )  # fmt: skip
    for y, row in enumerate(rows.values()):
        best = row["contenders"][row["best_peer"]]["step_s"]
        if row["limit_s"]:
            axes.plot([row["limit_s"] / best] * 2, [y - 0.3, y + 0.3], color="black", lw=1.2)
    axes.axvline(1.0, color="gray", lw=0.8, ls="--", zorder=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [f"{n}  {_short(r['title'])}" for n, r in rows.items()])
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("time per step / best peer's (bars: the machine's limit)")
    axes.set_title(heading, fontsize=10)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _short(title: str) -> str:
    return title if len(title) < 40 else title.split(",")[0].split(" (")[0]


def write(contents: Mapping[str, Any], json_path: Path) -> list[Path]:
    """The page and the plot beside the JSON."""
    heading = f"{contents['processor']}, {contents['threads']} threads"
    return write_beside(json_path, contents, markdown(contents), heading)


def write_beside(
    json_path: Path, contents: Mapping[str, Any], text: str, heading: str
) -> list[Path]:
    """A page of that text and the plot; the plot only where matplotlib is there."""
    page = json_path.with_suffix(".md")
    page.write_text(text)
    picture = json_path.with_suffix(".png")
    try:
        plot(contents, picture, heading)
    except ImportError as error:
        print(f"no plot: {error}")
        return [json_path, page]
    return [json_path, page, picture]


__all__ = [
    "add_row", "best_peer", "failures", "markdown", "plot", "row_figures", "with_contenders",
    "with_least", "write", "write_beside",
]  # fmt: skip
