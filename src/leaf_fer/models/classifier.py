"""The classifier: an encoder, a linear head and two slots for EAF."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from leaf_fer.types import Output


class Unit(nn.Module):
    """L2-normalize every row: (B, D) -> (B, D)."""

    def forward(self, x: Tensor) -> Tensor:
        """Divide every row by its length."""
        return F.normalize(x.float(), dim=1)


class Classifier(nn.Module):
    """Images to features and class scores.

        image -> backbone -> dropout -> semantic -> norm -> features -> refine -> head -> instance

    The slots ``semantic``, ``norm``, ``refine`` and ``instance`` do nothing unless filled. LEAF
    (arXiv:2404.15041), section 4.2, fills ``semantic`` and ``instance`` with an EAF of its own;
    the code released with it fills ``semantic``, ``norm`` and ``refine``.

    Args:
        backbone: (B, 3, H, W) -> (B, width), pooled features.
        width: D.
        classes: C >= 2.
        semantic: (B, D) -> (B, D).
        instance: (B, C) -> (B, C).
        refine: (B, D) -> (B, D).
        norm: (B, D) -> (B, D).
        dropout: probability in [0, 1) of dropping a pooled feature in training.

    Attributes:
        width: D, of the features in :class:`~leaf_fer.types.Output`.
        frozen: modules that stay in evaluation mode; see :func:`~leaf_fer.models.freeze`.

    Raises:
        ValueError: fewer than two classes.
    """

    def __init__(
        self,
        backbone: nn.Module,
        width: int,
        classes: int,
        *,
        semantic: nn.Module | None = None,
        instance: nn.Module | None = None,
        refine: nn.Module | None = None,
        norm: nn.Module | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"expected classes >= 2, got {classes}")
        self.width = width
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.semantic = semantic or nn.Identity()
        self.norm = norm or nn.Identity()
        self.refine = refine or nn.Identity()
        self.head = nn.Linear(width, classes)
        self.instance = instance or nn.Identity()
        self.frozen: list[nn.Module] = []

    def train(self, mode: bool = True) -> Classifier:
        """Set the mode of all modules but the frozen ones."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(self, images: Tensor) -> Output:
        """Classify images, (B, 3, H, W) float, normalized."""
        features = self.norm(self.semantic(self.dropout(self.backbone(images))))
        return Output(features, self.instance(self.head(self.refine(features))))
