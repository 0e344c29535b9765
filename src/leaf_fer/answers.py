"""Predictions as people or programs want to read them."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Sequence

from leaf_fer.predict import Prediction

Writer = Callable[[Iterable[Prediction], Sequence[str]], Iterable[Prediction]]
"""Prints predictions as they come, of so many classes, and hands them on."""


def _write_table(found: Iterable[Prediction], classes: Sequence[str]) -> Iterable[Prediction]:
    width = max(len("not sure"), *map(len, classes))
    for one in found:
        if one.scores is None:
            print(f"{'error':{width}}      -  {one.path}  ({one.error})")
        else:
            ranked = sorted(one.scores.items(), key=lambda item: -item[1])
            rest = ranked[1:3] if one.label else ranked[:3]
            others = ", ".join(f"{name} {100 * p:.0f} %" for name, p in rest)
            if one.candidates is not None:
                others = f"{others}; candidates: {', '.join(one.candidates)}"
            label, sure = one.label or "not sure", 100 * (one.confidence or 0)
            print(f"{label:{width}}  {sure:3.0f} %  {one.path}  ({others})")
        yield one


def _write_json(found: Iterable[Prediction], classes: Sequence[str]) -> Iterable[Prediction]:
    print("[", end="")
    for number, one in enumerate(found):
        text = json.dumps({**vars(one), "path": str(one.path)})
        print(f"{',' if number else ''}\n  {text}", end="")
        yield one
    print("\n]")


def _write_csv(found: Iterable[Prediction], classes: Sequence[str]) -> Iterable[Prediction]:
    writer = csv.writer(sys.stdout)
    writer.writerow(["path", "label", "confidence", *classes, "candidates", "error"])
    for one in found:
        scores = [(one.scores or {}).get(name) for name in classes]
        candidates = ";".join(one.candidates or ())
        writer.writerow([one.path, one.label, one.confidence, *scores, candidates, one.error])
        yield one


WRITERS: dict[str, Writer] = {"table": _write_table, "json": _write_json, "csv": _write_csv}
