"""FixMatch in plain PyTorch, made LEAF by three lines: `python examples/fixmatch_with_eaf.py`.

The loop is anybody's; of leaf_fer it uses EAF and two functions, at the lines marked LEAF. Faces
are drawn, so there is nothing to download.
"""

from __future__ import annotations

import argparse

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leaf_fer import attach_eaf
from leaf_fer import functional as fn
from leaf_fer.data import augment, synthetic
from leaf_fer.models import EAF
from leaf_fer.types import MEAN, STD

SIZE, CLASSES = 32, 8
LABELED, UNLABELED, TEST = 400, 1200, 800
THRESHOLD = 0.5  # FixMatch's tau; 0.95 in its paper, where runs are a thousand times as long
MASS = 0.9  # LEAF's T; if it is not above tau, the loss is FixMatch's: every set has one class


def faces(first: int, count: int) -> tuple[Tensor, Tensor]:
    """Draw faces: (N, 3, S, S) uint8 and (N,) int64."""
    index = np.arange(first, first + count)
    images = torch.from_numpy(synthetic.render(0, index, SIZE)).permute(0, 3, 1, 2)
    return images, torch.from_numpy(synthetic.labels(0, index))


def ready(images: Tensor) -> Tensor:
    """Normalize: (B, 3, S, S) uint8 -> float32."""
    return augment.normalize(images, MEAN, STD)


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, target: Tensor) -> float:
    """Return the share of images that are classified correctly."""
    answer = model.eval()(ready(images)).argmax(dim=1)
    model.train()
    return (answer == target).float().mean().item()


def main(steps: int) -> None:
    """Train, and print what happens."""
    generator = torch.manual_seed(0)
    labeled, target = faces(0, LABELED)
    unlabeled, _ = faces(LABELED, UNLABELED)
    test = faces(LABELED + UNLABELED, TEST)

    model = timm.create_model("resnet10t", num_classes=CLASSES, channels=(16, 32, 64, 128))
    attach_eaf(model)  # LEAF 1: semantic and instance level, before the optimizer is made
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    before = accuracy(model, *test)

    for step in range(steps):
        rows, pool = torch.randint(LABELED, (32,)), torch.randint(UNLABELED, (64,))
        x = ready(augment.weak(labeled[rows], generator))
        weak = ready(augment.weak(unlabeled[pool], generator))
        strong = ready(augment.strong(unlabeled[pool], generator))

        with torch.no_grad():  # what is taught carries no gradient
            belief = model(weak).softmax(dim=1)
        mask = (belief.amax(dim=1) >= THRESHOLD).float()
        known, pulled = model(torch.cat([x, strong])).split([len(x), len(strong)])
        supervised = F.cross_entropy(known, target[rows])
        # FixMatch: (mask * F.cross_entropy(pulled, belief.argmax(1), reduction="none")).mean()
        positive = fn.candidate_set(belief, MASS)  # LEAF 2: all classes that it may well be
        category = fn.ambiguous_consistency(pulled, positive, mask=mask)  # LEAF 3: above the others
        optimizer.zero_grad()
        (supervised + category).backward()
        optimizer.step()

        if step % 10 == 0 or step == steps - 1:
            classes, used = positive.sum(dim=1).float().mean(), mask.mean()
            print(
                f"step {step:3}  supervised {supervised:.4f}  category {category:.4f}  "
                f"used {used:.0%}  classes {classes:.1f}"
            )

    for name, module in model.named_modules():
        if isinstance(module, EAF):  # experts near 0 % have collapsed
            kept = ", ".join(f"{share:.0%}" for share in module.frequency)
            print(f"experts of {name} kept for {kept}")
    print(f"accuracy before {before:.1%}, after {accuracy(model, *test):.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    main(parser.parse_args().steps)
