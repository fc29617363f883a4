"""results.json, and what is made of it: RESULTS.md and the plots."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from benchmarks.measure import Goal, Section, Trial

__all__ = ["publish", "store"]

HERE = Path(__file__).parent
RESULTS, REASONS, REPORT = HERE / "results.json", HERE / "reasons.json", HERE / "RESULTS.md"
PLOTTED = "lineitem"


def store(group: str, section: Section, machine: dict[str, Any]) -> None:
    """Put a section in the place of the one of the same group."""
    kept = _kept()
    kept[group] = {**machine, **section.to_json()}
    RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def publish(order: list[str]) -> None:
    """Write the report and the plots from all that is stored."""
    kept = _kept()
    sections = [(kept[group], Section.of(kept[group])) for group in order if group in kept]
    reasons = json.loads(REASONS.read_text(encoding="utf-8"))
    parts = [
        HEAD.format(
            note=reasons.get("note", ""),
            rows="\n".join(_goal(goal, reasons) for _, each in sections for goal in each.goals),
        )
    ]
    parts += [_section(about, section) for about, section in sections]
    REPORT.write_text("\n".join(parts), encoding="utf-8")
    for _, section in sections:
        for trial in section.trials:
            if trial.name == PLOTTED:
                _plot(trial)


def _kept() -> dict[str, Any]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


HEAD = """# Results

Written by `make bench` from [results.json](results.json), which has every round. Seconds are medians of rounds in
which the sides take turns, each in a process of its own; the slow ones take part in fewer. Ours are from the request to
the last swap, a peer's are its work without imports. Memory is the peak of the process and its children, CPU is that of
the whole process.
{note}
![Seconds and peak memory for lineitem, RuntimeDB against the peers](lineitem.png)

## Goals
| goal | figure | met | why not |
| --- | --- | --- | --- |
{rows}
"""


def _goal(goal: Goal, reasons: dict[str, str]) -> str:
    reason = "" if goal.met else reasons.get(goal.id, "")
    group = goal.id.partition("-")[0]
    return f"| {group}: {goal.goal} | {goal.figure} | {'yes' if goal.met else '**no**'} | {reason} |"


def _section(kept: dict[str, Any], section: Section) -> str:
    lines = [
        f"## {section.title}",
        f"{section.about} Taken {kept['taken']}, scale {kept['scale']:g}, on {kept['on']}.",
        "",
    ]
    for trial in section.trials:
        lines += _table(trial)
    lines += [f"- {note}" for note in section.notes]
    return "\n".join([*lines, ""])


def _table(trial: Trial) -> list[str]:
    each = " | each" if trial.amount else ""
    said = any(result.wrong for result in trial.results)
    head = f"| {trial.name} | seconds | ratio{each} | peak MB | CPU s | rounds |" + (
        f" {trial.wrong} |" if said else ""
    )
    lines = [head, "| --- " * (head.count("|") - 1) + "|"]
    for result in trial.results:
        if result.failed and not result.seconds:
            cells = [f"does not run: {_cell(result.failed)}", *[""] * (4 + bool(each))]
        else:
            one = [f"{1000 * result.median / trial.amount:.2f} ms"] if trial.amount else []
            cpu = sorted(result.cpu)[len(result.cpu) // 2]
            cells = [_seconds(result.median), f"{result.median / trial.results[0].median:.2f}", *one,
                     f"{result.peak:.0f}", f"{cpu:.1f}", str(len(result.seconds))]  # fmt: skip
        lines.append(f"| {result.name} | {' | '.join(cells)} |" + (f" {_cell(result.wrong or '')} |" if said else ""))
    return [*lines, ""]


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds >= 1 else f"{seconds:.4f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _plot(trial: Trial) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = [result for result in trial.results if not math.isnan(result.median)][::-1]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 0.45 * len(shown) + 1.2), sharey=True)
    colours = ["#1f6feb" if result.name == "RuntimeDB" else "#b0b7c3" for result in shown]
    names = [result.name for result in shown]
    for axis, values, what in (
        (left, [result.median for result in shown], "seconds"),
        (right, [result.peak for result in shown], "peak memory, MB"),
    ):
        axis.bar_label(axis.barh(names, values, color=colours), fmt="%.1f" if axis is left else "%.0f", padding=3)
        axis.set_xlabel(what)
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(HERE / f"{trial.name}.png", dpi=110)
    plt.close(figure)
