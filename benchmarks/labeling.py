"""Labels that the page of `leaf label` asks for, against labels of faces drawn at random.

    python benchmarks/labeling.py PATH --model WEIGHTS --out runs/labeling
    cd runs/labeling/seed0
    leaf bench run ../recipe.yaml --seeds 0 --data ferplus=PATH --out ../runs
    cd ../seed1    and so on for every seed, in the folder of its lists; then
    leaf bench table ../runs

PATH, not a relative one, is FERPlus in its official layout; WEIGHTS are what training starts from,
and faces are compared as they see them. In the place of a person, the votes of FERPlus answer:
their majority, or with --person annotator one of the ten, drawn for every face, who may also say
that it cannot be told or is not a face. All else is what the page does: the same choice of faces,
the same journal, the same list of labels. For every seed and order the labels are written once 100
and 200 faces have one (--budgets), as seedS/ORDER-BUDGET.csv. selection.jsonl has the number of
labels of each class, and a quick look at what they are worth: a logistic regression on the features
of these faces, measured on all other training faces. The recipe names lists without their folder,
so that a table takes those of all seeds for one experiment.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from leaf_fer.bench.machine import commit
from leaf_fer.data import ferplus
from leaf_fer.data.store import Store, prepare
from leaf_fer.data.table import EXPRESSIONS, UNKNOWN, FaceTable
from leaf_fer.labeling import features, order
from leaf_fer.labeling.arguments import ORDERS
from leaf_fer.labeling.command import named
from leaf_fer.labeling.desk import Desk, Order
from leaf_fer.labeling.export import list_of_labels
from leaf_fer.labeling.faces import Faces
from leaf_fer.labeling.journal import Journal
from leaf_fer.metrics import summarize

TAB = "0" * 32
SETTINGS = {
    "data": "ferplus",
    "method": "leaf",
    "backbone": "mobilenetv1_vggface2",
    "freeze": 4,
    "image_size": 112,
    "dropout": 0.5,
    "batch_size": 32,
    "unlabeled_ratio": 2,
    "steps": 300,
    "epoch_steps": 100,
}
"""Of the runs: those of the FERPlus column of Table 1 on a CPU (benchmarks/ferplus/column.yaml)."""

Person = Callable[[str], tuple[str, int | None]]
"""The name of a face -> what is said about it, and which class."""


def majority(table: FaceTable) -> Person:
    """Somebody who says what most of the ten annotators said."""
    targets = dict(zip(table.names, table.targets.tolist(), strict=True))
    return lambda name: ("label", targets[name])


def annotator(path: Path, table: FaceTable, seed: int) -> Person:
    """Somebody who says of every face what one of its ten annotators said."""
    votes = dict(zip(table.names, ferplus.read_votes(path, table.names), strict=True))
    generator = np.random.default_rng(seed)

    def say(name: str) -> tuple[str, int | None]:
        vote = int(generator.choice(len(ferplus.VOTED), p=votes[name] / votes[name].sum()))
        if vote < len(EXPRESSIONS):
            return "label", vote
        return ("reject" if ferplus.VOTED[vote] == "not a face" else "skip"), None

    return say


def to_ask(path: Path, most: int | None) -> Faces:
    """The training faces, or so many of them; no class is known."""
    table = ferplus.read(path)
    rows = np.sort(np.random.default_rng(0).permutation(table.rows("train"))[:most])
    names = [table.names[row] for row in rows]
    part = FaceTable(table.classes, names, table.targets[rows], table.parts[rows], root=path)
    return Faces(part, EXPRESSIONS, np.full(len(rows), UNKNOWN), np.arange(len(rows)))


def label(
    faces: Faces, store: Store, choose: Order, person: Person, budgets: list[int], out: Path
) -> list[dict[str, object]]:
    """Have a person label until the largest budget is spent; lists go to ``out``.

    Args:
        faces: what is asked about.
        store: the same faces, decoded.
        choose: which comes next.
        person: who answers.
        budgets: numbers of labels, ascending.
        out: ``FOLDER/ORDER``; ``-BUDGET.csv`` is appended. What is there already is replaced.

    Returns:
        For each budget how many labels every class has, and how many answers it took.
    """
    base = out.with_name(f"{out.name}.sqlite")
    base.unlink(missing_ok=True)
    journal = Journal(base, faces.classes)
    names = {number: name for name, number in journal.numbers(list(faces.table.names)).items()}
    desk = Desk(faces, journal, choose, store.valid, goal=1)
    records: list[dict[str, object]] = []
    held: list[int] = []
    for budget in budgets:
        labeled = 0
        while labeled < budget:
            shown = desk.offer(TAB, held)["faces"]
            if not shown:
                raise SystemExit(f"{labeled} labels, and no face is left; expected {budget}")
            held = [one["face"] for one in shown[1:]]
            kind, choice = person(names[shown[0]["face"]])
            progress = desk.answer(TAB, shown[0]["face"], kind, choice, 0)["progress"]
            labeled = progress["labeled"]
        text, _ = list_of_labels(faces, named(faces, journal))
        Path(f"{out}-{budget}.csv").write_text(text)
        counts = dict(zip(faces.classes, progress["counts"], strict=True))
        answers = Counter(answer.kind for answer in journal.answers().values())
        records.append({"labels": budget, "counts": counts, "answers": dict(answers)})
    journal.close()
    return records


def probe(
    labels: Path, faces: Faces, seen: NDArray[np.float32], rows: NDArray[np.int64]
) -> dict[str, float]:
    """Accuracies, in percent, of a linear classifier of features on the faces without a label."""
    row_of = {name: row for row, name in enumerate(faces.table.names)}
    said = [line.rsplit(",", 1) for line in labels.read_text().splitlines()[1:]]
    known = np.array([row_of[name] for name, _ in said])
    answers = np.array([EXPRESSIONS.index(label) for _, label in said])
    p = order.probabilities(seen, known, answers, len(EXPRESSIONS))
    truth = faces.table.targets
    others = np.setdiff1d(rows, known)
    found = summarize(p[others], truth[others], EXPRESSIONS)
    return {k: round(100 * found[f"{k}_accuracy"], 2) for k in ("balanced", "overall")}


def run(command: argparse.Namespace) -> None:
    """Choose with every seed and in every order; write lists, records and the recipe."""
    faces = to_ask(command.path, command.faces)
    encoder = features.plain()
    if command.model:
        from leaf_fer.labeling.network import network

        encoder = network(command.model)
    store = prepare(faces.table, encoder.size)
    command.out.mkdir(parents=True, exist_ok=True)
    seen = compared = features.features_of(store, encoder, command.out)
    if command.pixels:
        plain = features.plain()
        compared = features.features_of(prepare(faces.table, plain.size), plain, command.out)
    rows = np.flatnonzero(store.valid)
    about = {
        "person": command.person,
        "faces": len(rows),
        "features": encoder.key,
        "chosen by": "pixels" if command.pixels or not command.model else "model",
        "commit": commit(),
    }
    lines = []
    for seed, name in itertools.product(command.seeds, ORDERS):
        choose: Order = order.Random(len(faces.table), seed)
        if name == "useful":
            choose = order.Useful(compared, rows, len(EXPRESSIONS), seed)
        person = majority(faces.table)
        if command.person == "annotator":
            person = annotator(command.path, faces.table, seed)
        out = command.out / f"seed{seed}" / name
        out.parent.mkdir(exist_ok=True)
        for record in label(faces, store, choose, person, sorted(command.budgets), out):
            record["probe"] = probe(Path(f"{out}-{record['labels']}.csv"), faces, seen, rows)
            lines.append(json.dumps({"seed": seed, "order": name, **about, **record}))
            print(f"{name:7} seed {seed}, {record['labels']} labels: {record['counts']}")
    (command.out / "selection.jsonl").write_text("\n".join(lines) + "\n")
    (command.out / "recipe.yaml").write_text(recipe(command))


def recipe(command: argparse.Namespace) -> str:
    """The runs that compare the lists, for `leaf bench run`."""
    settings = dict(SETTINGS)
    if command.model:
        settings["init"] = str(command.model.resolve())
    else:  # a network from random weights, which has no first layers to keep
        settings |= {"backbone": "conv4", "freeze": 0, "image_size": 48}
    lists = [f"{name}-{budget}.csv" for budget in sorted(command.budgets) for name in ORDERS]
    content = {
        "title": "Labels that the page asks for, and labels of faces drawn at random",
        "seeds": command.seeds,
        "common": settings,
        "grid": {"labels": lists},
    }
    return yaml.safe_dump(content, sort_keys=False)


def main() -> None:
    """Choose, and write what to train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path)
    parser.add_argument("--model", type=Path, help="run or starting weights (pixels)")
    parser.add_argument(
        "--pixels", action="store_true", help="choose by pixels; --model is for all else"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/labeling"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budgets", type=int, nargs="+", default=[100, 200])
    parser.add_argument("--person", choices=("majority", "annotator"), default="majority")
    parser.add_argument("--faces", type=int, help="training faces to choose among (all)")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
