"""The configuration of a run: everything that decides its result, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from leaf_fer.errors import UserError
from leaf_fer.options import Option, of_dataclass, resolve
from leaf_fer.ranges import Count, Fraction, Natural, NonNegative, Positive, ProperFraction
from leaf_fer.registry import method, pretraining


@dataclass(frozen=True)
class Settings:
    """Options of a training run that every method has.

    Attributes:
        data: the data set, as in ``leaf data --help``.
        method: the method, as in ``leaf methods``.
        labels: how many labels to draw, or a CSV (path,label) or split.json to take them from;
            none uses every labeled training image.
        balance: draw the same number of labels per class, or as many as the data set has of it.
        split_seed: seed of the draw of labels and of held-out images.
        validation: share of the labeled training images to hold out where the data set has no
            validation part of its own.
        keep_labeled_in_pool: leave the labeled images among the unlabeled ones too.
        keep_duplicates: leave training images in that are also in the test or validation part.
        seed: seed of weights, batches, augmentation and dropout.
        image_size: side of the square images in pixels.
        backbone: name of a timm model, conv4, or mobilenetv1_vggface2.
        init: weights that the backbone starts from: a file or folder, or the name of a timm model;
            none draws them.
        freeze: first layers of the backbone that keep the weights of init; a ResNet-18 has 9, the
            MobileNet 14.
        eaf: levels that get an EAF: semantic, instance, both with a comma, or none.
        num_experts: experts of an EAF.
        top_k: experts that a gate keeps; none means 2, or 1 where there is only one.
        expert: structure of the experts.
        gate: eq. (3) of LEAF, or the noisy gate of the released code.
        shared_expert: one expert in all places, as in the released code.
        combine: weigh the experts' outputs, or their exponentials as in the released code.
        balance_weight: weight of the load-balancing loss of the gates.
        instance_level: place of the instance EAF: on the class scores, or before them as in the
            released code.
        normalize_features: L2-normalize the features.
        dropout: share of the pooled features that is dropped in training.
        batch_size: labeled images per step.
        unlabeled_ratio: unlabeled images per labeled one in a step.
        epochs: length of the run if steps are not given.
        steps: length of the run in optimizer steps; none goes by epochs.
        epoch_steps: steps between evaluations; none means one pass over the unlabeled images, or a
            twentieth of the given steps.
        optimizer: adam has decoupled weight decay, sgd has Nesterov momentum.
        lr: learning rate.
        weight_decay: decay of the weights per step, times the learning rate for adam.
        sgd_momentum: momentum of sgd.
        schedule: constant, or cosine down to lr * cos(7 pi / 16).
        warmup: share of the run over which the learning rate rises.
        ema: decay of the averaged weights that are evaluated; grows to this value over the first
            steps.
        precision: auto takes bfloat16 where the processor computes with it.
        device: auto takes a GPU where there is one.
        devices: processes that train together, each with a GPU or a share of the cores; they see
            the batches of one process. torchrun wins over it.
        compile: translate the network with torch.compile before the first step.
        channels_last: keep the colors of a pixel side by side in memory.
        fused: update all weights in one kernel.
        prefetch: read the images of the next step while one is computed.
        resident: data sets up to so many GiB are kept on the GPU.
        eval_batch_size: images per step of an evaluation.
        watch_unlabeled: unlabeled images to classify after every epoch, to record how many
            pseudo-labels are right; the data must know their classes, which choose nothing. 0 is
            off.
        select: which weights model/ holds in the end.
        final: the part that the final metrics are computed on; the other is not touched at the end.
        report: write report.html at the end.
        cache: folder of the decoded images; none means $LEAF_CACHE or the user's cache folder.
        workers: processes that decode images; none means one per core.
    """

    data: str = ""
    method: str = "leaf"
    labels: str | None = None
    balance: Literal["equal", "natural"] = "equal"
    split_seed: Natural = 0
    validation: ProperFraction = 0.0
    keep_labeled_in_pool: bool = False
    keep_duplicates: bool = False
    seed: Natural = 0
    image_size: Count = 112
    backbone: str = "resnet18"
    init: str | None = None
    freeze: Natural = 0
    eaf: str = "none"
    num_experts: Count = 4
    top_k: Count | None = None
    expert: Literal["linear", "bottleneck", "residual"] = "residual"
    gate: Literal["softplus", "noisy"] = "softplus"
    shared_expert: bool = False
    combine: Literal["linear", "log"] = "linear"
    balance_weight: NonNegative = 0.0
    instance_level: Literal["logits", "feature"] = "logits"
    normalize_features: bool = False
    dropout: ProperFraction = 0.0
    batch_size: Count = 64
    unlabeled_ratio: Count = 1
    epochs: Count = 20
    steps: Count | None = None
    epoch_steps: Count | None = None
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: Positive = 5e-4
    weight_decay: NonNegative = 0.0
    sgd_momentum: ProperFraction = 0.9
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: Fraction = 0.0
    ema: ProperFraction = 0.999
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Count = 1
    compile: bool = False
    channels_last: bool = True
    fused: bool = True
    prefetch: bool = True
    resident: NonNegative = 16.0
    eval_batch_size: Count = 256
    watch_unlabeled: Natural = 0
    select: Literal["last", "best-on-validation"] = "last"
    final: Literal["test", "validation"] = "test"
    report: bool = True
    cache: str | None = None
    workers: Count | None = None


SETTINGS: list[Option] = of_dataclass(Settings)

PRETRAINING_METHOD = "simclr"

PRETRAINING_SETTINGS = (
    *("data", "method", "keep_duplicates", "seed", "image_size", "backbone", "init", "batch_size"),
    *("epochs", "steps", "epoch_steps", "optimizer", "lr", "weight_decay", "sgd_momentum"),
    *("schedule", "warmup", "ema", "precision", "device", "devices", "compile", "channels_last"),
    *("fused", "prefetch", "resident", "cache", "workers"),
)
"""What ``leaf pretrain`` takes of the options of ``leaf train``."""

WEIGHTS = (".bin", ".json", ".pt", ".pth", ".safetensors")
"""Endings of files, never of a model of timm."""


@dataclass(frozen=True)
class Config:
    """A resolved run: the settings, and the options of the method.

    Attributes:
        settings: what every method has.
        options: the method's own options by name.
    """

    settings: Settings
    options: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """All values on one level, as the YAML file of a run has them."""
        return {**asdict(self.settings), **self.options}


def budget(text: str | None) -> int | Path | None:
    """What ``--labels`` means: a budget, a file, or all labels there are.

    Raises:
        UserError: neither a whole number above 0 nor a file.
    """
    if text is None:
        return None
    if text.removeprefix("-").isdecimal():
        if int(text) < 1:
            raise UserError(f"--labels {text}: expected a whole number >= 1, or a CSV file")
        return int(text)
    if not Path(text).is_file():
        raise UserError(f"--labels {text}: expected a whole number >= 1, or an existing CSV file")
    return Path(text)


def beginning(text: str | None) -> str | Path | None:
    """What ``--init`` means: random weights, the name of a timm model, or a file or folder.

    What is there wins over what timm knows; ``timm:NAME`` is always a name.

    Raises:
        UserError: a path to nothing.
    """
    if text is None:
        return None
    path, name = Path(text), text.removeprefix("timm:")
    if name != text or not (path.exists() or path.name != text or path.suffix in WEIGHTS):
        return name
    if not path.exists():
        raise UserError(f"--init {text}: no such file or folder")
    return path


def options_of(key: str) -> list[Option]:
    """All options of a run with the method ``key``, the method's own last.

    Raises:
        UserError: there is no such method.
    """
    return SETTINGS + method(key).options


def configure(*sources: Mapping[str, Any]) -> Config:
    """Resolve a configuration: defaults, the method's recipe, then the sources, later ones winning.

    Raises:
        UserError: an unknown name or a value that is not allowed.
    """
    chosen = next((s["method"] for s in reversed(sources) if "method" in s), Settings.method)
    entry = method(str(chosen))
    values = resolve(options_of(entry.key), entry.recipe, *sources)
    own = {option.name: values.pop(option.name) for option in entry.options}
    settings = Settings(**values)
    if settings.eaf != "none":
        unknown = set(settings.eaf.split(",")) - {"semantic", "instance"}
        if unknown:
            raise UserError(f"--eaf {settings.eaf}: expected semantic, instance, both, or none")
    if settings.top_k is not None and settings.top_k > settings.num_experts:
        raise UserError(
            f"--top-k {settings.top_k}: expected at most --num-experts {settings.num_experts}"
        )
    if settings.freeze and settings.init is None:
        raise UserError(
            f"--freeze {settings.freeze}: keeps the weights of --init, and --init is none"
        )
    return Config(settings, own)


def pretraining_options(key: str) -> list[Option]:
    """All options of a run of ``leaf pretrain`` with the method ``key``.

    Raises:
        UserError: there is no such method.
    """
    own = method(key, pretraining).options
    return [option for option in SETTINGS if option.name in PRETRAINING_SETTINGS] + own


def configure_pretraining(*sources: Mapping[str, Any]) -> Config:
    """Resolve a configuration of ``leaf pretrain``: defaults, then the sources, later ones winning.

    Raises:
        UserError: an unknown name or a value that is not allowed.
    """
    chosen = next((s["method"] for s in reversed(sources) if "method" in s), PRETRAINING_METHOD)
    own = method(str(chosen), pretraining).options
    values = resolve(pretraining_options(str(chosen)), {"method": str(chosen)}, *sources)
    return Config(
        Settings(**{k: v for k, v in values.items() if k in PRETRAINING_SETTINGS}),
        {option.name: values[option.name] for option in own},
    )


def read_yaml(path: str) -> dict[str, Any]:
    """Read a configuration file.

    Raises:
        UserError: the file cannot be read, or is not a mapping of names to values.
    """
    import yaml

    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"--config {path}: cannot be read: {reason}") from None
    except (yaml.YAMLError, ValueError) as error:  # such as the date 2020-99-99
        raise UserError(f"--config {path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"--config {path}: expected a mapping of option names to values")
    return {str(name).replace("-", "_"): value for name, value in values.items()}


def write_yaml(config: Config) -> str:
    """The configuration as the text of a YAML file."""
    import yaml

    text: str = yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True)
    return text
