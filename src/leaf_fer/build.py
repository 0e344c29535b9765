"""The only place where the words of a configuration become objects."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from leaf_fer import processes
from leaf_fer.algorithm import Algorithm
from leaf_fer.algorithms import ALGORITHMS
from leaf_fer.allocator import keep_memory
from leaf_fer.config import Config, Settings, beginning, budget
from leaf_fer.data import split as splits
from leaf_fer.data.saved import with_classes
from leaf_fer.data.sources import read_faces
from leaf_fer.data.split import Split
from leaf_fer.data.store import Store, prepare
from leaf_fer.data.stream import seed_of
from leaf_fer.data.table import FaceTable
from leaf_fer.data.views import Batches, Images
from leaf_fer.engine.loop import State
from leaf_fer.errors import UserError, say
from leaf_fer.memory import Average
from leaf_fer.models import (
    Architecture,
    Classifier,
    Start,
    build_classifier,
    fill,
    freeze,
    pretrained,
    read_start,
)
from leaf_fer.types import MEAN, STD, Problem

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Data:
    """A data set that is ready to train on: names, decoded images and their use."""

    table: FaceTable
    store: Store
    split: Split


def open_data(settings: Settings, saved: Path | None = None) -> Data:
    """Read, decode and split the data set of a run.

    Args:
        settings: of the run.
        saved: a split to use instead of drawing one.

    Raises:
        UserError: the data or an option about it is not usable.
    """
    table = read_faces(settings.data)
    cache = Path(settings.cache) if settings.cache else None
    labels = saved or budget(settings.labels)
    if isinstance(labels, Path):
        table = with_classes(table, labels)
    store = prepare(table, settings.image_size, cache=cache, workers=settings.workers)
    if saved is not None:
        return Data(table, store, splits.load(saved, table, store.hashes))
    split = splits.draw(
        table,
        valid=store.valid,
        hashes=store.hashes,
        labels=labels,
        seed=settings.split_seed,
        balance=settings.balance,
        validation_fraction=settings.validation,
        keep_labeled_in_pool=settings.keep_labeled_in_pool,
        keep_test_duplicates=settings.keep_duplicates,
    )
    return Data(table, store, split)


def architecture(settings: Settings, num_classes: int) -> Architecture:
    """The network of a run."""
    return Architecture(
        backbone=settings.backbone,
        num_classes=num_classes,
        image_size=settings.image_size,
        dropout=settings.dropout,
        eaf=settings.eaf,
        num_experts=settings.num_experts,
        top_k=settings.top_k,
        expert=settings.expert,
        gate=settings.gate,
        shared_expert=settings.shared_expert,
        combine=settings.combine,
        balance=settings.balance_weight,
        instance_level=settings.instance_level,
        normalize_features=settings.normalize_features,
    )


def accelerate(settings: Settings) -> Fabric:
    """Device, precision and processes of a run. Starts the other processes, if there are any.

    On a CPU the process also keeps the memory that it frees, :mod:`leaf_fer.allocator`.

    Raises:
        UserError: a GPU is asked for and there is none, or more of them than there are; or a batch
            cannot be shared evenly.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU here; expected auto or cpu")
    use_gpu = settings.device != "cpu" and torch.cuda.is_available()
    half = settings.precision == "bfloat16" or (
        settings.precision == "auto" and computes_bfloat16("cuda" if use_gpu else "cpu")
    )
    devices, machines = processes.launched() or (settings.devices, 1)
    if use_gpu and devices > torch.cuda.device_count():
        raise UserError(f"--devices {devices}: there are {torch.cuda.device_count()} GPUs here")
    if settings.batch_size % (devices * machines):
        raise UserError(
            f"--batch-size {settings.batch_size}: expected a multiple of {devices * machines}, "
            "the number of processes that share it"
        )
    if not use_gpu:
        keep_memory()
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    # A run says itself what it does, but not why the launcher ends it.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    launcher = "lightning_fabric.strategies.launchers.subprocess_script"
    logging.getLogger(launcher).setLevel(logging.INFO)
    # Statistics are averaged after every step, not copied from the first process before it.
    options: dict[str, Any] = {"broadcast_buffers": False}
    if "forward_sync_buffers" in signature(DistributedDataParallel).parameters:  # its newer name
        options = {"forward_sync_buffers": False}
    fabric = Fabric(
        accelerator="cuda" if use_gpu else "cpu",
        devices=devices,
        num_nodes=machines,
        strategy=DDPStrategy(**options) if devices * machines > 1 else "auto",
        precision="bf16-mixed" if half else "32-true",
    )
    fabric.launch()
    return fabric


def computes_bfloat16(device: str) -> bool:
    """Whether bfloat16 is faster than float32 there: in hardware, not emulated."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in probes)


def find_start(settings: Settings) -> Start | None:
    """The weights that the encoder of a run begins from; None for random ones.

    Raises:
        UserError: they cannot be read or had.
    """
    given = beginning(settings.init)
    if isinstance(given, str):
        return pretrained(given, settings.image_size)
    return None if given is None else read_start(given)


def build_state(
    config: Config,
    data: Data,
    device: torch.device,
    start: Start | None = None,
    methods: Mapping[str, type[Algorithm]] = ALGORITHMS,
) -> State:
    """Network, method, average and optimizer of a run, as they are before the first step.

    Args:
        config: of the run.
        data: of the run.
        device: where the network is wanted.
        start: weights of the encoder; everything else has the random weights of the run's seed.
        methods: by name.

    Raises:
        UserError: the weights are not those of the encoder; an option of the method is not usable.
    """
    settings, split = config.settings, data.split
    classes = len(data.table.classes)
    torch.manual_seed(seed_of(settings.seed, "weights"))
    model: Classifier = build_classifier(architecture(settings, classes))
    if start is not None:
        _begin_from(start, model, settings.backbone)
    freeze(model, settings.freeze)
    model = laid_out(model, settings).to(device)
    counts = torch.from_numpy(np.bincount(split.targets, minlength=classes)).float()
    problem = Problem(classes, len(split.labeled), len(split.unlabeled), counts / counts.sum())
    try:
        algorithm = methods[settings.method](problem, model, **config.options).to(device)
    except ValueError as error:
        raise UserError(f"--method {settings.method}: {error}") from error
    average = Average(model, settings.ema)
    if settings.compile:
        guides = [part.model for part in algorithm.modules() if isinstance(part, Average)]
        for network in (model, *guides):
            network.compile(dynamic=False)
    trained = [p for m in (model, algorithm) for p in m.parameters() if p.requires_grad]
    if settings.optimizer == "adam":
        # Decoupled decay, as Ada-CM and LEAF's released code have it; without decay it is Adam.
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(
            trained, settings.lr, weight_decay=settings.weight_decay, fused=settings.fused
        )
    else:
        optimizer = torch.optim.SGD(
            trained,
            settings.lr,
            momentum=settings.sgd_momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.sgd_momentum > 0,
            fused=settings.fused,
        )
        # The fused kernel fails where only some weights have one: heads that are first used later.
        for parameter in trained:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return State(model, algorithm, average, optimizer)


def _begin_from(start: Start, model: Classifier, backbone: str) -> None:
    for note in fill(model.backbone, start, backbone):
        say(note)
    if (start.mean, start.std) not in (((), ()), (MEAN, STD)):
        say(f"it was trained on images normalized with mean {start.mean}, deviation {start.std};")
        say(f"here it is {MEAN}, {STD}")


def laid_out(model: Classifier, settings: Settings) -> Classifier:
    """The network in the memory layout of a run."""
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    return model.to(memory_format=layout)


def build_images(settings: Settings, data: Data, device: torch.device) -> Images:
    """The decoded images of a run, on its device if they fit."""
    return Images(data.store.images, device, resident_bytes=int(settings.resident * 2**30))


def build_batches(config: Config, data: Data, images: Images, algorithm: Algorithm) -> Batches:
    """The data of a run, batch by batch, in the views that its method asks for.

    Raises:
        UserError: the method wants unlabeled images, and there are none.
    """
    settings, split, views = config.settings, data.split, algorithm.views
    if views.unlabeled and not len(split.unlabeled):
        raise UserError(
            f"--method {settings.method}: needs unlabeled images, and all {len(split.labeled)} "
            "are labeled; give --labels a budget, or use --method supervised"
        )
    return Batches(
        images,
        split.labeled,
        split.targets,
        split.unlabeled,
        views,
        batch_size=settings.batch_size,
        unlabeled_ratio=settings.unlabeled_ratio,
        seed=settings.seed,
        prefetch=settings.prefetch,
        channels_last=settings.channels_last,
        own_rows_only=not algorithm.mixes,
    )
