"""What trained models get wrong on FERPlus, beside the votes of its ten annotators.

    python benchmarks/errors.py MODEL [MORE ...] --data ferplus:PATH --out FOLDER
        [--part validation] [--mass 0.9] [--faces 40]

MODEL is a model folder, or that of a run. Every model classifies the part once. A table is printed,
and FOLDER gets errors.json (leaf_fer.report.ambiguity says what its numbers are), errors.png and
errors.svg, also for dark pages, and faces.png, the most confident errors with all ten votes; of
several models faces-NAME.png. Elsewhere votes for "unknown" and "not a face" do not count. In the
figure, annotators are a single one of them, and the smallest sets that hold T of the votes.
Sheets of faces show people: they are not for the repository, nor for publication.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from leaf_fer import functional as fn
from leaf_fer.allocator import keep_memory
from leaf_fer.bench.plot import pictures
from leaf_fer.bench.plots.votes import MASSES, draw
from leaf_fer.data.ferplus import VOTED, read_votes
from leaf_fer.data.sources import locate, read_faces
from leaf_fer.data.store import Store, prepare
from leaf_fer.data.table import EXPRESSIONS
from leaf_fer.data.views import Images
from leaf_fer.errors import UserError, say
from leaf_fer.files import write_json
from leaf_fer.metrics import summarize
from leaf_fer.predict import Predictor, load
from leaf_fer.report import ambiguity, prediction_sheet
from leaf_fer.report.facts import confident_errors
from leaf_fer.report.page import plain_style, save

Facts = dict[str, Any]


def load_models(folders: Sequence[str]) -> dict[str, Predictor]:
    """Models by the names of their folders.

    Raises:
        UserError: not a model, not one of FERPlus' classes, or two of the same name.
    """
    found: dict[str, Predictor] = {}
    for folder in folders:
        path = Path(folder).absolute()
        name = path.parent.name if path.name == "model" else path.name
        if name in found:
            raise UserError(f"{folder}: two models are called {name}; rename a folder")
        found[name] = load(path)
        if found[name].classes != EXPRESSIONS:
            raise UserError(
                f"{folder}: its classes are {', '.join(found[name].classes)}; "
                f"expected those of FERPlus: {', '.join(EXPRESSIONS)}"
            )
    return found


@dataclass(frozen=True)
class Part:
    """Labeled faces of a part: rows and targets (N,), all ten votes (N, 10), of classes (N, 8)."""

    rows: NDArray[np.int64]
    targets: NDArray[np.int64]
    ballots: NDArray[np.int64]

    @property
    def votes(self) -> NDArray[np.int64]:
        """Votes for expressions."""
        return self.ballots[:, : len(EXPRESSIONS)]


def examine(probabilities: NDArray[np.float32], part: Part, mass: float) -> Facts:
    """What errors.json says about a model with probabilities (N, 8)."""
    predictions, targets, votes = probabilities.argmax(axis=1), part.targets, part.votes

    def sets(mass: float) -> Facts:
        chosen = fn.candidate_set(torch.from_numpy(probabilities), mass).numpy()
        return ambiguity.set_facts(chosen, probabilities, targets, votes, EXPRESSIONS, mass)

    return {
        **summarize(probabilities, targets, EXPRESSIONS),
        "confused": ambiguity.confused_pairs(predictions, targets, votes, EXPRESSIONS),
        "agreement": ambiguity.accuracy_by_agreement(predictions, targets, votes),
        "errors": ambiguity.error_facts(predictions, targets, votes),
        "distance": ambiguity.distance(probabilities, votes),
        "candidates": sets(mass),
        "masses": [sets(each) for each in MASSES],
    }


def draw_faces(
    probabilities: NDArray[np.float32], part: Part, store: Store, most: int, path: Path
) -> None:
    """A sheet of the most confident errors, if there are any, with all ten votes."""
    said, sure = probabilities.argmax(axis=1), probabilities.max(axis=1).clip(0, 1)
    worst = confident_errors(probabilities, part.targets, most)
    if len(worst):
        truth, predicted = ([EXPRESSIONS[c] for c in of[worst]] for of in (part.targets, said))
        notes = [f"votes: {ambiguity.in_words(votes, VOTED)}" for votes in part.ballots[worst]]
        pixels = store.gather(part.rows[worst])
        prediction_sheet(pixels, truth, predicted, sure[worst].tolist(), path, notes=notes)


def percent(value: float | None) -> str:
    """A share as the table has it."""
    return "-" if value is None else f"{100 * value:.1f}"


def decimal(value: float | None) -> str:
    """A number as the table has it."""
    return "-" if value is None else f"{value:.3f}"


TABLE: dict[str, Callable[[Facts], str]] = {
    "overall accuracy, %": lambda m: percent(m["overall_accuracy"]),
    "balanced accuracy, %": lambda m: percent(m["balanced_accuracy"]),
    "calibration error (ECE), %": lambda m: percent(m["ece"]),
    "errors": lambda m: f"{m['errors']['count']:,}",
    "- somebody voted for the class, %": lambda m: percent(m["errors"]["voted"]),
    "- at least two voted for it, %": lambda m: percent(m["errors"]["voted_twice"]),
    "- it is second in votes, %": lambda m: percent(m["errors"]["second"]),
    "- the same for a wrong class at random, %": lambda m: percent(m["errors"]["second_by_chance"]),
    "KL of the votes, nats": lambda m: decimal(m["distance"]["kl"]),
    "Jensen-Shannon distance": lambda m: decimal(m["distance"]["js"]),
    "candidate sets: mean size": lambda m: f"{m['candidates']['size']:.2f}",
    "- share of the votes held, %": lambda m: percent(m["candidates"]["vote_share"]),
    "- probability held, %": lambda m: percent(m["candidates"]["probability"]),
    "- true class inside, %": lambda m: percent(m["candidates"]["truth"]),
    "- all classes with a vote inside, %": lambda m: percent(m["candidates"]["all_voted"]["1"]),
    "- all with two votes inside, %": lambda m: percent(m["candidates"]["all_voted"]["2"]),
    "- same as that of the votes, %": lambda m: percent(m["candidates"]["same"]),
    "- size and entropy of the votes, r": lambda m: decimal(m["candidates"]["size_and_entropy"]),
}
"""What the rows of the table show."""


def table(facts: Facts) -> str:
    """The main figures in Markdown, one model a column."""
    models, human, mean = facts["models"], facts["annotators"], facts["mean_of_votes"]
    smallest = next(iter(models.values()))["candidates"]["smallest"]
    rows = [["", *models], ["---", *["---:"] * len(models)]]
    rows += [[name, *map(show, models.values())] for name, show in TABLE.items()]
    return "\n".join(
        [
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
            f"{facts['count']:,} images of the {facts['part']} part, mass T = {facts['mass']:g}. "
            f"One annotator agrees with the label on {percent(human['top_share'])} %; the smallest "
            f"sets that hold T of the votes have {smallest:.2f} classes. Always the mean of the "
            f"votes: KL {mean['kl']:.3f}, Jensen-Shannon distance {mean['js']:.3f}.",
        ]
    )


def run(command: argparse.Namespace) -> None:
    """Evaluate, write and print.

    Raises:
        UserError: a model, the data or an option is not usable.
    """
    check(command)
    models, faces = load_models(command.models), read_faces(command.data)
    assert faces.root is not None
    stores = {n: prepare(faces, m.card.architecture.image_size) for n, m in models.items()}
    rows = faces.rows(command.part)
    rows = rows[np.all([store.valid[rows] for store in stores.values()], axis=0)]
    if not len(rows):
        raise UserError(f"--part {command.part}: no labeled images there")
    ballots = read_votes(faces.root, [faces.names[row] for row in rows])
    part = Part(rows, faces.targets[rows], ballots)
    mean = ambiguity.shares_of(part.votes).mean(axis=0, keepdims=True)
    facts: Facts = {
        "data": "ferplus",
        "part": command.part,
        "count": len(rows),
        "mass": command.mass,
        "annotators": ambiguity.annotator_facts(part.votes),
        "mean_of_votes": ambiguity.distance(mean, part.votes),
        "models": {},
    }
    for name, model in models.items():
        images = Images(stores[name].images, model.device)
        found = model.score(images, rows, 256, progress=False)
        facts["models"][name] = examine(found, part, command.mass)
        sheet = "faces.png" if len(models) == 1 else f"faces-{name}.png"
        draw_faces(found, part, stores[name], command.faces, command.out / sheet)
    write_json(command.out / "errors.json", facts)
    with plain_style():
        for path, theme in pictures(f"{command.out / 'errors'}", "both"):
            save(draw(facts, theme), path)
    print(table(facts))


def check(command: argparse.Namespace) -> None:
    """Refuse what cannot be done before anything takes time, and make the folder.

    Raises:
        UserError: an option is not usable.
    """
    if not 0 <= command.mass <= 1:
        raise UserError(f"--mass {command.mass:g}: expected a number in [0, 1]")
    if command.faces < 0:
        raise UserError(f"--faces {command.faces}: expected a number >= 0")
    if locate(command.data)[0] != "ferplus":
        raise UserError(f"--data {command.data}: expected ferplus:PATH, which has votes")
    try:
        command.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {command.out}: cannot be written: {error.strerror}") from error


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--data", required=True, metavar="ferplus:PATH")
    parser.add_argument("--part", choices=("validation", "test"), default="validation")
    parser.add_argument("--mass", type=float, default=0.9, help="T of the candidate sets")
    parser.add_argument("--faces", type=int, default=40, help="on a sheet, at most; 0 for none")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    keep_memory()
    try:
        run(parser.parse_args())
    except UserError as error:
        say(f"errors.py: error: {error}")
        sys.exit(2)


if __name__ == "__main__":
    main()
