"""What a classifier is made of, as data: enough to build it again from a model folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_type_hints

from leaf_fer.errors import UserError
from leaf_fer.models.backbone import create_backbone
from leaf_fer.models.classifier import Classifier, Unit
from leaf_fer.models.eaf import EAF
from leaf_fer.options import describe


@dataclass(frozen=True)
class Architecture:
    """The parts of a :class:`~leaf_fer.models.Classifier`.

    Attributes:
        backbone: name of a timm model, ``conv4`` or ``mobilenetv1_vggface2``.
        num_classes: C >= 2.
        image_size: side of the square input in pixels.
        dropout: probability in [0, 1) on the pooled features.
        eaf: levels that have an EAF: ``none`` or some of ``semantic,instance``.
        num_experts, top_k, expert, gate, shared_expert, combine, balance: see
            :class:`~leaf_fer.models.EAF`.
        instance_level: ``logits`` (eq. 4) or ``feature``, before the head, as in the released code.
        normalize_features: L2-normalize the features.
    """

    backbone: str = "resnet18"
    num_classes: int = 7
    image_size: int = 112
    dropout: float = 0.0
    eaf: str = "none"
    num_experts: int = 4
    top_k: int | None = None
    expert: Literal["linear", "bottleneck", "residual"] = "residual"
    gate: Literal["softplus", "noisy"] = "softplus"
    shared_expert: bool = False
    combine: Literal["linear", "log"] = "linear"
    balance: float = 0.0
    instance_level: Literal["logits", "feature"] = "logits"
    normalize_features: bool = False

    @property
    def levels(self) -> frozenset[str]:
        """The levels named by ``eaf``."""
        return frozenset() if self.eaf == "none" else frozenset(self.eaf.split(","))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Architecture:
        """Undo :meth:`to_dict`.

        Raises:
            UserError: a key is unknown, or a value is not allowed.
        """
        known = get_type_hints(cls)
        for key in values:
            if key not in known:
                raise UserError(f"architecture: unknown key {key!r}; known: {', '.join(known)}")
        return cls(**{k: describe(known[k], k, None).parse(v) for k, v in values.items()})


def build_classifier(architecture: Architecture) -> Classifier:
    """Build a classifier with random weights, drawn from torch's global generator.

    Raises:
        UserError: a name or number in ``architecture`` is not possible.
    """
    a = architecture
    for level in a.levels - {"semantic", "instance"}:
        raise UserError(f"--eaf {a.eaf}: unknown level {level!r}; known: semantic, instance, none")
    backbone, width = create_backbone(a.backbone, a.image_size)

    def eaf(size: int) -> EAF:
        return EAF(
            size,
            a.num_experts,
            a.top_k,
            a.expert,
            gate=a.gate,
            shared=a.shared_expert,
            combine=a.combine,
            balance=a.balance,
        )

    has_instance, on_logits = "instance" in a.levels, a.instance_level == "logits"
    try:
        return Classifier(
            backbone,
            width,
            a.num_classes,
            semantic=eaf(width) if "semantic" in a.levels else None,
            instance=eaf(a.num_classes) if has_instance and on_logits else None,
            refine=eaf(width) if has_instance and not on_logits else None,
            norm=Unit() if a.normalize_features else None,
            dropout=a.dropout,
        )
    except ValueError as error:
        raise UserError(f"model: {error}") from error
