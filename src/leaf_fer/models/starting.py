"""Starting weights: an encoder's tensors and what is known of them.

The neutral form is a folder with ``weights.safetensors``, an encoder's tensors, and
``weights.json``, which says what they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from leaf_fer.errors import UserError
from leaf_fer.files import write_atomically, write_json

FORMAT = 1


@dataclass(frozen=True)
class Start:
    """Weights to begin from.

    Attributes:
        tensors: by name, as the file has them.
        origin: where they come from, for people; names of files without their folders.
        sha256: of the file; of the tensors as a safetensors file where they come from timm.
        backbone: the network that they say they are of, or None.
        license: its text or its name, empty where nothing says.
        mean, std: what images were normalized with, or empty.
    """

    tensors: Mapping[str, Tensor] = field(repr=False)
    origin: str
    sha256: str
    backbone: str | None = None
    license: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def facts(self) -> dict[str, str]:
        """What records and model folders say about it."""
        facts = {"origin": self.origin, "sha256": self.sha256}
        return {**facts, "license": self.license} if self.license else facts


def save_start(
    folder: Path,
    encoder: nn.Module,
    backbone: str,
    *,
    origin: str,
    license: str,  # noqa: A002  # what the file calls it
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    """Write ``weights.safetensors`` and ``weights.json``, each atomically.

    Args:
        folder: made if it is not there.
        encoder: a network without its classifier.
        backbone: its name, as ``--backbone`` takes it.
        origin: where they come from, for people.
        license: its text or name; it follows the weights into the models that start from them.
        mean: what is subtracted from red, green, blue in [0, 1].
        std: what they are divided by then.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from None
    content = serialized(encoder.state_dict())
    write_atomically(folder / "weights.safetensors", content)
    write_json(
        folder / "weights.json",
        {
            "format": FORMAT,
            "backbone": backbone,
            "sha256": digest(content),
            "origin": origin,
            "license": license,
            "normalization": {"mean": list(mean), "std": list(std)},
        },
    )


def fill(encoder: nn.Module, start: Start, backbone: str) -> list[str]:
    """Load starting weights into an encoder, all of it.

    Names may have one prefix more, such as ``module.`` or ``backbone.``: the one that suits most of
    the encoder's. What belongs to no part of the encoder, such as the classifier ``fc``, is left
    out. Missing counters of batch normalization (``num_batches_tracked``), which files of old
    versions do not have and nothing here reads, stay 0; anything else that is missing, of another
    shape, not finite, or in excess inside a part of the encoder (a deeper network's layers) is an
    error: half a network that is loaded looks like a whole one.

    Args:
        encoder: filled in place.
        start: the weights.
        backbone: name of the encoder, for messages.

    Returns:
        What people should know, a sentence each.

    Raises:
        UserError: the weights are not those of this encoder.
    """
    whose = f"--init: {start.origin}"
    if start.backbone and start.backbone.split(".")[0] != backbone.split(".")[0]:
        raise UserError(f"{whose}: weights of {start.backbone}, and --backbone is {backbone}")
    wanted = encoder.state_dict()
    prefix = _prefix(start.tensors, wanted)
    own = {k.removeprefix(prefix): v for k, v in start.tensors.items() if k.startswith(prefix)}
    _check(own, wanted, whose, backbone)
    encoder.load_state_dict({k: v for k, v in own.items() if k in wanted}, strict=False)
    taken = {prefix + name for name in own.keys() & wanted.keys()}
    left = sorted({name.rpartition(".")[0] or name for name in start.tensors.keys() - taken})
    notes = [f"starting from {start.origin}: {len(taken)} tensors of {backbone}"]
    return notes + ([f"left out, not of the encoder: {_some(left)}"] if left else [])


def _check(
    own: Mapping[str, Tensor], wanted: Mapping[str, Tensor], whose: str, backbone: str
) -> None:
    """Refuse weights that are not all of an encoder's and no other's."""
    if not own.keys() & wanted.keys():
        raise UserError(
            f"{whose}: holds no weight of {backbone}: its names are "
            f"{_some(sorted(own))}; expected {_some(sorted(wanted))}"
        )
    missing = [k for k in wanted if k not in own and not k.endswith("num_batches_tracked")]
    parts = {name.split(".")[0] for name in wanted}
    excess = sorted(k for k in own if k not in wanted and k.split(".")[0] in parts)
    if missing:
        raise UserError(f"{whose}: does not hold all weights of {backbone}: no {_some(missing)}")
    if excess:
        raise UserError(f"{whose}: holds layers that {backbone} has not: {_some(excess)}")
    for name in (name for name in wanted if name in own):
        if own[name].shape != wanted[name].shape:
            raise UserError(
                f"{whose}: {name} is {_size(own[name])}, and in {backbone} {_size(wanted[name])}"
            )
        if not torch.isfinite(own[name]).all():
            raise UserError(f"{whose}: {name} has values that are not finite")


def _prefix(names: Iterable[str], wanted: Iterable[str]) -> str:
    """What stands before most of the wanted names; the shortest where several are equal."""
    wanted = set(wanted)
    counts = {"": 0}
    for name in names:
        words = name.split(".")
        for start in range(len(words)):
            if ".".join(words[start:]) in wanted:
                prefix = "".join(f"{word}." for word in words[:start])
                counts[prefix] = counts.get(prefix, 0) + 1
    return min(counts, key=lambda prefix: (-counts[prefix], len(prefix), prefix))


def serialized(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors as a safetensors file."""
    return save({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()})


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f", ... ({len(listed)})" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"
