"""Runs that are made up, and what is to be said of any page."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from leaf_fer.metrics import summarize
from leaf_fer.report.facts import Evidence, Faces, RunFacts

CLASSES = ("calm", "glad", "grim")
VOID = {"br", "img", "meta"}
OUTSIDE = re.compile(r"(?:https?:)?//[\w.-]+\.|url\(|@import|<script|<link|<iframe", re.I)


class Outline(HTMLParser):
    """Elements of a page; unbalanced ones are an error."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, name, attributes):
        assert len(dict(attributes)) == len(attributes), (name, attributes)
        self.found.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        assert "svg" in self.open, f"<{name}/> outside of a drawing"
        self.found.append((name, dict(attributes)))

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, text):
        if "style" not in self.open:
            self.text.append(text)

    @property
    def words(self):
        """All that can be read, spaces of all kinds alike."""
        return " ".join(" ".join(self.text).split())

    def all(self, name):
        return [attributes for found, attributes in self.found if found == name]


def check_page(text):
    """A page is well formed, needs nothing outside and is marked up; its outline."""
    outline = Outline(text)
    assert not OUTSIDE.findall(re.sub(r'data:image/jpeg;base64,[^"]*', "", text))
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in outline.all("img"))
    assert all(len(image["alt"]) > 10 for image in outline.all("img"))
    for drawing in outline.all("svg"):
        assert drawing.get("aria-hidden") == "true" or drawing["aria-label"]
    assert len(outline.all("caption")) == len(outline.all("table"))
    assert all(head["scope"] in ("row", "col") for head in outline.all("th"))
    assert [a["lang"] for a in outline.all("html")] == ["en"]
    assert len(outline.all("h1")) == 1
    anchors = {a.get("id") for _, a in outline.found}
    assert {a["href"].removeprefix("#") for a in outline.all("a")} <= anchors
    return outline


def answers(count=90, seed=0, skill=2.0):
    """Probabilities (N, 3) and classes (N,)."""
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % 3
    logits = rng.standard_normal((count, 3))
    logits[np.arange(count), targets] += skill
    p = np.exp(logits)
    return (p / p.sum(axis=1, keepdims=True)).astype(np.float32), targets


def run(name="one", *, p=None, targets=None, lines=(), measured_on="a", **options):
    if p is None:
        p, targets = answers()
    metrics = {
        "selection": "last",
        "part": "test",
        "step": 20,
        **summarize(p, targets, CLASSES),
        "seconds": 75.0,
        "images_per_second": 1000.0,
        "device": "a CPU",
        "others": [],
    }
    config = {"method": "leaf", "data": "synthetic", "labels": "30", "seed": 0, "split_seed": 0}
    config |= {"backbone": "conv4", "image_size": 32, "eaf": "none", "lr": 5e-4}
    counts = {"labeled": 30, "unlabeled": 100, "validation": 0, "test": len(targets)}
    return RunFacts(Path("runs") / name, config | options, metrics, lines, counts, measured_on)


def recorded(steps=20, shift=0.0):
    """Lines as in metrics.jsonl."""
    lines = []
    for step in range(1, steps + 1):
        lines.append(
            {
                "step": step,
                "loss": {"supervised": 2 / step, "category": 0.1},
                "watch": {"mask": 0.5},
            }
        )
        if step % 5 == 0:
            lines.append({"step": step, "validation": {"balanced_accuracy": shift + step / 40}})
    return tuple(lines)


def faces(count=90, seed=0):
    p, targets = answers(count, seed)
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 160, 160, 3), dtype=np.uint8)
    sets = p > 0.1
    return Faces(targets, p, sets, lambda places: pixels[places], lambda place: f"face {place}")


def evidence(**more):
    sample = np.arange(40)
    plane = np.random.default_rng(0).standard_normal((40, 2))
    usage = {"semantic": np.array([[0.9, 0.1, 0.0], [0.5, 0.5, 0.0], [np.nan] * 3])}
    return Evidence(CLASSES, 0.9, faces(), sample=sample, plane=plane, usage=usage, **more)
