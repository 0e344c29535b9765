"""Graph models of TensorFlow.js, as far as MobileNet-V1 needs them."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leaf_fer.errors import UserError
from leaf_fer.models.mobilenet import Folded

DTYPES = {"float32": "<f4", "int32": "<i4"}
CONVOLUTIONS = {"Conv2D": (3, 2, 0, 1), "DepthwiseConv2dNative": (2, 3, 0, 1)}
"""Operations that begin a layer, and the order of their kernel's axes in torch."""


@dataclass(frozen=True)
class Graph:
    """A graph model.

    Attributes:
        nodes: by name.
        weights: by the name of their node, as TensorFlow has them.
        source: what the file says it was made from.
        license: text of ``NAME.LICENSE`` or ``LICENSE`` beside the file, or empty.
        sha256: of all weight files, one after the other.
    """

    nodes: dict[str, dict[str, Any]]
    weights: dict[str, NDArray[Any]]
    source: str
    license: str
    sha256: str


def read_graph(file: Path) -> Graph:
    """Read the JSON file of a graph model and the weight files beside it.

    Raises:
        UserError: a file is missing, not a graph model, or of the wrong size.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        nodes = {node["name"]: node for node in content["modelTopology"]["node"]}
        groups = [(group["paths"], group["weights"]) for group in content["weightsManifest"]]
        paths = [file.with_name(Path(path).name) for names, _ in groups for path in names]
        described = [_described(weight) for _, weights in groups for weight in weights]
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError):  # ValueError: not JSON, not text
        raise UserError(
            f"{file}: not a graph model of TensorFlow.js: expected JSON with modelTopology and "
            "weightsManifest"
        ) from None
    data = b"".join(map(_bytes, paths))
    weights = _split(data, described, ", ".join(path.name for path in paths))
    source = str(content.get("generatedBy") or "")
    return Graph(nodes, weights, source, _license(file), hashlib.sha256(data).hexdigest())


def _license(file: Path) -> str:
    for path in (file.with_suffix(".LICENSE"), file.with_name("LICENSE")):
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="replace")
    return ""


def _described(weight: dict[str, Any]) -> tuple[str, np.dtype[Any], tuple[int, ...]]:
    """Name, type and shape of an entry of the manifest."""
    if "quantization" in weight or weight["dtype"] not in DTYPES:
        kind = weight.get("quantization", weight).get("dtype")
        raise UserError(f"{weight['name']}: stored as {kind}; expected float32")
    shape = tuple(map(int, weight["shape"]))
    return str(weight["name"]), np.dtype(DTYPES[weight["dtype"]]), shape


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _split(
    data: bytes, described: list[tuple[str, np.dtype[Any], tuple[int, ...]]], names: str
) -> dict[str, NDArray[Any]]:
    """The weights, which lie one after the other."""
    sizes = [dtype.itemsize * math.prod(shape) for _, dtype, shape in described]
    if sum(sizes) != len(data):
        raise UserError(f"{names}: expected {sum(sizes)} bytes by the manifest, got {len(data)}")
    weights, start = {}, 0
    for (name, dtype, shape), size in zip(described, sizes, strict=True):
        weights[name] = np.frombuffer(data[start : start + size], dtype).reshape(shape)
        start += size
    return weights


def layers(graph: Graph) -> list[Folded]:
    """Follow a graph from its input to the mean over the image, layer by layer.

    A layer is a convolution, then factors and summands per channel, then min(relu(x), 6).

    Raises:
        ValueError: the graph is another chain, or none.
    """
    try:
        return _followed(graph)
    except (AttributeError, LookupError, RuntimeError, TypeError) as error:
        raise ValueError(f"incomplete: {error!r}") from None


def _followed(graph: Graph) -> list[Folded]:
    found: list[Folded] = []
    name = _only([n for n, node in graph.nodes.items() if node["op"] == "Placeholder"], "input")
    clipped = 6.0
    for _ in graph.nodes:
        name = _only([n for n, d in graph.nodes.items() if name in d.get("input", ())], name)
        node = graph.nodes[name]
        operation = node["op"]
        if operation in (*CONVOLUTIONS, "Mean") and clipped != 6:
            raise ValueError(f"{name}: expected min(relu(x), 6) before it")
        if operation in CONVOLUTIONS:
            found.append(_convolution(graph, node))
            clipped = math.nan
        elif operation == "Mean":
            return found
        elif not found:
            raise ValueError(f"{name}: expected a convolution first, got {operation}")
        elif operation == "Relu":
            clipped = math.inf
        elif operation == "Minimum":
            clipped = min(clipped, float(_weight(graph, node)))
        elif operation == "Maximum" and float(_weight(graph, node)) == 0 and clipped == 6:
            pass  # not below 0 already
        elif operation in ("Mul", "Add", "AddV2", "BiasAdd") and math.isnan(clipped):
            found[-1] = _with(found[-1], operation, torch.from_numpy(_weight(graph, node).copy()))
        else:
            raise ValueError(f"{name}: {operation} is not expected there")
    raise ValueError("a circle")


def _only(names: list[str], after: str) -> str:
    if len(names) != 1:
        raise ValueError(f"{after}: expected one operation to follow, got {len(names)}")
    return names[0]


def _weight(graph: Graph, node: dict[str, Any]) -> NDArray[Any]:
    known = [graph.weights[name] for name in node["input"] if name in graph.weights]
    if len(known) != 1:
        raise ValueError(f"{node['name']}: expected one constant among its inputs")
    return known[0]


def _convolution(graph: Graph, node: dict[str, Any]) -> Folded:
    """A convolution as torch has it, with nothing after it."""
    attributes = node["attr"]

    def word(key: str) -> str:
        return base64.b64decode(attributes[key]["s"]).decode()

    strides, dilations = (attributes[k]["list"]["i"] for k in ("strides", "dilations"))
    if word("padding") != "SAME" or word("data_format") != "NHWC" or {*map(int, dilations)} != {1}:
        raise ValueError(f"{node['name']}: expected SAME padding, NHWC, no dilation")
    if strides[1] != strides[2]:
        raise ValueError(f"{node['name']}: expected one stride")
    kernel = _weight(graph, node).transpose(CONVOLUTIONS[node["op"]])
    channels = len(kernel)
    return Folded(
        torch.from_numpy(np.ascontiguousarray(kernel, np.float32)),
        int(strides[1]),
        torch.ones(channels),
        torch.zeros(channels),
    )


def _with(layer: Folded, operation: str, value: Tensor) -> Folded:
    """A layer with a factor or a summand per channel more."""
    value = value.expand(len(layer.kernel))
    if operation == "Mul":
        return Folded(layer.kernel, layer.stride, layer.scale * value, layer.shift * value)
    return Folded(layer.kernel, layer.stride, layer.scale, layer.shift + value)
