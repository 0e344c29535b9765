import sys
from types import ModuleType

import pytest

from leaf_fer.errors import UserError
from leaf_fer.faces.packages import package, silent


@pytest.mark.parametrize("name", ["cv2", "av"])
def test_a_missing_package_is_named_with_what_installs_it(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        UserError, match=rf"^faces: needs {name} \(.*\): pip .*'leaf-fer\[faces\]'$"
    ):
        package(name)


@pytest.mark.parametrize(
    ("name", "version", "enough"),
    [
        ("cv2", "4.12.0", False),
        ("cv2", "5.0.0", True),
        ("cv2", "10.0.0-dev", True),
        ("av", "14.4.0", False),
        ("av", "15.0.0", True),
    ],
)
def test_old_packages_are_refused(name, version, enough, monkeypatch):
    module = ModuleType(name)
    module.__version__ = version
    monkeypatch.setitem(sys.modules, name, module)
    if enough:
        assert package(name) is module
    else:
        with pytest.raises(UserError, match=f"needs {name} [0-9]+ or newer, not {version}: pip"):
            package(name)


def test_opencv_may_warn_again_afterwards():
    cv2 = pytest.importorskip("cv2")
    before = cv2.utils.logging.getLogLevel()
    with silent(cv2):
        assert cv2.utils.logging.getLogLevel() == cv2.utils.logging.LOG_LEVEL_SILENT
    assert cv2.utils.logging.getLogLevel() == before
