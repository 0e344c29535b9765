"""What is drawn, not only that something is."""

import json
import subprocess
import sys
from itertools import combinations
from statistics import mean

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

import leaf_fer
from leaf_fer.bench import arguments, records
from leaf_fer.bench.plots import KINDS
from leaf_fer.bench.plots.choice import Choice
from leaf_fer.bench.plots.features import embed
from leaf_fer.bench.plots.runs import Answers, answers
from leaf_fer.bench.plots.theme import DARK, LIGHT
from leaf_fer.bench.plots.usage import by_class
from leaf_fer.cli import main
from leaf_fer.data import synthetic
from leaf_fer.errors import UserError
from leaf_fer.metrics import calibration_error
from leaf_fer.registry import methods
from leaf_fer.report.page import plain_style

from .results import record, write

CLASSES = ("anger", "fear", "happiness")


def grid_of(keys, data=("rafdb", "ferplus"), labels=(100, 200, 300, 400, 500), **options):
    """Records that rise with the labels, three seeds each."""
    return [
        record(
            0.3 + 0.01 * keys.index(key) + n / 2000 + seed / 100,
            overall=0.4 + 0.01 * keys.index(key) + n / 2000,
            data=one, method=key, labels=str(n), seed=seed, **options,
        )
        for one in data for key in keys for n in labels for seed in range(3)
    ]  # fmt: skip


@pytest.fixture
def drawn(tmp_path):
    """Draws a kind of made-up records, as the command does."""

    def draw(kind, lines, theme=LIGHT, **choice):
        with plain_style():
            figure = KINDS[kind](records.read([write(tmp_path, *lines)]), Choice(**choice))(theme)
            figure.draw_without_rendering()
        return figure

    return draw


def texts(figure):
    """Texts that are drawn, with their boxes in pixels."""
    boxes, draw = {}, Text.draw

    def watched(text, renderer):
        if text.get_visible() and text.get_text():
            boxes[text] = text.get_window_extent(renderer)
        draw(text, renderer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", watched)
        FigureCanvasAgg(figure).draw()
    return boxes


def words(figure):
    return [text.get_text() for text in texts(figure)]


def check_readable(figure):
    """Every text is on the page and none touches another."""
    page = figure.bbox
    boxes = {text: box.padded(-1) for text, box in texts(figure).items()}
    for text, box in boxes.items():
        assert page.x0 <= box.x0 <= box.x1 <= page.x1, text
        assert page.y0 <= box.y0 <= box.y1 <= page.y1, text
    for (one, a), (two, b) in combinations(boxes.items(), 2):
        assert not a.overlaps(b), (one, two)


def line(axes, name):
    (found,) = (line for line in axes.lines if line.get_label() == name)
    return found.get_xydata()


def titled(figure, title):
    (found,) = (axes for axes in figure.axes if axes.get_title("left") == title)
    return found


def test_a_line_goes_through_the_means_and_its_band_is_a_deviation_wide(drawn):
    lines = [
        record(p / 100, overall=0.1, method="leaf", labels=n, seed=seed)
        for n, percents in (("100", (50, 52, 57)), ("400", (60, 62, 64)))
        for seed, p in enumerate(percents)
    ]
    figure = drawn("labels", lines)
    balanced = titled(figure, "ferplus: balanced accuracy")
    np.testing.assert_allclose(line(balanced, "leaf"), [[100, 53], [400, 62]])
    (band,) = balanced.collections
    corners = band.get_paths()[0].vertices
    at = {x: corners[corners[:, 0] == x, 1] for x in (100, 400)}
    assert (at[100].min(), at[100].max()) == pytest.approx((53 - 13**0.5, 53 + 13**0.5))
    assert (at[400].min(), at[400].max()) == pytest.approx((60, 64))
    overall = titled(figure, "ferplus: overall accuracy")
    np.testing.assert_allclose(line(overall, "leaf"), [[100, 10], [400, 10]])


def test_one_seed_has_no_band(drawn):
    figure = drawn("labels", [record(0.5, labels=n) for n in ("100", "200")])
    assert not any(axes.collections for axes in figure.axes)


def test_a_data_set_is_a_row_of_panels(drawn):
    figure = drawn("labels", grid_of(["fixmatch", "leaf"]))
    assert [axes.get_title("left") for axes in figure.axes] == [
        f"{data}: {metric} accuracy" for data in ("rafdb", "ferplus")
        for metric in ("balanced", "overall")
    ]  # fmt: skip
    tops = [axes.get_position().y0 for axes in figure.axes]
    assert tops[0] == pytest.approx(tops[1])
    assert tops[2] == pytest.approx(tops[3])
    assert tops[2] < tops[0]


def test_all_methods_have_their_names_beside_their_lines_and_a_look_of_their_own(drawn):
    keys = list(methods())
    figure = drawn("labels", grid_of(keys))
    check_readable(figure)
    for axes in figure.axes:
        found = {text.get_text(): text.get_position()[1] for text in axes.texts}
        assert sorted(found, key=found.get) == keys  # as their lines end
        looks = {
            (one.get_color(), one.get_marker()) for one in axes.lines if one.get_label() in keys
        }
        assert len(looks) == len(keys)


def test_training_with_all_labels_is_a_level_line(drawn):
    lines = grid_of(["supervised", "leaf"], data=["rafdb"])
    lines += [record(p, data="rafdb", method="supervised", labels=None, seed=seed)
              for seed, p in enumerate((0.7, 0.8))]  # fmt: skip
    axes = drawn("labels", lines).axes[0]
    level = line(axes, "supervised, all labels")
    np.testing.assert_allclose(level[:, 0], [100, 200, 300, 400, 500])
    np.testing.assert_allclose(level[:, 1], 75)
    assert len(line(axes, "supervised")) == 5


def test_long_names_and_one_number_of_labels_are_readable(drawn):
    lines = [
        record(0.5, method="leaf", eaf=eaf, mass=mass)
        for eaf in ("none", "semantic", "instance") for mass in (0.7, 0.8)
    ]  # fmt: skip
    figure = drawn("labels", lines)
    check_readable(figure)
    assert "leaf eaf=semantic mass=0.8" in words(figure)
    assert min(axes.get_position().width * figure.get_figwidth() for axes in figure.axes) > 2.5


def test_two_runs_of_a_seed_are_not_averaged(drawn):
    lines = [record(0.5, method="fixmatch"), record(0.5, method="fixmatch", select="last",
             split_seed=3)]  # fmt: skip
    lines[1]["config"]["split_seed"] = 3
    lines[1]["cell"] = "another"
    with pytest.raises(UserError, match=r"another would be one point .* --only"):
        drawn("labels", lines)


def test_protocols_are_not_mixed(drawn):
    with pytest.raises(UserError, match="image_size differs"):
        drawn("labels", [record(0.5), record(0.5, method="fixmatch", image_size=48)])


def test_a_selection_that_was_not_measured_is_refused(drawn):
    with pytest.raises(UserError, match=r"no balanced_accuracy of --selection best"):
        drawn("labels", [record(0.5)], selection="best-on-validation")


def test_experts_are_one_line_by_their_number(drawn):
    lines = [
        record(0.5 + n / 100 + seed / 50, method="leaf", num_experts=n, seed=seed)
        for n in range(1, 9) for seed in (0, 1)
    ]  # fmt: skip
    figure = drawn("experts", lines)
    check_readable(figure)
    np.testing.assert_allclose(line(figure.axes[0], "leaf"), [[n, 51 + n] for n in range(1, 9)])
    assert len(figure.axes[0].collections) == 1


def test_experts_need_experts(drawn):
    with pytest.raises(UserError, match="no run has an EAF"):
        drawn("experts", [record(0.5, method="fixmatch")])


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_bars_with_and_without_eaf_have_their_difference_above(drawn, theme):
    keys, pairs = ["fixmatch", "flexmatch"], {"none": 0, "semantic,instance": 0.021}
    lines = [
        record(0.4 + n / 1000 + seed / 100 + more, data="rafdb", method=key, labels=str(n),
               seed=seed, eaf=levels)
        for key in keys for n in (100, 200) for seed in range(3) for levels, more in pairs.items()
    ]  # fmt: skip
    figure = drawn("eaf", lines, theme)
    check_readable(figure)
    assert [axes.get_title("left") for axes in figure.axes] == [f"{key}, rafdb" for key in keys]
    for axes in figure.axes:
        heights = [bar.get_height() for bar in axes.patches]
        np.testing.assert_allclose(heights, [51, 53.1, 61, 63.1])
        assert [text.get_text() for text in axes.texts] == ["+2.1", "+2.1"]
        errors = [lines.get_segments()[0][:, 1] for lines in axes.collections]
        np.testing.assert_allclose(errors, [[h - 1, h + 1] for h in heights])
        assert axes.get_ylim()[0] == 0


def test_many_bars_are_readable(drawn):
    lines = [
        record(0.5, data="rafdb", method=key, labels=str(n), eaf=levels)
        for key in ("fixmatch", "flexmatch", "freematch") for n in (100, 200, 300, 400, 500)
        for levels in ("none", "semantic", "instance", "semantic,instance")
    ]  # fmt: skip
    check_readable(drawn("eaf", lines))


@pytest.mark.parametrize(
    ("metric", "name"),
    [("overall", "Overall accuracy (%)"), ("auc", "AUC of pairs of classes (%)")],
)
def test_bars_are_of_the_metric_that_is_asked_for(drawn, metric, name):
    lines = [record(0.9, overall=0.5, method="uda", eaf=eaf) for eaf in ("none", "semantic")]
    for found in lines:
        found["metrics"]["auc"] = 0.5
    (axes,) = drawn("eaf", lines, metric=metric).axes
    assert [bar.get_height() for bar in axes.patches] == [50, 50]
    assert axes.get_ylabel() == name


def test_bars_need_both(drawn):
    alone = [record(0.5, method="fixmatch"), record(0.5, method="leaf")]
    with pytest.raises(UserError, match="no method was run both with --eaf none and with another"):
        drawn("eaf", alone)
    both = [*alone, record(0.5, method="leaf", eaf="none")]
    assert [axes.get_title("left") for axes in drawn("eaf", both).axes] == ["leaf, ferplus"]


def marked(axes, marker):
    """Places of a marker: of seeds ``o``, of means ``|``; by row from the top."""
    found = [line.get_xydata()[0] for line in axes.lines if line.get_marker() == marker]
    return sorted((int(y), round(float(x), 6)) for x, y in found)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_differences_are_between_runs_of_the_same_labels(drawn, theme):
    scores = {
        "supervised": (50, 60, 40),
        "leaf": (51, 62, 43),  # ahead of it with every seed
        "fixmatch": (53, 57, 40.3),
        "uda": (49, 58, 39),
    }
    lines = [
        record(percent / 100, overall=0.1, method=key, seed=seed, labels="100")
        for key, percents in scores.items() for seed, percent in enumerate(percents)
    ]  # fmt: skip
    lines += [record(0.6, method="supervised", labels="400"), record(0.575, method="leaf",
              labels="400"), record(0.9, method="supervised", labels=None)]  # fmt: skip
    figure = drawn("differences", lines, theme)
    check_readable(figure)
    few, many = titled(figure, "ferplus, 100 labels"), titled(figure, "ferplus, 400 labels")
    rows = [text.get_text() for text in few.get_yticklabels()]
    assert rows == ["fixmatch", "leaf", "uda"]  # by the mean of the panels: 0.1, -0.25, -1.33
    assert marked(few, "o") == [
        *((0, -3), (0, 0.3), (0, 3)), *((1, 1), (1, 2), (1, 3)), *((2, -2), (2, -1), (2, -1)),
    ]  # fmt: skip
    assert marked(few, "|") == [(0, 0.1), (1, 2), (2, -1.333333)]
    bars = {int(bar.get_ydata()[0]): bar for bar in few.lines if bar.get_marker() == "|"}
    agreed = {row: bar.get_color() == theme.colors[0] for row, bar in bars.items()}
    assert agreed == {0: False, 1: True, 2: True}
    assert marked(many, "o") == [(1, -2.5)]
    assert marked(many, "|") == []  # one seed has no mean
    assert few.get_ylim()[0] > few.get_ylim()[1]
    assert "Balanced accuracy minus that of supervised (points)" in words(figure)


def test_all_methods_differ_readably_and_one_alone_too(drawn):
    keys = list(methods())
    figure = drawn("differences", grid_of(keys), metric="overall", against="leaf")
    check_readable(figure)
    assert len(figure.axes) == 10
    alone = drawn("differences", grid_of(["leaf", "vat"], data=["rafdb"], labels=[100]),
                  against="vat")  # fmt: skip
    check_readable(alone)


def test_differences_need_a_row_and_a_partner(drawn):
    with pytest.raises(UserError, match=r"--against 'supervised': no such row; .* 'leaf'"):
        drawn("differences", [record(0.5, method="leaf")])
    apart = [record(0.5, method="leaf", labels="400"), record(0.5, method="uda")]
    with pytest.raises(UserError, match="no run has the data, labels and seed of one of uda"):
        drawn("differences", apart, against="uda")


def counted(matrix, **options):
    found = record(0.5, **options)
    found["metrics"] |= {"confusion_matrix": matrix, "classes": CLASSES}
    return found


def test_the_confusion_matrix_adds_the_seeds(drawn):
    one, two = [[8, 2, 0], [0, 4, 0], [1, 1, 1]], [[5, 4, 1], [0, 4, 0], [0, 0, 3]]
    lines = [counted(m, method="leaf", seed=s) for s, m in enumerate((one, two))]
    figure = drawn("confusion", lines, DARK)
    check_readable(figure)
    assert {"13", "65.0 %", "6", "30.0 %"} <= set(words(figure))
    assert "leaf, ferplus, 100 labels, 2 seeds, test part,\nlast" in words(figure)
    colors = {text.get_color() for text in texts(figure)}
    assert colors == {DARK.ink, DARK.gray, "black"}


def test_a_confusion_matrix_is_of_one_method(drawn):
    lines = [counted(np.eye(3, dtype=int).tolist(), method=m) for m in ("leaf", "uda")]
    with pytest.raises(UserError, match=r"uda, ferplus, 100 labels.*narrow with --only"):
        drawn("confusion", lines)


def begun(folder, lines, key="watch", **options):
    """A record with a metrics.jsonl."""
    found = record(0.5, **options)
    cell = folder / "cells" / found["cell"]
    cell.mkdir(parents=True)
    text = [json.dumps({"step": 10 * n, key: values}) for n, values in enumerate(lines, 1)]
    (cell / "metrics.jsonl").write_text("\n".join([*text, '{"step": 20, "validation": {}}']))
    return found


def test_pseudo_labels_are_averaged_over_seeds_step_by_step(tmp_path, drawn):
    lines = [
        begun(tmp_path, [{"mask": 0.1 + s / 10, "shares": [0.5, 0.5, 0, 0]}, {"mask": 0.5}],
              method="fixmatch", seed=s)
        for s in (0, 1)
    ]  # fmt: skip
    lines.append(begun(tmp_path, [{"shares": [0.25] * 4}], method="vat"))
    lines.append(begun(tmp_path, [{}], method="supervised"))
    figure = drawn("pseudo", lines)
    check_readable(figure)
    used, even = figure.axes
    np.testing.assert_allclose(line(used, "fixmatch"), [[10, 0.15], [20, 0.5]])
    assert [text.get_text() for text in used.texts] == ["fixmatch"]
    np.testing.assert_allclose(line(even, "fixmatch"), [[10, 0.5]])
    np.testing.assert_allclose(line(even, "vat"), [[10, 1]])


def seen(coverage, precision, size=2.0, hits=0.9, count=100):
    """What a run with watch_unlabeled writes down."""
    shares = {"0.8": 2 * coverage, "0.95": coverage}
    right = {"0.8": precision and precision / 2, "0.95": precision}
    sets = {"mass": 0.9, "size": size, "hits": hits}
    return {"count": count, "coverage": shares, "precision": right, "candidates": sets}


WATCHED = ["precision, confidence of 95 % or more", "coverage, confidence of 95 % or more",
           "precision, confidence of 80 % or more", "coverage, confidence of 80 % or more",
           "true class among the candidates", "candidates of an image (mean number)"]  # fmt: skip


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_precision_and_coverage_have_a_band_over_the_seeds(tmp_path, drawn, theme):
    lines = [
        begun(tmp_path, [seen(0.1 * s, 0.5 + 0.1 * s), seen(0.3 + 0.1 * s, 0.7 + 0.1 * s)],
              key="unlabeled", method="fixmatch", seed=s)
        for s in range(3)
    ]  # fmt: skip
    lines.append(begun(tmp_path, [seen(0.2, 0.8, size=3.5), seen(0.3, 0.6, size=2.5)],
                       key="unlabeled", method="leaf"))  # fmt: skip
    figure = drawn("pseudo", lines, theme)
    check_readable(figure)
    titles = [axes.get_title("left").split("\n")[1] for axes in figure.axes]
    assert titles == WATCHED  # and nothing of masks, which nobody has recorded
    assert figure.axes[0].get_position().y0 == pytest.approx(figure.axes[1].get_position().y0)
    precision, coverage, *_, size = figure.axes
    # Nothing is covered in the first line of seed 0: no mean of the other two beside one of all.
    np.testing.assert_allclose(line(precision, "fixmatch"), [[20, 0.8]])
    np.testing.assert_allclose(line(coverage, "fixmatch"), [[10, 0.1], [20, 0.4]])
    np.testing.assert_allclose(line(figure.axes[2], "fixmatch"), [[20, 0.4]])
    np.testing.assert_allclose(line(figure.axes[3], "fixmatch"), [[10, 0.2], [20, 0.8]])
    np.testing.assert_allclose(line(size, "leaf"), [[10, 3.5], [20, 2.5]])
    (band,) = coverage.collections  # one of fixmatch, none of leaf
    corners = band.get_paths()[0].vertices
    for step, low, high in ((10, 0, 0.2), (20, 0.3, 0.5)):
        heights = corners[corners[:, 0] == step, 1]
        assert (heights.min(), heights.max()) == pytest.approx((low, high), abs=1e-12)
    assert size.get_ylim()[0] == 0
    assert all(axes.get_ylim() == (-0.03, 1.03) for axes in figure.axes[:5])


def test_the_precision_of_a_handful_of_images_is_not_drawn(tmp_path, drawn):
    shown = [seen(0.09, 0.5), seen(0.1, 0.6), seen(0.0, None), seen(0.2, 0.8)]
    figure = drawn("pseudo", [begun(tmp_path, shown, key="unlabeled", method="leaf")])
    np.testing.assert_allclose(line(figure.axes[0], "leaf"), [[20, 0.6], [40, 0.8]])
    np.testing.assert_allclose(line(figure.axes[1], "leaf")[:, 1], [0.09, 0.1, 0, 0.2])


def test_masks_stand_below_what_is_known_of_the_classes(tmp_path, drawn):
    lines = [
        begun(tmp_path, [{"mask": 0.5}], method="fixmatch"),
        begun(tmp_path, [seen(0.1, 0.5)], key="unlabeled", method="leaf"),
        begun(tmp_path, [{"mask": 0.5}], method="fixmatch", labels="400"),
    ]
    figure = drawn("pseudo", lines)
    check_readable(figure)
    found = [axes.get_title("left").split("\n") for axes in figure.axes]
    masks = ["pseudo-labels used (mean mask)", "evenness of their classes (entropy)"]
    assert [title for _, title in found] == [*WATCHED, *masks, *masks]
    assert [where for where, _ in found] == ["ferplus, 100 labels"] * 8 + [
        "ferplus, 400 labels"
    ] * 2
    assert not {text.get_text() for text in figure.axes[0].texts} - {"leaf"}


def test_all_methods_watched_are_readable(tmp_path, drawn):
    lines = [
        begun(tmp_path, [seen(0.4, 0.6), seen(0.45, 0.5 + n / 100)], key="unlabeled", method=key)
        for n, key in enumerate(methods())
    ]
    check_readable(drawn("pseudo", lines))


def test_pseudo_labels_need_the_folder_of_the_run(drawn):
    with pytest.raises(UserError, match=r"metrics.jsonl: not there"):
        drawn("pseudo", [record(0.5, method="fixmatch")])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder of two trained runs."""
    folder, faces = tmp_path_factory.mktemp("trained"), tmp_path_factory.mktemp("faces")
    pixels = synthetic.render(0, range(72), 32)
    for row, face in enumerate(pixels):
        part = ("train", "test")[row % 2]
        file = faces / part / CLASSES[row % 3] / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(face).save(file)
    lines = []
    for key in ("fixmatch", "leaf"):
        line = record(0.5, data="faces", method=key, labels="9", image_size=32)
        leaf_fer.train(
            f"folder:{faces}", out=folder / "cells" / line["cell"], method=key, labels="9", steps=2,
            epoch_steps=1, batch_size=4, image_size=32, backbone="test_resnet", cache=str(folder),
            precision="float32", device="cpu",
        )  # fmt: skip
        lines.append(line)
    return write(folder, *lines)


def test_answers_are_those_the_run_was_measured_by(trained):
    for run in records.read([trained]):
        found = answers(run)
        result = json.loads((run.folder / "metrics.json").read_text())
        right = found.probabilities.argmax(axis=1) == found.targets
        assert right.mean() == pytest.approx(result["overall_accuracy"])
        assert len(found.rows) == result["count"] == 36
        assert set(found.gates) == ({"semantic", "instance"} if run.method == "leaf" else set())


@pytest.mark.parametrize("kind", ["features", "usage", "reliability"])
def test_runs_are_drawn(kind, trained, tmp_path, capsys):
    out = tmp_path / "picture"
    assert main(["bench", "plot", kind, str(trained), "--out", str(out), "--theme", "both"]) == 0
    files = [f"picture{tail}{end}" for tail in ("", "-dark") for end in (".svg", ".png")]
    assert capsys.readouterr().out.split() == [str(tmp_path / name) for name in files]
    assert "leaf" in (tmp_path / files[0]).read_text()
    pages = [np.asarray(Image.open(tmp_path / name).convert("RGB"))[0, 0] for name in files[1::2]]
    assert pages[0].min() == 255
    assert pages[1].max() < 40


def drawn_runs(kind, folder, **choice):
    with plain_style():
        return KINDS[kind](records.read([folder]), Choice(**choice))(LIGHT)


def test_every_run_shows_the_same_faces_in_the_colors_of_their_classes(trained):
    figure = drawn_runs("features", trained, faces=5)
    check_readable(figure)
    assert len(figure.axes) == 2
    for axes in figure.axes:
        assert [len(dots.get_xdata()) for dots in axes.lines] == [5, 5, 5]
        assert [dots.get_color() for dots in axes.lines] == list(LIGHT.colors[:3])
    assert set(CLASSES) <= {t.get_text() for t in figure.legends[0].get_texts()}


def test_layouts_of_the_same_features_are_the_same():
    values = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    one, two, turned = embed([values, values, values[:, ::-1]])
    np.testing.assert_allclose(two, one, atol=1e-3 * np.abs(one).max())
    assert turned.shape == (60, 2)


def test_features_ask_for_scikit_learn(monkeypatch, trained):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(UserError, match=r"pip install leaf-fer\[plots\]"):
        drawn_runs("features", trained)


def test_usage_is_the_mean_gate_of_a_class(trained):
    figure = drawn_runs("usage", trained)
    check_readable(figure)
    (run,) = (run for run in records.read([trained]) if run.method == "leaf")
    found = answers(run)
    assert len(figure.axes) == 2  # semantic and instance of leaf, nothing of fixmatch
    heat = np.asarray(figure.axes[0].images[0].get_array())
    expected = [found.gates["semantic"][found.targets == c].mean(axis=0) for c in range(3)]
    np.testing.assert_allclose(heat, expected, rtol=1e-5)
    np.testing.assert_allclose(heat.sum(axis=1), 1, rtol=1e-5)


def test_a_class_without_faces_has_no_usage():
    gates = np.array([[0.25, 0.75], [0.75, 0.25]], dtype=np.float32)
    found = Answers(CLASSES, np.arange(2), np.array([0, 0]), gates, gates, {"semantic": gates})
    expected = [[0.5, 0.5], [np.nan] * 2, [np.nan] * 2]
    np.testing.assert_allclose(by_class(found, "semantic"), expected)


def test_reliability_has_the_accuracy_of_every_bin_and_the_error(monkeypatch, drawn):
    rng = np.random.default_rng(0)
    p = rng.dirichlet([0.3, 0.3, 0.3], size=500).astype(np.float32)
    found = Answers(CLASSES, np.arange(500), rng.integers(0, 3, 500), p, p, {})
    module = sys.modules["leaf_fer.bench.plots.reliability"]
    monkeypatch.setattr(module, "answers", lambda _: found)
    figure = drawn("reliability", [record(0.5, method="leaf")])
    check_readable(figure)
    sure, right = p.max(axis=1).astype(float), p.argmax(axis=1) == found.targets
    bars = {round(bar.get_x() * 15 + 0.46 - 0.5): bar.get_height()
            for bar in figure.axes[0].patches[: len(figure.axes[0].patches) // 2]}  # fmt: skip
    assert bars == pytest.approx({
        b: mean(right[(sure > b / 15) & (sure <= (b + 1) / 15)].astype(float).tolist())
        for b in bars
    })  # fmt: skip
    assert max(bars) == 14
    error = calibration_error(sure, right)
    facts = f"ECE {100 * error:.1f} %, accuracy {100 * right.mean():.1f} %"
    assert figure.axes[0].get_title("left").endswith(facts)


def test_the_command_writes_names_of_methods(tmp_path, capsys):
    folder = write(tmp_path / "runs", *grid_of(["fixmatch", "leaf"]))
    svg = tmp_path / "fig4.svg"
    words = ["--only", "data=rafdb", "--out", str(svg)]
    assert main(["bench", "plot", "labels", str(folder), *words]) == 0
    text = svg.read_text()
    assert "fixmatch" in text
    assert "rafdb: balanced" in text
    assert "ferplus" not in text
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["fig4.svg"]


def test_the_command_knows_every_kind():
    assert tuple(KINDS) == arguments.FIGURES


def test_plots_of_records_import_no_torch_and_other_commands_no_matplotlib():
    code = (
        "import sys, leaf_fer.bench.run, leaf_fer.cli; assert 'matplotlib' not in sys.modules\n"
        "import leaf_fer.bench.plot; assert not {'torch', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("kind", ["features", "usage", "reliability"])
def test_long_names_of_runs_stay_in_their_panels(kind, monkeypatch, drawn):
    rng = np.random.default_rng(0)
    gates = rng.dirichlet([1.0] * 8, size=90).astype(np.float32)
    p = gates[:, :3] / gates[:, :3].sum(axis=1, keepdims=True)
    found = Answers(CLASSES, np.arange(90), np.arange(90) % 3, p, gates, {"semantic": gates})
    module = sys.modules[f"leaf_fer.bench.plots.{kind}"]
    monkeypatch.setattr(module, "answers", lambda _: found)
    lines = [record(0.5, method="leaf", expert="bottleneck", mass=0.8, partition_view="strong",
                    num_experts=8, seed=seed) for seed in range(5)]  # fmt: skip
    check_readable(drawn(kind, lines))
