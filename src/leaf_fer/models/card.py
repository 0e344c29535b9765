"""The model card: what people must know about a model before they use it, from its own run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from leaf_fer.files import write_atomically
from leaf_fer.models.weights import Card

FILE = "README.md"
"""In a model folder, and the page of a model on the hub."""

PARTS = {"test": "the test part", "validation": "the validation part, held out of training"}

SELECTIONS = {
    "last": "the end of training",
    "best-on-validation": "the best epoch, chosen on the validation part",
}

USE = """\
For research on facial expressions, and for programs whose users know and agree that their faces
are looked at. The model names how a cropped face looks to the people who labeled such faces. It
does not know what a person feels, and nothing should be decided about a person by it.

**Not at work and not in schools.** The European Union's AI Act (Regulation (EU) 2024/1689,
Art. 5(1)(f)) prohibits placing on the market, putting into service or using AI systems to infer
emotions of people in the areas of workplace and education institutions, except for medical or
safety reasons. Elsewhere such systems are of high risk (Annex III), and the people concerned must
be told (Art. 50(3)).

Measure on people like those that you will use it for, every class by itself (`leaf evaluate`):
faces of other ages, skin colors, cultures, cameras or poses than in the data may be named worse."""


def write_card(folder: Path, card: Card, metrics: Mapping[str, Any]) -> None:
    """Write the model card into a model folder.

    Args:
        folder: with the model.
        card: of the model.
        metrics: what the run has measured of it, as in ``metrics.json``.

    Raises:
        UserError: the folder cannot be written.
    """
    write_atomically(folder / FILE, card_text(card, metrics).encode())


def card_text(card: Card, metrics: Mapping[str, Any]) -> str:
    """The model card as Markdown, with a header that the Hugging Face hub understands.

    Nobody's folders are named: of paths only the last part is told.

    Args:
        card: of the model, with the facts of its run.
        metrics: ``part``, ``selection``, ``overall_accuracy``, ``per_class_recall`` and so on, or
            nothing.
    """
    facts = shared_facts(card.facts)
    title = f"{facts.get('method', 'a classifier')} on {facts.get('data', 'faces')}"
    header = {
        "library_name": "leaf-fer",
        "pipeline_tag": "image-classification",
        "tags": ["facial-expression-recognition", "semi-supervised-learning", "leaf-fer"],
    }
    parts = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---",
        f"# Facial expressions: {title}",
        f"Names one of {len(card.classes)} expressions on a cropped face: "
        f"{', '.join(card.classes)}.",
        "## Use\n\n" + USE,
        "## Training\n\n" + _rows(_training(card, facts)),
        "## Start weights\n\n" + _start(facts.get("init")),
        "## What it gets right\n\n" + _measured(card.classes, metrics),
        "## How to use it\n\n" + _example(card),
    ]
    return "\n\n".join(parts) + "\n"


def shared_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a model without the folders of the machine that it was trained on."""
    found = dict(facts)
    for name in ("data", "labels"):
        if isinstance(found.get(name), str):
            found[name] = _without_folders(found[name])
    return found


def _without_folders(text: str) -> str:
    """``ferplus:/home/me/FERPlus`` -> ``ferplus``; ``/home/me/faces`` -> ``faces``."""
    kind, colon, rest = text.partition(":")
    if not colon or "/" in kind or len(kind) == 1:  # a letter is a drive
        return Path(text.replace("\\", "/")).name
    return f"{kind}:{rest}" if rest.isdecimal() else kind


def _training(card: Card, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    asked = facts.get("labels")
    network = card.architecture
    eaf = "" if network.eaf == "none" else f", EAF on {network.eaf}"
    told = {
        "data": facts.get("data"),
        "method": facts.get("method"),
        "labels asked for": "all" if asked is None and "data" in facts else asked,
        "labeled images": facts.get("effective_labels"),
        "seed of training": facts.get("seed"),
        "seed of the split": facts.get("split_seed"),
        "steps": facts.get("step"),
        "network": f"{network.backbone}, {network.image_size} x {network.image_size} pixels{eaf}",
        "leaf-fer": facts.get("version"),
    }
    return [(name, str(value)) for name, value in told.items() if value is not None]


def _start(init: Mapping[str, str] | None) -> str:
    if not init:
        return (
            "None: training began with random weights, so no license of others follows from them."
        )
    license_ = init.get("license") or "not stated by their source: ask there before you share this"
    rows = [("from", init["origin"]), ("SHA-256", init["sha256"])]
    # A license may be a whole text, which no cell of a table holds.
    if "\n" not in license_:
        return _rows([*rows, ("license", license_)])
    return _rows(rows) + f"\n\nTheir license:\n\n```\n{license_.strip()}\n```"


def _measured(classes: Sequence[str], metrics: Mapping[str, Any]) -> str:
    if "per_class_recall" not in metrics:
        return "Not measured: the run had no labeled images beside those for training."
    part = PARTS.get(str(metrics.get("part")), f"the {metrics.get('part')} part")
    weights = SELECTIONS.get(str(metrics.get("selection")), str(metrics.get("selection")))
    matrix = metrics["confusion_matrix"]
    lines = [
        f"On {part}; the weights are those of {weights}. One run with one seed.",
        "",
        f"Overall accuracy {_percent(metrics['overall_accuracy'])}, "
        f"balanced accuracy {_percent(metrics['balanced_accuracy'])}.",
        "",
        "| class | images | recognized |",
        "|---|---|---|",
    ]
    for row, name in enumerate(classes):
        lines.append(
            f"| {_cell(name)} | {sum(matrix[row])} | {_share(metrics['per_class_recall'][name])} |"
        )
    return "\n".join(lines)


def _share(share: float | None) -> str:
    return "-" if share is None else _percent(share)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _example(card: Card) -> str:
    size = card.architecture.image_size
    return (
        "```python\n"
        "import leaf_fer\n\n"
        'model = leaf_fer.load("this-folder")  # or "user/name" of the hub\n'
        'for face in model.predict(["face.jpg"]):\n'
        "    print(face.label, face.confidence)\n"
        "```\n\n"
        f"Images are cropped faces, which are brought to {size} x {size} pixels. "
        "The weights are in `model.safetensors`, everything else in `config.json`."
    )


def _rows(rows: Sequence[tuple[str, str]]) -> str:
    table = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows]
    return "\n".join(["| | |", "|---|---|", *table])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
