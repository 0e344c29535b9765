"""Tables of results as text: Markdown, LaTeX, HTML, CSV. Imports no torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from html import escape
from itertools import groupby, zip_longest

from leaf_fer.bench.comparison import LOWER, METRICS, UPPER, Column, Entry, Table

DASH = "\N{EN DASH}"

BOUNDS = {LOWER: "lower bound", UPPER: "upper bound"}

FIELDS = (
    *("row", "data", "labels", "selection", "metric", "mean", "std", "seeds", "expected_seeds"),
    *("paper", "difference", "rank", "note", "commits", "against", "ahead"),
)
"""Columns of the CSV."""

LETTERS = {letter: f"\\{letter}" for letter in "_%&#${}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}
"""Letters that LaTeX takes for something else, or shows as something else in its first fonts."""

PACKAGES = r"""% Needs \usepackage{booktabs}.
% Where it is wider than the page: \usepackage{graphicx} and \resizebox{\linewidth}{!}{...}."""

STYLE = """\
:root { color-scheme: light dark; --ink: #1a1a1a; --gray: #595959; --page: #fff; --line: #d0d0d0;
  --best: #dcefdc; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --gray: #a8a8a8; --page: #161616; --line: #444; --best: #1f3d26; } }
body { font: 14px/20px system-ui, sans-serif; color: var(--ink); background: var(--page);
  margin: min(2rem, 4vw); }
h2 { line-height: 1.3; }
.wide { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 11px; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; vertical-align: top; }
th[rowspan], th[scope=row] { position: sticky; left: 0; background: var(--page); }
th[scope=row] { text-align: left; font-weight: normal; white-space: normal; }
thead th { border-bottom: 2px solid var(--gray); }
thead th[colspan] { border-bottom: 1px solid var(--line); text-align: center; }
small, .missing, .notes { color: var(--gray); }
small { display: block; font-size: 12px; line-height: 16px; }
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
    """Tables for the package booktabs: the best is bold, the second underlined."""
    body = "\n\n\\bigskip\n".join(_latex_table(table) for table in tables)
    said = [*notes, _legend(tables, "Bold", "underlined")]
    return "\n".join([PACKAGES, body, *(f"% {note}" for note in said)]) + "\n"


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
                besides = [e.rank or "", e.note, " ".join(e.commits)]
                besides += [table.against or "", e.ahead if e.relative else ""]
                writer.writerow([*place, *map(_plain, numbers), *besides])
    return text.getvalue()


FORMATS: dict[str, Callable[[Sequence[Table], Sequence[str]], str]] = {
    "markdown": markdown,
    "latex": latex,
    "csv": comma_separated,
    "html": html,
}


def _latex_table(table: Table) -> str:
    accuracy, weights = map(_tex, _headings(table))
    unit = r"\%" if table.against is None else "percentage points"
    spans, rules, last = [f"{accuracy} in {unit}"], [], 1
    for data, group in _grouped(table.columns):
        first, last = last + 1, last + len(group)
        spans.append(rf"\multicolumn{{{len(group)}}}{{c}}{{{_tex(data)}}}")
        rules.append(rf"\cmidrule(lr){{{first}-{last}}}")
    heads = [weights, *(_tex(_labels(labels)) for _, labels in table.columns)]
    rows = [_latex_row(name, entries) for name, entries in table.rows.items()]
    gap = "\\addlinespace\n" if any("\n" in row for row in rows) else ""
    lines = [
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        rf"{' & '.join(spans)} \\",
        " ".join(rules),
        rf"{' & '.join(heads)} \\",
        r"\midrule",
        f"\n{gap}".join(rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines)


def _latex_row(name: str, entries: Sequence[Entry]) -> str:
    """What stands beside the values goes below them, which keeps the columns narrow."""
    lines = [[_tex(_label(name)), *map(_latex_value, entries)]]
    for besides in zip_longest(*map(_beside, entries), fillvalue=""):
        small = map(_tex_signs, besides)
        lines.append(["", *(rf"\scriptsize {text}" if text else "" for text in small)])
    return "\n".join(rf"{' & '.join(line)} \\" for line in lines)


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


def _latex_value(entry: Entry) -> str:
    value = _tex_signs(_value(entry)).replace("±", r"$\pm$").replace(DASH, "--")
    mark = {1: r"\textbf", 2: r"\underline"}.get(entry.rank)
    return f"{mark}{{{value}}}" if mark else value


def _html_entry(entry: Entry) -> str:
    kind = {1: "best", 2: "second"}.get(entry.rank, "" if entry.percents else "missing")
    value, *beside = (
        escape(text).replace("-", "&minus;") for text in (_value(entry), *_beside(entry))
    )
    small = "".join(f"<small>{text}</small>" for text in beside)
    name = f' class="{kind}"' if kind else ""
    return f'<td{name}><span class="value">{value}</span>{small}</td>'


def _joined(value: str, entry: Entry) -> str:
    beside = "; ".join(_beside(entry))
    return f"{value} ({beside})" if beside else value


def _value(entry: Entry) -> str:
    """``52.31 ± 0.45``, a difference with its sign, or a dash."""
    if entry.mean is None:
        return DASH
    spread = "" if entry.deviation is None else f" ± {entry.deviation:.2f}"
    return f"{_number(entry.mean, entry)}{spread}"


def _number(percent: float, entry: Entry) -> str:
    return f"{percent:+z.2f}" if entry.relative else f"{percent:.2f}"


def _beside(entry: Entry) -> list[str]:
    """``["paper 52.20, +0.11", "2 of 3 seeds"]``, as much of it as there is."""
    words = [] if entry.paper is None else [f"paper {_number(entry.paper, entry)}"]
    if entry.relative:
        words = (
            [f"ahead {entry.ahead} of {len(entry.percents)}", *words] if entry.percents else words
        )
    elif entry.difference is not None:
        words = [f"{words[0]}, {entry.difference:+z.2f}"]
    return [*words, *([entry.note] if entry.note else [])]


def _headings(table: Table) -> tuple[str, str]:
    """What is measured, and of which weights."""
    weights = "last step" if table.selection == "last" else "step that was best on validation"
    accuracy = METRICS[table.metric][1]
    return (
        accuracy if table.against is None else f"{accuracy} minus that of {table.against}",
        weights,
    )


def _title(table: Table) -> str:
    return ", ".join(_headings(table))


def _label(name: str) -> str:
    return f"{name} ({BOUNDS[name]})" if name in BOUNDS else name


def _labels(labels: str | None) -> str:
    return "all labels" if labels is None else f"{labels} labels" if labels.isdecimal() else labels


def _legend(tables: Sequence[Table], best: str, second: str) -> str:
    entries = [entry for table in tables for row in table.rows.values() for entry in row]
    words = [f"{best}: best of its column, {second}: second; the upper bound is left out."]
    if any(entry.paper is not None for entry in entries):
        words.append("Then come the paper's number and the difference.")
    if any(entry.relative for entry in entries):
        words.append(
            "Differences are in percentage points, between runs of the same labels and seeds; in "
            "how many of them the row is ahead is said."
        )
    return " ".join(words)


def _grouped(columns: Sequence[Column]) -> list[tuple[str, list[Column]]]:
    return [(data, list(group)) for data, group in groupby(columns, key=lambda c: c[0])]


def _piped(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _plain(number: float | None) -> str:
    return "" if number is None else f"{number:.10g}"


def _tex_signs(text: str) -> str:
    return text.replace("+", "$+$").replace("-", "$-$")


def _tex(text: str) -> str:
    return "".join(LETTERS.get(letter, letter) for letter in text)
