import csv
import io
import shutil
import subprocess
import sys

import pytest

from leaf_fer.bench import comparison, grid, records
from leaf_fer.bench.formats import DASH
from leaf_fer.cli import main
from leaf_fer.config import configure

from .results import begin, record, write

SEEDS = (0, 1, 2)


@pytest.fixture
def shown(tmp_path, capsys):
    """Prints the table of made-up records."""

    def show(lines, *words):
        assert main(["bench", "table", str(write(tmp_path, *lines)), *words]) == 0
        return capsys.readouterr().out

    return show


def rows(text):
    """Lines of CSV by row and labels."""
    return {(row["row"], row["labels"]): row for row in csv.DictReader(io.StringIO(text))}


def leaf(*percents, **options):
    """Records of seeds 0, 1 and so on."""
    return [record(p / 100, seed=seed, **options) for seed, p in enumerate(percents)]


def test_mean_deviation_and_difference_from_the_paper(shown):
    text = shown(leaf(50, 52, 57), "--format", "csv")
    row = rows(text)["leaf", "100"]
    assert (float(row["mean"]), float(row["std"])) == pytest.approx((53, 13**0.5))
    assert (float(row["paper"]), float(row["difference"])) == pytest.approx((52.2, 0.8))
    assert (row["seeds"], row["expected_seeds"], row["note"]) == ("3", "3", "")
    assert (row["selection"], row["metric"], row["commits"]) == ("last", "balanced", "abc")


def test_a_table_in_markdown(shown):
    lines = [
        *leaf(50, 52, 57),
        *leaf(40, 41, 42, method="fixmatch"),
        *leaf(30, 30, 30, method="uda"),
    ]
    text = shown(lines)
    assert "|  | ferplus, 100 labels |\n| --- | ---: |\n" in text
    assert "| leaf | **53.00 ± 3.61** (paper 52.20, +0.80) |\n" in text
    assert "| fixmatch | *41.00 ± 1.00* (paper 48.05, -7.05) |\n" in text
    assert "| uda | 30.00 ± 0.00 (paper 44.36, -14.36) |\n" in text
    assert "3 seeds 0, 1, 2" in text
    assert "* Commit: abc.\n" in text


def test_what_runs_warned_of_stands_below(shown):
    lines = [*leaf(50, 52, warned=["x", "x"]), *leaf(57, labels="400")]
    lines += leaf(40, 41, method="fixmatch", warned=["x", "y <"])
    text = shown(lines)
    assert "* Warned in 2 of 3 runs of leaf, 2 of 2 runs of fixmatch: x.\n" in text
    assert "* Warned in 2 of 2 runs of fixmatch: y <.\n" in text
    assert "fixmatch: y &lt;.</li>" in shown(lines, "--format", "html")
    assert "Warned" not in shown(leaf(50, 52))


def test_records_that_are_older_than_warnings_have_none(shown):
    line = record()
    del line["metrics"]["warnings"]
    assert "Warned" not in shown([line])


def test_a_single_seed_has_no_deviation(shown):
    assert "| leaf | **50.00** (paper 52.20, -2.20) |" in shown(leaf(50))


def test_a_table_in_latex(shown):
    lines = [*leaf(50, 52, 57), *leaf(40, 41, 42, method="pseudo_label")]
    lines += [record(0.5, data="mine|_<1>"), record(0.6, labels="400")]
    text = shown(lines, "--format", "latex")
    assert text.startswith("% Needs \\usepackage{booktabs}.\n% Where it is wider")
    assert text.partition("\\begin{tabular}{lrrr}\n")[2].splitlines()[:14] == [
        r"\toprule",
        r"Balanced accuracy in \% & \multicolumn{2}{c}{ferplus} & "
        r"\multicolumn{1}{c}{mine\textbar{}\_\textless{}1\textgreater{}} \\",
        r"\cmidrule(lr){2-3} \cmidrule(lr){4-4}",
        r"last step & 100 labels & 400 labels & 100 labels \\",
        r"\midrule",
        r"pseudo\_label & \underline{41.00 $\pm$ 1.00} & -- & -- \\",
        r" & \scriptsize paper 39.75, $+$1.25 & \scriptsize paper 55.19 & \scriptsize missing \\",
        r" &  & \scriptsize missing &  \\",
        r"\addlinespace",
        r"leaf & \textbf{53.00 $\pm$ 3.61} & \textbf{60.00} & \textbf{50.00} \\",
        r" & \scriptsize paper 52.20, $+$0.80 & \scriptsize paper 62.92, $-$2.92 & "
        r"\scriptsize 1 of 3 seeds \\",
        r" &  & \scriptsize 1 of 3 seeds &  \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_tables_compile_within_text_and_in_a_float(shown, tmp_path):
    find = shutil.which("kpsewhich")
    if not find or subprocess.run([find, "booktabs.sty"], check=False).returncode:
        pytest.skip("needs LaTeX with booktabs")
    lines = [*leaf(50, 52, best=0.6), record(0.4, method="uda", data="a_%&#${}\\~^|<>")]
    lines += [record(0.9, method="supervised", labels=None, best=0.8)]
    tables = shown(lines, "--format", "latex")
    page = r"\documentclass{article}\usepackage{booktabs}\begin{document}" + tables
    page += r"\begin{table}\centering" + tables + r"\end{table}\end{document}"
    (tmp_path / "page.tex").write_text(page)
    words = ["pdflatex", "-draftmode", "-halt-on-error", "-interaction=nonstopmode", "page.tex"]
    done = subprocess.run(words, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_table_in_html_says_what_stands_beside_a_value_line_by_line(shown):
    text = shown([*leaf(50, 52), record(method="uda")], "--format", "html")
    assert "<small>paper 44.36, +5.64</small><small>1 of 2 seeds</small></td>" in text


def test_a_table_in_html_escapes_what_it_is_given(shown):
    text = shown([*leaf(50, 52, 57), record(0.1, data="a<b", method="uda")], "--format", "html")
    assert '<td class="best"><span class="value">53.00 ± 3.61</span>' in text
    assert "<small>paper 52.20, +0.80</small>" in text
    assert "a&lt;b" in text
    assert "a<b" not in text
    assert f'<td class="missing"><span class="value">{DASH}</span><small>missing' in text


def test_equals_are_both_best_and_the_next_is_second(shown):
    lines = [
        record(0.50001),
        record(0.50004, method="uda"),
        record(0.45, method="dash"),
        record(0.4, method="vat"),
    ]
    found = rows(shown(lines, "--format", "csv"))
    ranks = {name: row["rank"] for (name, _), row in found.items()}
    assert ranks == {"leaf": "1", "uda": "1", "dash": "2", "vat": "3"}


def test_the_upper_bound_stands_in_every_column_and_does_not_compete(shown):
    lines = [
        record(0.9, method="supervised", labels=None),
        record(0.3, method="supervised"),
        record(0.5),
        record(0.6, labels="400"),
    ]
    text = shown(lines)
    table = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert table == [
        f"| supervised (lower bound) | *30.00* | {DASH} (missing) |",
        "| leaf | **50.00** (paper 52.20, -2.20) | **60.00** (paper 62.92, -2.92) |",
        "| supervised, all labels (upper bound) | 90.00 | 90.00 |",
    ]


def test_the_upper_bound_alone_has_a_column_of_its_own(shown):
    assert "ferplus, all labels |" in shown([record(0.9, method="supervised", labels=None)])


def test_what_is_missing_says_so(tmp_path, capsys):
    begin(tmp_path, method="uda")
    begin(tmp_path, method="vat", failed=True)
    begin(tmp_path, method="fixmatch", seed=2, split_seed=2, failed=True)
    write(tmp_path, *leaf(50, 50, 50), *leaf(40, 40, method="fixmatch"), record(labels="400"))
    assert main(["bench", "table", str(tmp_path), "--format", "csv"]) == 0
    found = rows(capsys.readouterr().out)
    assert {place: row["note"] for place, row in found.items()} == {
        ("leaf", "100"): "",
        ("leaf", "400"): "1 of 3 seeds",
        ("fixmatch", "100"): "2 of 3 seeds, 1 failed",
        ("fixmatch", "400"): "missing",
        ("uda", "100"): "unfinished",
        ("uda", "400"): "missing",
        ("vat", "100"): "failed",
        ("vat", "400"): "missing",
    }
    assert found["uda", "100"]["mean"] == found["uda", "100"]["rank"] == ""


def test_a_cell_that_another_folder_has_finished_is_not_called_unfinished(tmp_path, capsys):
    one = write(tmp_path / "one", record(0.5), *leaf(40, 40, method="uda"))
    two = write(tmp_path / "two")
    begin(two, failed=True)
    assert main(["bench", "table", str(two), str(one)]) == 0
    assert "| leaf | **50.00** (paper 52.20, -2.20; 1 of 2 seeds) |" in capsys.readouterr().out


def test_last_and_best_on_validation_are_two_tables(shown):
    text = shown([record(0.5, best=0.6), record(0.4, method="uda")])
    last, best = text.split("## ")[1:]
    assert "| leaf | **50.00**" in last
    assert "| leaf | **60.00**" in best
    assert f"| uda | {DASH} (paper 44.36; missing) |" in best
    assert shown([record(0.5, best=0.6)], "--selection", "best").count("## ") == 1


def test_a_selection_that_no_record_has_is_left_out_or_refused(shown, tmp_path, capsys):
    assert shown([record()]).count("## ") == 1
    assert main(["bench", "table", str(tmp_path), "--selection", "best"]) == 2
    assert "--selection best: no record has it" in capsys.readouterr().err


def test_overall_accuracy_has_numbers_of_the_paper_of_its_own(shown):
    lines = [record(0.5, overall=0.6, data="affectnet7", labels="500")]
    row = rows(shown(lines, "--metric", "overall", "--format", "csv"))["leaf", "500"]
    assert (row["mean"], row["paper"]) == ("60", "50.27")


def test_pairs_of_classes_have_a_table_without_numbers_of_the_paper(shown):
    line = record(0.5)
    line["metrics"]["auc"] = 0.875
    text = shown([line], "--metric", "auc")
    assert "## AUC of pairs of classes, last step" in text
    assert "**87.50** |" in text
    assert "(paper" not in text


def test_several_metrics_have_their_tables_one_after_the_other(shown):
    line = record(0.5, overall=0.6, best=0.7)
    text = shown([line], "--metric", "overall", "balanced")
    titles = [part.splitlines()[0] for part in text.split("## ")[1:]]
    assert titles == [
        "Overall accuracy, last step",
        "Overall accuracy, step that was best on validation",
        "Balanced accuracy, last step",
        "Balanced accuracy, step that was best on validation",
    ]
    assert text.count("* One seed: 0.") == 1
    both = shown(
        [line], "--metric", "overall", "balanced", "--selection", "last", "--format", "csv"
    )
    assert [row["mean"] for row in csv.DictReader(io.StringIO(both))] == ["60", "50"]


@pytest.fixture
def pairs():
    """LEAF and FixMatch with three seeds, and UDA with one; differences +1, +4, -2."""
    lines = [*leaf(50, 52, 57), *leaf(49, 48, 59, method="fixmatch"), record(0.4, method="uda")]
    lines += [record(0.9, method="supervised", labels=None)]
    for line in lines:
        line["metrics"]["auc"] = line["metrics"]["balanced_accuracy"] / 2
    return lines


def test_differences_are_taken_seed_by_seed(shown, pairs):
    last = shown(pairs[::-1], "--against", "fixmatch", "--selection", "last")
    absolute, relative = last.split("## ")[1:]
    assert absolute == shown(pairs).split("## ")[1].split("\n\n* ")[0] + "\n\n"
    assert relative.startswith("Balanced accuracy minus that of fixmatch, last step\n")
    assert relative.split("\n\n")[1].splitlines()[2:] == [
        "| uda | *-9.00* (ahead 0 of 1; paper -3.69; 1 of 3 seeds) |",
        "| leaf | **+1.00 ± 3.00** (ahead 2 of 3; paper +4.15) |",
    ]
    assert "* In percent" in relative
    assert "in percentage points, between runs of the same labels and seeds" in relative
    assert "percentage points" not in shown(pairs)


def test_differences_of_each_metric_are_its_own(shown, pairs):
    text = shown(pairs, "--against", "leaf", "--metric", "auc", "--format", "csv")
    found = [row for row in csv.DictReader(io.StringIO(text)) if row["against"]]
    assert [(row["row"], row["ahead"]) for row in found] == [("uda", "0"), ("fixmatch", "1")]
    assert [float(row["mean"]) for row in found] == pytest.approx([-5, -0.5])
    assert float(found[1]["std"]) == pytest.approx(1.5)


def test_runs_of_other_data_labels_or_seeds_are_not_compared(shown):
    others = [record(0.3, labels="400", data="mine", method="uda")]
    others += [record(0.4, seed=1, data="mine", method="uda")]
    others += [record(0.2, data="yours", method="uda")]
    text = shown([record(0.5, data="mine"), *others], "--against", "leaf")
    missing = f"{DASH} (missing)"
    assert text.split("## ")[2].splitlines()[4] == f"| uda | {' | '.join([missing] * 3)} |"


def test_a_row_to_subtract_that_is_not_there_is_told(tmp_path, capsys):
    write(tmp_path, record(expert="linear"), record(method="uda"))
    assert main(["bench", "table", str(tmp_path), "--against", "leaf"]) == 2
    error = "--against 'leaf': no such row; expected one of 'uda', 'leaf expert=linear'\n"
    assert capsys.readouterr().err.endswith(error)


def test_differences_have_signs_that_are_not_hyphens(shown, pairs):
    text = shown(pairs, "--against", "fixmatch", "--format", "html")
    assert '<span class="value">&minus;9.00</span><small>ahead 0 of 1</small>' in text
    text = shown([*pairs, record(expert="linear")], "--against", "fixmatch", "--format", "latex")
    assert "Balanced accuracy minus that of fixmatch in percentage points &" in text
    assert r"\textbf{$+$1.00 $\pm$ 3.00}" in text
    assert "$-$9.00" in text


def test_records_that_were_passed_on_have_the_same_table(shown, tmp_path, capsys):
    here = shown([record(0.5), record(0.4, method="uda")])
    (tmp_path / "records.jsonl").rename(tmp_path / "published.jsonl")
    assert main(["bench", "table", str(tmp_path / "published.jsonl")]) == 0
    assert capsys.readouterr().out == here


def test_columns_are_in_the_order_of_the_paper_and_rows_in_that_of_the_methods(shown):
    lines = [
        *(record(labels=labels) for labels in ("1000", "200")),
        *(record(data=data) for data in ("mine", "rafdb")),
        record(method="vat"),
        record(method="supervised"),
        record(labels=None),
    ]
    table = [line for line in shown(lines).splitlines() if line.startswith("| ")]
    places = ["rafdb, 100", "ferplus, 100", "ferplus, 200", "ferplus, 1000", "ferplus, all"]
    assert table[0] == f"|  | {' labels | '.join([*places, 'mine, 100'])} labels |"
    assert [line.split()[1] for line in table[2:]] == ["supervised", "vat", "leaf"]


def test_different_protocols_are_refused_and_can_be_narrowed(shown, tmp_path, capsys):
    lines = [record(), record(method="uda", image_size=48)]
    assert main(["bench", "table", str(write(tmp_path, *lines))]) == 2
    error = capsys.readouterr().err
    assert error.startswith("leaf: error: image_size differs: 112 in leaf-ferplus-100-s0-")
    assert "--only image_size=112\n" in error
    assert "uda" not in shown(lines, "--only", "image_size=112")


def test_different_commits_are_said(shown):
    text = shown([*leaf(50, 51), record(method="uda", commit="def")])
    assert "* Different commits: abc (2 cells), def (1 cell).\n" in text


def test_the_table_goes_to_a_file(shown, tmp_path):
    assert shown(leaf(50), "--out", str(tmp_path / "t.md")) == ""
    assert "| leaf |" in (tmp_path / "t.md").read_text()


def test_only_unfinished_cells_make_no_table(tmp_path, capsys):
    begin(tmp_path, method="uda")
    write(tmp_path, record())
    assert main(["bench", "table", str(tmp_path), "--only", "method=uda"]) == 2
    assert "none of the cells asked for is finished" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["table1", "table2", "table3"])
def test_every_cell_of_a_recipe_of_the_paper_has_a_number_there(name, tmp_path):
    cells = grid.expand(grid.read_recipe(name), [0])
    lines = [records.Record(cell.name, tmp_path, cell.config.to_dict(), {}) for cell in cells]
    for metric in ("balanced", "overall") if name == "table3" else ("balanced",):
        table = comparison.build(lines, metric, "last")
        without = {row for row, e in table.rows.items() if not all(each.paper for each in e)}
        assert without == ({"supervised", comparison.UPPER} if name == "table1" else set())


def test_every_number_of_the_paper_is_of_a_row_that_a_recipe_has(tmp_path):
    cells = [c for t in "123" for c in grid.expand(grid.read_recipe(f"table{t}"), [0])]
    lines = [records.Record(cell.name, tmp_path, cell.config.to_dict(), {}) for cell in cells]
    there = {(records.row_name(line), line.data, line.labels) for line in lines}
    assert {place[:3] for place in comparison._figures()} <= there


@pytest.mark.parametrize(
    ("options", "percent"),
    [
        ({}, 50.21),
        ({"method": "fixmatch"}, 47.83),
        ({"expert": "bottleneck"}, 48.89),
        ({"eaf": "instance"}, 49.71),
        ({"eaf": "semantic"}, 48.76),
        ({"method": "supervised", "eaf": "semantic,instance"}, 46.47),
        ({"mass": 0}, 49.21),
        ({"mass": 0.5}, None),
    ],
)
def test_a_record_finds_its_number_in_the_paper(tmp_path, options, percent):
    config = configure({"data": "affectnet7", "labels": "500", **options}).to_dict()
    row = records.row_name(records.Record("", tmp_path, config, {}))
    assert comparison.paper(row, ("affectnet7", "500"), "balanced") == percent


def test_a_table_needs_no_torch(tmp_path):
    write(tmp_path, record())
    code = (
        "import sys; from leaf_fer.cli import main\n"
        f"main(['bench', 'table', {str(tmp_path)!r}, '--format', 'html'])\n"
        "assert not {'torch', 'matplotlib', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
