import json
from pathlib import Path

import pytest

from leaf_fer.bench import records
from leaf_fer.config import configure
from leaf_fer.errors import UserError

from .results import begin, record, write


def named(**options):
    config = configure({"data": "here", **options}).to_dict()
    return records.row_name(records.Record("", Path(), config, {}))


def test_a_record_says_what_it_is_and_what_was_found(tmp_path):
    line = record(0.5, best=0.6, seed=2, labels=None)
    (found,) = records.read([write(tmp_path, line)])
    assert (found.method, found.data, found.labels, found.seed) == ("leaf", "ferplus", None, 2)
    assert found.metrics["last"]["balanced_accuracy"] == 0.5
    assert found.metrics["best-on-validation"]["balanced_accuracy"] == 0.6
    assert (found.commit, found.device, found.state) == ("abc", "a CPU", "finished")
    assert found.folder == tmp_path / "cells" / line["cell"]


def test_the_selection_that_the_model_has_is_found_like_the_other(tmp_path):
    line = record(0.5, best=0.6)
    last, best = line["metrics"], line["metrics"]["others"][0]
    line["metrics"] = {**best, "others": [{**last, "others": []}]}
    (found,) = records.read([write(tmp_path, line)])
    assert found.metrics["last"]["balanced_accuracy"] == 0.5
    assert found.metrics["best-on-validation"]["balanced_accuracy"] == 0.6


def test_an_option_that_a_record_does_not_have_has_its_default(tmp_path):
    line = record()
    del line["config"]["backbone"]
    (found,) = records.read([write(tmp_path, line)])
    assert found.config["backbone"] == "resnet18"


def test_a_cell_that_two_folders_have_is_there_once(tmp_path):
    folders = [write(tmp_path / name, record()) for name in "ab"]
    assert len(records.read(folders)) == 1


def test_a_cell_with_two_results_is_refused(tmp_path):
    folders = [write(tmp_path / "a", record(0.5)), write(tmp_path / "b", record(0.6))]
    with pytest.raises(UserError, match=r"leaf-ferplus-100-s0-\w+: .*/a and .*/b have different"):
        records.read(folders)


def test_records_of_one_folder_that_do_not_agree_are_named(tmp_path):
    files = []
    for name, balanced in (("one.jsonl", 0.5), ("two.jsonl", 0.6)):
        (write(tmp_path, record(balanced)) / "records.jsonl").rename(tmp_path / name)
        files.append(tmp_path / name)
    with pytest.raises(
        UserError, match=r": .*/one\.jsonl and .*/two\.jsonl have different results"
    ):
        records.read(files)


@pytest.mark.parametrize("line", ["{", "{}", "[]", '{"cell": "a", "config": {}, "metrics": {}}'])
def test_what_is_no_record_is_refused_with_its_line(tmp_path, line):
    write(tmp_path, record())
    with (tmp_path / "records.jsonl").open("a") as file:
        file.write(line)
    with pytest.raises(UserError, match=r"records.jsonl, line 2: not a record of leaf bench run"):
        records.read([tmp_path])


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no records.jsonl to read"):
        records.read([tmp_path])


def test_runs_without_a_result_are_unfinished_or_failed(tmp_path):
    begin(tmp_path, method="fixmatch")
    begin(tmp_path, method="leaf", failed=True)
    begin(tmp_path, method="uda")
    (done,) = tmp_path.glob("cells/uda*")
    (done / "metrics.json").write_text("{}")
    found = {each.method: each for each in records.unfinished([tmp_path])}
    assert {name: each.state for name, each in found.items()} == {
        "fixmatch": "unfinished",
        "leaf": "failed",
    }
    assert (found["leaf"].data, found["leaf"].metrics) == ("ferplus", {})


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "leaf"),
        ({"expert": "linear"}, "leaf expert=linear"),
        ({"eaf": "none", "expert": "linear"}, "leaf eaf=none"),
        ({"method": "fixmatch", "mass": 0.8, "eaf": "instance"}, "fixmatch eaf=instance mass=0.8"),
        ({"method": "leaf_release"}, "leaf_release"),
        ({"method": "supervised", "image_size": 48, "device": "cpu"}, "supervised"),
    ],
)
def test_a_row_is_the_method_and_what_it_does_not_have_by_default(options, name):
    assert named(**options) == name


def check(folder, *lines):
    records.check_protocol(records.read([write(folder, *lines)]))


def test_records_of_one_protocol_may_differ_in_method_data_labels_seeds_and_machine(tmp_path):
    check(
        tmp_path,
        record(),
        record(method="fixmatch", threshold=0.8, eaf="semantic", num_experts=8),
        record(labels="400", seed=3),
        record(seed=1, device="cpu", workers=2, select="best-on-validation"),
        record(data="rafdb", image_size=224, steps=7),
    )


@pytest.mark.parametrize(
    ("name", "value", "usual"),
    [("image_size", 48, "112"), ("steps", 600, "none"), ("lr", 0.001, "0.0005")],
)
def test_records_of_different_protocols_are_refused_with_option_and_values(
    tmp_path, name, value, usual
):
    with pytest.raises(UserError, match=rf"^{name} differs: {usual} in leaf-.*, {value} in fix"):
        check(tmp_path, record(), record(method="fixmatch", **{name: value}))


def test_the_part_that_is_tested_must_be_the_same_on_all_data(tmp_path):
    with pytest.raises(UserError, match=r"final differs: test in .*--only final=test"):
        check(tmp_path, record(), record(data="rafdb", final="validation"))


def test_what_a_method_recommends_is_not_compared_with_other_methods(tmp_path):
    check(tmp_path, record(), record(method="adacm"), record(method="lion", dropout=0.1))


def test_what_a_method_recommends_is_compared_among_its_own_records(tmp_path):
    with pytest.raises(UserError, match=r"dropout differs: 0.5 in adacm.*, 0.1 in adacm"):
        check(tmp_path, record(method="adacm"), record(method="adacm", dropout=0.1, seed=1))


def test_only_narrows_records_as_it_narrows_cells(tmp_path):
    lines = [record(), record(labels=None), record(method="fixmatch", image_size=48)]
    found = records.read([write(tmp_path, *lines)])
    assert [r.method for r in records.select(found, ["image_size=48"])] == ["fixmatch"]
    assert [r.labels for r in records.select(found, ["method=leaf", "labels=none"])] == [None]
    with pytest.raises(UserError, match="--only method=uda: its values here: fixmatch; leaf"):
        records.select(found, ["method=uda"])


def test_the_protocol_is_said_once_with_what_methods_recommend(tmp_path):
    lines = [record(steps=7), record(method="adacm", steps=7), record(method="lion", steps=7)]
    assert records.protocol(records.read([write(tmp_path, *lines)])) == [
        "image_size 112, backbone resnet18, batch_size 64, steps 7",
        "adacm, lion: normalize_features true, dropout 0.5, weight_decay 0.02",
    ]


def test_the_protocol_is_said_for_each_data_set_where_they_differ(tmp_path):
    lines = [
        record(),
        record(data="rafdb"),
        record(data="mine", image_size=48, precision="float32"),
    ]
    assert records.protocol(records.read([write(tmp_path, *lines)])) == [
        "ferplus, rafdb: image_size 112, backbone resnet18, batch_size 64, epochs 20",
        "mine: image_size 48, backbone resnet18, batch_size 64, epochs 20, precision float32",
    ]


def test_a_line_of_the_runner_is_read(tmp_path):
    from leaf_fer.bench.folder import CellFolder, write_records

    begin(tmp_path)
    (path,) = tmp_path.glob("cells/*")
    (path / "config.yaml").write_text((path / "cell.yaml").read_text())
    (path / "metrics.json").write_text(json.dumps(record(0.75)["metrics"]))
    write_records(tmp_path / "cells", tmp_path / "records.jsonl")
    (found,) = records.read([tmp_path])
    assert found.metrics["last"]["balanced_accuracy"] == 0.75
    assert (found.data, CellFolder(found.folder).finished) == ("ferplus", True)
