"""Tables of results as text: Markdown, LaTeX, HTML, CSV. Imports no torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from html import escape
from itertools import groupby

from leaf_fer.bench.comparison import LOWER, UPPER, Column, Entry, Table

DASH = "\N{EN DASH}"

BOUNDS = {LOWER: "lower bound", UPPER: "upper bound"}

FIELDS = (
    *("row", "data", "labels", "selection", "metric", "mean", "std", "seeds", "expected_seeds"),
    *("paper", "difference", "rank", "note", "commits"),
)
"""Columns of the CSV."""

STYLE = """\
:root { color-scheme: light dark; --ink: #1a1a1a; --gray: #595959; --page: #fff; --line: #d0d0d0;
  --best: #dcefdc; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --gray: #a8a8a8; --page: #161616; --line: #444; --best: #1f3d26; } }
body { font: 14px/1.4 system-ui, sans-serif; color: var(--ink); background: var(--page);
  margin: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; vertical-align: top; }
th[scope=row] { text-align: left; position: sticky; left: 0; background: var(--page);
  font-weight: normal; }
thead th { border-bottom: 2px solid var(--gray); }
thead th[colspan] { border-bottom: 1px solid var(--line); text-align: center; }
small, .missing, .notes { color: var(--gray); }
small { display: block; }
.best { background: var(--best); } .best .value { font-weight: bold; }
.second .value { text-decoration: underline; text-underline-offset: .2em; }
"""


def markdown(tables: Sequence[Table], notes: Sequence[str]) -> str:
    """Tables as GitHub shows them: the best is bold, the second italic."""
    parts = []
    for table in tables:
        head = ["", *(f"{data}, {_labels(labels)}" for data, labels in table.columns)]
        lines = [
            f"## {_title(table)}",
            "",
            _piped(head),
            _piped(["---", *["---:"] * len(head[1:])]),
        ]
        for name, entries in table.rows.items():
            lines.append(_piped([_label(name), *(_markdown_entry(entry) for entry in entries)]))
        parts.append("\n".join(lines))
    said = [*notes, _legend(tables, "Bold", "italic")]
    parts.append("\n".join(f"* {note}" for note in said))
    return "\n\n".join(parts) + "\n"


def latex(tables: Sequence[Table], notes: Sequence[str]) -> str:
    """Tables that need no package: the best is bold, the second underlined."""
    parts = [_latex_table(table) for table in tables]
    said = [*notes, _legend(tables, "Bold", "underlined")]
    parts.append("\n".join(f"% {note}" for note in said))
    return "\n\n".join(parts) + "\n"


def html(tables: Sequence[Table], notes: Sequence[str]) -> str:
    """A page of its own, for light and dark screens: the best is bold, the second underlined."""
    said = [*notes, _legend(tables, "Bold", "underlined")]
    body = "\n".join(_html_table(table) for table in tables)
    listed = "\n".join(f"<li>{escape(note)}</li>" for note in said)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n<title>Results</title>\n'
        f"<style>\n{STYLE}</style>\n</head>\n<body>\n{body}\n"
        f'<ul class="notes">\n{listed}\n</ul>\n</body>\n</html>\n'
    )


def comma_separated(tables: Sequence[Table], notes: Sequence[str]) -> str:
    """A line for each row, column and selection, for programs; numbers in percent, not rounded."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    for table in tables:
        for name, entries in table.rows.items():
            for (data, labels), e in zip(table.columns, entries, strict=True):
                numbers = [e.mean, e.deviation, len(e.percents), e.expected, e.paper, e.difference]
                place = [name, data, labels or "none", table.selection, table.metric]
                writer.writerow(
                    [*place, *map(_plain, numbers), e.rank or "", e.note, " ".join(e.commits)]
                )
    return text.getvalue()


FORMATS: dict[str, Callable[[Sequence[Table], Sequence[str]], str]] = {
    "markdown": markdown,
    "latex": latex,
    "csv": comma_separated,
    "html": html,
}


def _latex_table(table: Table) -> str:
    groups = _grouped(table.columns)
    spans = " & ".join(rf"\multicolumn{{{len(g)}}}{{c}}{{{_tex(data)}}}" for data, g in groups)
    heads = " & ".join(_tex(_labels(labels)) for _, labels in table.columns)
    lines = [
        f"% {_title(table)}",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\hline",
        rf" & {spans} \\",
        rf" & {heads} \\",
        r"\hline",
    ]
    for name, entries in table.rows.items():
        cells = " & ".join(_latex_entry(entry) for entry in entries)
        lines.append(rf"{_tex(_label(name))} & {cells} \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}"])


def _html_table(table: Table) -> str:
    groups = _grouped(table.columns)
    spans = "".join(f'<th colspan="{len(g)}">{escape(data)}</th>' for data, g in groups)
    heads = "".join(f"<th>{escape(_labels(labels))}</th>" for _, labels in table.columns)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(_label(name))}</th>{"".join(map(_html_entry, entries))}</tr>'
        for name, entries in table.rows.items()
    )
    return (
        f'<h2>{escape(_title(table))}</h2>\n<div class="wide">\n<table>\n'
        f'<thead>\n<tr><th rowspan="2"></th>{spans}</tr>\n<tr>{heads}</tr>\n</thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table>\n</div>"
    )


def _markdown_entry(entry: Entry) -> str:
    mark = {1: "**", 2: "*"}.get(entry.rank, "")
    return _joined(f"{mark}{_value(entry)}{mark}", entry)


def _latex_entry(entry: Entry) -> str:
    value = _value(entry).replace("±", r"$\pm$").replace(DASH, "--")
    mark = {1: r"\textbf", 2: r"\underline"}.get(entry.rank)
    beside = _beside(entry).replace("+", "$+$").replace("-", "$-$")
    small = rf" {{\scriptsize {beside}}}" if beside else ""
    return (f"{mark}{{{value}}}" if mark else value) + small


def _html_entry(entry: Entry) -> str:
    kind = {1: "best", 2: "second"}.get(entry.rank, "" if entry.percents else "missing")
    beside = escape(_beside(entry)).replace("-", "&minus;")
    small = f"<small>{beside}</small>" if beside else ""
    name = f' class="{kind}"' if kind else ""
    return f'<td{name}><span class="value">{_value(entry)}</span>{small}</td>'


def _joined(value: str, entry: Entry) -> str:
    beside = _beside(entry)
    return f"{value} ({beside})" if beside else value


def _value(entry: Entry) -> str:
    """``52.31 ± 0.45``, or a dash."""
    if entry.mean is None:
        return DASH
    spread = "" if entry.deviation is None else f" ± {entry.deviation:.2f}"
    return f"{entry.mean:.2f}{spread}"


def _beside(entry: Entry) -> str:
    """``paper 52.20, +0.11; 2 of 3 seeds``, as much of it as there is."""
    words = [] if entry.paper is None else [f"paper {entry.paper:.2f}"]
    if entry.difference is not None:
        words = [f"{words[0]}, {entry.difference:+z.2f}"]
    return "; ".join([*words, *([entry.note] if entry.note else [])])


def _title(table: Table) -> str:
    weights = "last step" if table.selection == "last" else "step that was best on validation"
    return f"{table.metric.capitalize()} accuracy, {weights}"


def _label(name: str) -> str:
    return f"{name} ({BOUNDS[name]})" if name in BOUNDS else name


def _labels(labels: str | None) -> str:
    return "all labels" if labels is None else f"{labels} labels" if labels.isdecimal() else labels


def _legend(tables: Sequence[Table], best: str, second: str) -> str:
    entries = [entry for table in tables for row in table.rows.values() for entry in row]
    beside = (
        " Beside it, the paper's number and the difference."
        if any(entry.paper is not None for entry in entries)
        else ""
    )
    return f"{best}: best of its column, {second}: second; the upper bound is left out.{beside}"


def _grouped(columns: Sequence[Column]) -> list[tuple[str, list[Column]]]:
    return [(data, list(group)) for data, group in groupby(columns, key=lambda c: c[0])]


def _piped(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _plain(number: float | None) -> str:
    return "" if number is None else f"{number:.10g}"


def _tex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, "\\" + c if c in "_%&#${}" else c) for c in text)
