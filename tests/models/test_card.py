import pytest
import yaml

from leaf_fer.models import Architecture, Card, card_text, shared_facts
from leaf_fer.types import MEAN, STD

CLASSES = ("calm", "glad|happy", "grim")
FACTS = {
    "data": "ferplus:/home/somebody/FERPlus",
    "labels": "400",
    "method": "leaf",
    "seed": 3,
    "split_seed": 1,
    "effective_labels": 398,
    "step": 2000,
    "version": "0.1.0",
    "init": {"origin": "resnet18.a1_in1k of timm", "sha256": "abc", "license": "apache-2.0"},
}
METRICS = {
    "part": "test",
    "selection": "last",
    "overall_accuracy": 0.625,
    "balanced_accuracy": 0.75,
    "per_class_recall": {"calm": 1.0, "glad|happy": 0.5, "grim": None},
    "confusion_matrix": [[2, 0, 0], [2, 3, 1], [0, 0, 0]],
}


def text(facts=FACTS, metrics=METRICS):
    network = Architecture(num_classes=3, image_size=48, eaf="semantic,instance")
    return card_text(Card(network, CLASSES, MEAN, STD, facts), metrics)


def test_the_header_is_understood_by_the_hub():
    _, header, _ = text().split("---\n", 2)
    about = yaml.safe_load(header)
    assert about["library_name"] == "leaf-fer"
    assert about["pipeline_tag"] == "image-classification"
    assert "license" not in about  # which it is depends on the data; nobody is told a guess


@pytest.mark.parametrize(
    "line",
    [
        "# Facial expressions: leaf on ferplus",
        "| data | ferplus |",
        "| labels asked for | 400 |",
        "| labeled images | 398 |",
        "| seed of training | 3 |",
        "| network | resnet18, 48 x 48 pixels, EAF on semantic,instance |",
        "| from | resnet18.a1_in1k of timm |",
        "| license | apache-2.0 |",
        "On the test part; the weights are those of the end of training. One run with one seed.",
        "Overall accuracy 62.5 %, balanced accuracy 75.0 %.",
        "| calm | 2 | 100.0 % |",
        "| glad\\|happy | 6 | 50.0 % |",
        "| grim | 0 | - |",
        "## Use",
    ],
)
def test_it_says_what_the_run_says(line):
    assert line in text().splitlines()


def test_it_says_where_the_model_may_not_be_used():
    found = " ".join(text({}, {}).split())
    assert "Art. 5(1)(f)" in found
    assert "workplace and education institutions" in found


def test_it_names_no_folder_of_this_machine():
    assert "somebody" not in text()
    assert "/home" not in text({**FACTS, "labels": "/home/somebody/labels.csv"})


def test_what_is_not_known_is_not_made_up():
    plain = text({**FACTS, "labels": None, "init": None}, {"part": "test", "selection": "last"})
    assert "| labels asked for | all |" in plain
    assert "None: training began with random weights" in plain
    assert "Not measured" in plain
    unknown = text({**FACTS, "init": {"origin": "file.pth", "sha256": "abc"}})
    assert "not stated by their source" in unknown


def test_a_license_of_many_lines_is_told_whole():
    license_ = "MIT\n\nCopyright | somebody\n"
    init = {"origin": "file", "sha256": "abc", "license": license_}
    assert f"```\n{license_}```" in text({**FACTS, "init": init})


@pytest.mark.parametrize(
    ("said", "shared"),
    [
        ("synthetic:800", "synthetic:800"),
        ("synthetic", "synthetic"),
        ("rafdb:data/RAF", "rafdb"),
        ("folder:/home/me/faces", "folder"),
        ("/home/me/faces/", "faces"),
        ("csv:me.csv", "csv"),
        ("C:\\Users\\me\\faces", "faces"),
    ],
)
def test_of_paths_only_the_last_part_is_shared(said, shared):
    assert shared_facts({"data": said, "seed": 1}) == {"data": shared, "seed": 1}
