from __future__ import annotations

import functools
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.transforms import Bbox

from leaf_fer.report import confusion_matrix, contact_sheet, learning_curves, prediction_sheet

EXPRESSIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear",
               "contempt", "awe", "pain")  # fmt: skip
LONG = ("happily surprised", "fearfully_disgusted", "compound_happily_surprised_and_awed",
        "disappointment", "a", "Donaudampfschifffahrtskapitaensfreude", "$x_1$", "contempt",
        "\u9ad8\u5174", "sad/angry")  # fmt: skip


def faces(count, size=48):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def counts(num_classes, total=4000):
    generator = np.random.default_rng(num_classes)
    shares = generator.dirichlet(np.ones(num_classes), size=num_classes) + np.eye(num_classes)
    return (shares * total / num_classes).astype(int)


def log(seed=0, terms=("supervised", "category", "contrast"), validations=20, lines=200):
    """Lines as in metrics.jsonl, of a run of 20,000 steps."""
    generator = np.random.default_rng(seed)
    found = []
    for step in range(20_000 // lines, 20_001, 20_000 // lines):
        loss = {term: float(np.exp(-step / 9000 + 0.1 * generator.normal())) for term in terms}
        watch = {"mask": 0.5, "positives": 2.0, "shares": [0.5, 0.5]}
        found.append({"step": step, "loss": loss, "watch": watch, "experts": {}})
        if validations and step % (20_000 // validations) == 0:
            score = float(0.7 - np.exp(-step / 5000) / 2 + 0.02 * generator.normal())
            validation = {"balanced_accuracy": score, "overall_accuracy": score}
            found.append({"step": step, "validation": validation})
    return found


def sheet(count, size=48, columns=8, names=EXPRESSIONS, known=True, candidates=False):
    def draw(path):
        generator = np.random.default_rng(1)
        predicted = [names[i % len(names)] for i in range(count)]
        truth = [str(name) for name in generator.permutation(predicted)] if known else None
        lists = [list(names[: i % 4]) for i in range(count)] if candidates else None
        confidence = [1.0, *generator.uniform(0, 1, count - 1)]
        notes = [", ".join(names[i % 7 :]) for i in range(count)] if candidates else None
        pixels = faces(count, size)
        prediction_sheet(pixels, truth, predicted, confidence, path, columns, lists, notes)

    return draw


PICTURES = {
    **{
        f"matrix of {n}": lambda path, n=n: confusion_matrix(counts(n), EXPRESSIONS[:n], path, "t")
        for n in (1, 2, 7, 8, 10)
    },
    "matrix of long names": lambda path: confusion_matrix(counts(10), LONG, path),
    "matrix of many images": lambda path: confusion_matrix(counts(7, 10**8), LONG[:7], path),
    "matrix with a long title": lambda path: confusion_matrix(counts(2), "ab", path, "word " * 40),
    "matrix with an empty class": lambda path: confusion_matrix([[3, 1], [0, 0]], "ab", path),
    "curves of 1": lambda path: learning_curves({"leaf": log()}, path),
    "curves of 4": lambda path: learning_curves(
        {f"runs/leaf_{seed}": log(seed, validations=100) for seed in range(4)}, path
    ),
    "curves of 8": lambda path: learning_curves(
        {"a long name " * 8 + str(seed): log(seed) for seed in range(8)}, path
    ),
    "curves of many terms": lambda path: learning_curves(
        {"x": log(terms=[f"{name} {i}" for i, name in enumerate(LONG)], lines=20)}, path
    ),
    "curves of one line": lambda path: learning_curves({"x": log(lines=1, validations=1)}, path),
    "curves of nothing": lambda path: learning_curves({"x": [{"step": 5, "warning": ""}]}, path),
    "curves of no numbers": lambda path: learning_curves(
        {"x": [{"step": i, "loss": {"supervised": float("nan")}} for i in range(90)]}, path
    ),
    "sheet of 1": sheet(1),
    "sheet of 40": sheet(40, candidates=True),
    "sheet of long names": sheet(11, 224, 4, LONG, candidates=True),
    "sheet without truth": sheet(3, 100, known=False),
    "contact sheet": lambda path: contact_sheet({n: faces(i) for i, n in enumerate(LONG)}, path),
    "contact sheet of 1": lambda path: contact_sheet({"contempt": faces(1, 224)}, path),
}


@pytest.fixture(scope="module")
def draw(record):
    """Draw one of PICTURES; each is drawn once."""
    return functools.cache(lambda name: record(PICTURES[name]))


def overlaps(boxes):
    """Pairs of parts whose boxes share more than half a pixel on both axes."""
    parts, corners = list(boxes), np.array([box.extents for box in boxes.values()])
    low = np.maximum(corners[:, None, :2], corners[None, :, :2])
    high = np.minimum(corners[:, None, 2:], corners[None, :, 2:])
    shared = np.triu((high - low).min(axis=2) > 0.5, k=1)
    return [(parts[i], parts[j]) for i, j in np.argwhere(shared)]


def contrast(one, other):
    """WCAG 2 contrast of two colors."""
    light = []
    for color in (one, other):
        channels = np.array(to_rgb(color))
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        light.append(float(linear @ (0.2126, 0.7152, 0.0722)) + 0.05)
    return max(light) / min(light)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_has_a_sane_size(draw, name):
    height, width, _ = draw(name).pixels.shape
    assert 150 < height < 3000
    assert 150 < width < 4000


@pytest.mark.parametrize("name", PICTURES)
def test_text_and_images_are_inside_the_page(draw, name):
    drawing = draw(name)
    height, width, _ = drawing.pixels.shape
    outside = [part for part, box in drawing.boxes.items()
               if min(box.x0, box.y0, width - box.x1, height - box.y1) < 0]  # fmt: skip
    assert outside == []


@pytest.mark.parametrize("name", PICTURES)
def test_no_text_or_image_covers_another(draw, name):
    assert overlaps(draw(name).boxes) == []


def test_boxes_that_cover_one_another_are_found():
    boxes = {"a": Bbox([[0, 0], [4, 2]]), "b": Bbox([[4, 0], [6, 2]]), "c": Bbox([[3, 1], [5, 5]])}
    assert overlaps(boxes) == [("a", "c"), ("b", "c")]


@pytest.mark.parametrize("name", PICTURES)
def test_nothing_is_cut_at_the_edge(draw, name):
    pixels = draw(name).pixels
    edges = (pixels[:6], pixels[-6:], pixels[:, :6], pixels[:, -6:])
    assert all((edge == 255).all() for edge in edges)


@pytest.mark.parametrize("name", PICTURES)
def test_a_dollar_sign_is_no_formula(draw, name):
    texts = [text for text in draw(name).texts if "$" in text.get_text()]
    assert [text for text in texts if text.get_parse_math()] == []


@pytest.mark.parametrize("name", PICTURES)
def test_text_is_readable_on_white(draw, name):
    colors = {to_hex(text.get_color()) for text in draw(name).texts}
    assert min(contrast(color, "white") for color in colors) > 4.5


@pytest.mark.parametrize("name", ["matrix of 2", "curves of 1", "sheet of 1", "contact sheet of 1"])
def test_svg_is_well_formed_and_reproducible(tmp_path, name):
    for path in (tmp_path / "one.svg", tmp_path / "two.SVG"):
        PICTURES[name](path)
        assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.SVG").read_bytes()


def test_pictures_need_neither_torch_nor_the_state_of_pyplot():
    code = "import sys, leaf_fer.report; print({'torch', 'matplotlib.pyplot'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"
