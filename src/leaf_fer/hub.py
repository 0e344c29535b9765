"""Models on the Hugging Face hub: weights in safetensors and JSON; nothing else is fetched."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leaf_fer.errors import UserError

if TYPE_CHECKING:
    from types import ModuleType

FILES = ("config.json", "model.safetensors", "calibration.json", "README.md")
"""Of a model folder; the first two must be there."""

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?", re.ASCII)


def is_hub_id(text: str) -> bool:
    """Whether a word is ``user/name`` or ``user/name@revision``, and no path of this machine.

    A path whose first folder is here is one of this machine, even if the rest is misspelled.

    Example:
        >>> is_hub_id("somebody/faces"), is_hub_id("somebody/faces@3f2a"), is_hub_id("../faces")
        (True, True, False)
    """
    return bool(_NAME.fullmatch(text)) and not Path(text.partition("/")[0]).exists()


def fetch(name: str, *, revision: str | None = None) -> Path:
    """Fetch a model, or find it in the cache of the hub.

    Args:
        name: ``user/name``, or ``user/name@revision``.
        revision: a commit, which pins the model to these very bytes; or a branch or a tag.

    Returns:
        A model folder. Nothing may be written there.

    Raises:
        UserError: huggingface_hub is not installed, the hub does not answer, or it has no such
            model.
    """
    name, _, said = name.partition("@")
    revision = revision or said or None
    hub = _hub()
    try:
        return Path(hub.snapshot_download(name, revision=revision, allow_patterns=list(FILES)))
    except Exception as error:  # those of its HTTP client have no common class of their own
        pinned = f"@{revision}" if revision else ""
        raise UserError(
            f"{name}{pinned}: no such folder here, and the hub does not give it: {_line(error)}"
        ) from None


def push_to_hub(
    folder: str | Path,
    name: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    message: str = "Model of leaf-fer",
) -> str:
    """Put a model on the hub, all files in one commit.

    Names of folders of this machine are taken out of ``config.json``. Say the license in
    ``README.md`` before you share a model; it depends on the data and on the starting weights.

    Args:
        folder: a model folder, or a run folder.
        name: ``user/name``; made if it is not there.
        private: whether others must not see it; None is what the hub does for the account.
        revision: the branch; None is the main one.
        token: of the account; None is the one of ``hf auth login`` or ``HF_TOKEN``.
        message: of the commit.

    Returns:
        The commit, which :func:`leaf_fer.load` takes as ``revision``.

    Raises:
        UserError: the folder holds no model, huggingface_hub is not installed, or the hub refuses.
    """
    hub = _hub()
    folder = Path(folder)
    contents = snapshot(folder / "model" if (folder / "model").is_dir() else folder)
    parts = [hub.CommitOperationAdd(file, content) for file, content in contents.items()]
    api = hub.HfApi(token=token, library_name="leaf-fer")
    try:
        api.create_repo(name, private=private, exist_ok=True)
        done = api.create_commit(name, parts, commit_message=message, revision=revision)
    except Exception as error:
        raise UserError(f"{name}: the hub does not take it: {_line(error)}") from None
    return str(done.oid)


def snapshot(folder: Path) -> dict[str, bytes]:
    """What others get of a model folder: file -> content.

    Raises:
        UserError: it is no model folder.
    """
    from leaf_fer.models import card_text, load_model, shared_facts

    _, card = load_model(folder)  # nobody shall fetch what cannot be loaded
    contents = {file: (folder / file).read_bytes() for file in FILES if (folder / file).is_file()}
    values: dict[str, Any] = json.loads(contents["config.json"])
    values["facts"] = shared_facts(card.facts)
    contents["config.json"] = (json.dumps(values, indent=2) + "\n").encode()
    contents.setdefault("README.md", card_text(card, {}).encode())
    return contents


def _hub() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(
            "models of the hub need huggingface_hub: pip install 'leaf-fer[hub]'"
        ) from None
    return huggingface_hub


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
