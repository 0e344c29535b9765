"""Models for other programs: ONNX, or PyTorch without this package."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from leaf_fer.conformal import Calibration
from leaf_fer.data import synthetic
from leaf_fer.errors import UserError
from leaf_fer.files import replacing
from leaf_fer.models import Architecture, Card, Classifier
from leaf_fer.recipe import Recipe
from leaf_fer.types import Output

KEY = "leaf_fer"
"""Under which an ONNX file or an archive of PyTorch has what a model card says, as JSON."""

TOLERANCE = 1e-4
"""What probabilities may differ by from those of the network that was exported."""

BATCHES = (1, 7)

Answer = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Colors (B, 3, S, S) in [0, 1] -> probabilities (B, C)."""


class Deployed(nn.Module):
    """What is exported: colors to probabilities, with nothing left to be done before or after.

    Args:
        model: images -> Output.
        card: class names, image size and normalization.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Classifier, card: Card) -> None:
        super().__init__()
        self.image_size = card.architecture.image_size
        self.model = model
        self.register_buffer("mean", torch.tensor(card.mean).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(card.std).reshape(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) float32, red, green, blue in [0, 1] -> (B, C) float32, rows sum to 1."""
        output: Output = self.model((images - self.mean) / self.std)
        return output.probabilities


def export_onnx(
    model: Classifier,
    card: Card,
    path: Path,
    calibration: Calibration | None = None,
    faces: NDArray[np.uint8] | None = None,
) -> float:
    """Write an ONNX file for batches of any size, and compare it with the network.

    Args:
        model: in evaluation mode, in host memory.
        card: of the model; it goes into the file's metadata under :data:`KEY`.
        path: the file.
        calibration: of the model, goes there too.
        faces: what it is compared on, see :func:`compare`.

    Returns:
        The largest difference of a probability.

    Raises:
        UserError: onnx, onnxscript or onnxruntime is not installed; the file cannot be written;
            its answers are not those of the network.
    """
    onnx = needed("onnx")
    deployed, example = _prepared(model, card)
    translations: dict[Any, Any] = {torch.ops.aten.sort.stable: _stable_sort()}
    with torch.no_grad():
        program = torch.onnx.export(
            deployed,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}},
            custom_translation_table=translations,
        )
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {KEY: json.dumps(describe(card, calibration))})
    with replacing(path) as file:  # nobody should use it before it is compared
        file.write_bytes(proto.SerializeToString())
        return compare(OnnxNetwork(file).probabilities, deployed, path, faces)


def export_torch(
    model: Classifier,
    card: Card,
    path: Path,
    calibration: Calibration | None = None,
    faces: NDArray[np.uint8] | None = None,
) -> float:
    """Write a program of ``torch.export``, which runs without this package; compare it.

    Args:
        model: in evaluation mode, in host memory.
        card: of the model; it goes into the file under the name ``leaf_fer``.
        path: the file.
        calibration: of the model, goes there too.
        faces: what it is compared on, see :func:`compare`.

    Returns:
        The largest difference of a probability.

    Raises:
        UserError: the file cannot be written, or its answers are not those of the network.
    """
    deployed, example = _prepared(model, card)
    shapes = {"images": {0: torch.export.Dim("batch", min=1)}}
    with torch.no_grad():
        program = torch.export.export(deployed, (example,), dynamic_shapes=shapes)
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={KEY: json.dumps(describe(card, calibration))})
    with replacing(path) as file:  # nobody should use it before it is compared
        file.write_bytes(content.getvalue())
        again = torch.export.load(file).module()
        return compare(lambda x: again(torch.from_numpy(x)).numpy(), deployed, path, faces)


def quantize(path: Path, out: Path, faces: NDArray[np.uint8]) -> None:
    """Turn an ONNX file of :func:`export_onnx` into one that computes with integers of 8 bits.

    Weights get a scale per channel, maps one that suits the faces given, after the nonlinearity.
    The first convolution keeps its floats.

    Args:
        path: the file.
        out: the file to write.
        faces: (N, S, S, 3) uint8 RGB; some hundred.

    Raises:
        UserError: onnxruntime is not installed, or the file cannot be written.
    """
    quantization = needed("onnxruntime.quantization")

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            self.rest: Iterator[NDArray[np.uint8]] = iter(
                np.array_split(faces, -(-len(faces) // 16))
            )

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(self.rest, None)
            return None if batch is None else {"images": colors(batch)}

    onnx = needed("onnx")
    with replacing(out) as file, TemporaryDirectory() as folder:
        fused = Path(folder) / "fused.onnx"
        quantization.quant_pre_process(str(path), str(fused), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(fused),
            str(file),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            op_types_to_quantize=["Conv", "Clip", "Relu", "Gemm"],
            nodes_to_exclude=_exact(onnx.load(fused).graph),
            extra_options={"ActivationSymmetric": False},
        )


def _exact(graph: Any) -> list[str]:
    """Names of the nodes that keep floats: the first convolution and products of two maps.

    The first one sees colors, few numbers of all sizes, and costs little.
    """
    constant = {tensor.name for tensor in graph.initializer}
    first = next((node.name for node in graph.node if node.op_type == "Conv"), None)
    return [
        node.name
        for node in graph.node
        if node.name == first
        or (node.op_type == "Gemm" and not constant.issuperset(node.input[1:]))
    ]


class OnnxNetwork(nn.Module):
    """A file of :func:`export_onnx` in the place of the network it was made of.

    Args:
        path: the file.

    Attributes:
        card: of the model that it was made of.
        calibration: likewise, or None.

    Raises:
        UserError: onnxruntime is not installed, or the file is none of ours.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        runtime = needed("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = runtime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            text = self.session.get_modelmeta().custom_metadata_map[KEY]
        except KeyError:
            raise UserError(f"{path}: not written by leaf export: no metadata {KEY}") from None
        except Exception as error:  # onnxruntime's exceptions have no common class of their own
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{path}: not an ONNX file: {reason}") from None
        about = json.loads(text)
        alignment = about.get("alignment")
        self.card = Card(
            Architecture.from_dict(about["architecture"]),
            tuple(about["classes"]),
            (0.0, 0.0, 0.0),
            (1.0, 1.0, 1.0),  # the file normalizes by itself
            about["facts"],
            alignment and Recipe.from_dict(alignment),
        )
        known = about["calibration"]
        self.calibration = Calibration.from_dict(known) if known else None

    def probabilities(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """(B, 3, S, S), colors in [0, 1] -> (B, C)."""
        found: NDArray[np.float32] = self.session.run(None, {"images": images})[0]
        return found

    def forward(self, images: Tensor) -> Output:
        """(B, 3, S, S), colors in [0, 1] -> Output without features."""
        found = torch.from_numpy(self.probabilities(images.float().contiguous().numpy()))
        return Output(found[:, :0], found.clamp_min(torch.finfo(torch.float32).tiny).log())


def describe(card: Card, calibration: Calibration | None = None) -> dict[str, Any]:
    """What a program must know to use an exported file, ready for JSON."""
    size = card.architecture.image_size
    return {
        "format": 1,
        "classes": list(card.classes),
        "image_size": size,
        "input": f"images: (batch, 3, {size}, {size}) float32, RGB in [0, 1]; normalized inside",
        "output": f"probabilities: (batch, {len(card.classes)}) float32",
        "architecture": card.architecture.to_dict(),
        "alignment": card.alignment and card.alignment.to_dict(),
        "facts": card.facts,
        "calibration": calibration and calibration.to_dict(),
    }


def compare(
    answer: Answer, deployed: Deployed, path: Path, faces: NDArray[np.uint8] | None = None
) -> float:
    """Compare an exported file with its network, in batches of 1 and 7.

    Args:
        answer: of the file.
        deployed: the network.
        path: of the file, for the message.
        faces: (N, S, S, 3) uint8 RGB, the last 7 are used; drawn ones if there are none.

    Returns:
        The largest difference of a probability.

    Raises:
        UserError: it is more than :data:`TOLERANCE`.
    """
    if faces is None or not len(faces):
        faces = synthetic.render(0, np.arange(max(BATCHES)), deployed.image_size)
    largest = 0.0
    for count in BATCHES:
        images = colors(faces[-count:])
        with torch.inference_mode():
            expected = deployed(torch.from_numpy(images)).numpy()
        largest = max(largest, float(np.abs(answer(images) - expected).max()))
    if not largest <= TOLERANCE:
        raise UserError(
            f"--out {path}: its probabilities differ by {largest:.2g} from those of the model; "
            f"expected at most {TOLERANCE:g}"
        )
    return largest


def colors(faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(B, S, S, 3) uint8 -> (B, 3, S, S) float32 in [0, 1], as exported files want them."""
    return np.ascontiguousarray(faces.transpose(0, 3, 1, 2).astype(np.float32) / 255)


def needed(name: str) -> Any:
    """Import a module of the extra ``export``.

    Raises:
        UserError: it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise UserError(f"{package} is not installed; pip install 'leaf-fer[export]'") from error


def _prepared(model: Classifier, card: Card) -> tuple[Deployed, Tensor]:
    size = card.architecture.image_size
    model = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    return Deployed(model, card).eval().requires_grad_(False), torch.zeros(2, 3, size, size)


def _stable_sort() -> Any:
    """aten::sort.stable, which ONNX has no word for: TopK of all, where equals keep their order."""
    op = needed("onnxscript").opset18

    def stable_sort(x: Any, *, stable: Any = None, dim: int = -1, descending: bool = False) -> Any:
        first, last = (op.Constant(value_ints=[dim + step]) for step in (0, 1))
        count = op.Slice(op.Shape(x), first, last)
        return op.TopK(x, count, axis=dim, largest=int(descending), sorted=1)

    return stable_sort
