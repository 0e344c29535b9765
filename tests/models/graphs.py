"""Graph models of TensorFlow.js: one that is made up, and one way to compute any."""

import base64
import json

import numpy as np
import torch
import torch.nn.functional as F

CENTER = (103.939, 116.779, 123.68)
WIDTHS = [(2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *[(16, 1)] * 5, (32, 2), (32, 1)]


def text(value):
    return {"s": base64.b64encode(value.encode()).decode()}


class Made:
    """A MobileNet-V1 with random weights, in the file format."""

    def __init__(self, width=32, seed=0):
        self.random = np.random.default_rng(seed)
        self.nodes = [{"name": "input_1", "op": "Placeholder", "attr": {}}]
        self.weights = {}
        self.last = "input_1"
        # Large enough that bytes reach 6: what clips must be seen.
        self.layer("conv1", (3, 3, 3, width), 2, gain=0.02)
        channels = width
        for number, (widths, stride) in enumerate(WIDTHS, 1):
            self.layer(f"dw{number}", (3, 3, channels, 1), stride)
            self.layer(f"pw{number}", (1, 1, channels, widths * width), 1)
            channels = widths * width
        self.constant("axes", np.array([1, 2], np.int32))
        self.add("mean", "Mean", "axes")
        self.add("sigmoid", "Sigmoid")

    def constant(self, name, value):
        self.weights[name] = value
        self.nodes.append({"name": name, "op": "Const", "attr": {}})
        return name

    def add(self, name, operation, *inputs, **attributes):
        inputs = [self.last, *inputs]
        self.nodes.append({"name": name, "op": operation, "input": inputs, "attr": attributes})
        self.last = name

    def layer(self, name, shape, stride, gain=1.0):
        depthwise = shape[3] == 1
        channels = shape[2] if depthwise else shape[3]
        fan = shape[0] * shape[1] * (1 if depthwise else shape[2])
        values = gain * self.random.normal(size=shape) * np.sqrt(2 / fan)
        self.constant(f"{name}/kernel", values.astype(np.float32))
        self.add(
            f"{name}/conv",
            "DepthwiseConv2dNative" if depthwise else "Conv2D",
            f"{name}/kernel",
            strides={"list": {"i": ["1", str(stride), str(stride), "1"]}},
            dilations={"list": {"i": ["1", "1", "1", "1"]}},
            padding=text("SAME"),
            data_format=text("NHWC"),
        )
        if depthwise:
            scale = self.random.uniform(-1, 2, channels).astype(np.float32)
            self.add(f"{name}/mul", "Mul", self.constant(f"{name}/scale", scale))
        shift = self.random.normal(size=channels).astype(np.float32)
        self.add(f"{name}/add", "Add", self.constant(f"{name}/shift", shift))
        self.add(f"{name}/relu", "Relu")
        self.add(f"{name}/min", "Minimum", self.constant(f"{name}/6", np.float32([6]).reshape(())))
        self.add(f"{name}/max", "Maximum", self.constant(f"{name}/0", np.float32([0]).reshape(())))

    def write(self, file):
        described = [
            {"name": name, "shape": list(value.shape), "dtype": str(value.dtype)}
            for name, value in self.weights.items()
        ]
        data = b"".join(value.tobytes() for value in self.weights.values())
        half = len(data) // 2 + 1  # files may part in the midst of a weight
        names = [f"{file.stem}-{part}.bin" for part in (1, 2)]
        for name, part in zip(names, (data[:half], data[half:]), strict=True):
            file.with_name(name).write_bytes(part)
        content = {
            "format": "graph-model",
            "generatedBy": "a test",
            "modelTopology": {"node": self.nodes},
            "weightsManifest": [{"paths": names, "weights": described}],
        }
        file.write_text(json.dumps(content))
        return file


def interpret(file, faces):
    """The pooled features of RGB bytes (B, H, W, 3) as TensorFlow has them, in float64."""
    content = json.loads(file.read_text())
    (group,) = content["weightsManifest"]
    data, start = b"".join(file.with_name(p).read_bytes() for p in group["paths"]), 0
    values = {}
    for weight in group["weights"]:
        count = int(np.prod(weight["shape"], dtype=int))
        array = np.frombuffer(data, weight["dtype"], count, start).reshape(weight["shape"])
        values[weight["name"]] = torch.from_numpy(array.astype(np.float64))
        start += array.nbytes
    nodes = {node["name"]: node for node in content["modelTopology"]["node"]}
    image = torch.from_numpy(faces[..., ::-1].astype(np.float64) - CENTER)

    values |= {n: image for n, node in nodes.items() if node["op"] == "Placeholder"}
    while True:  # whatever can be computed next
        for name, node in nodes.items():
            inputs = [values.get(one) for one in node.get("input", ())]
            if name not in values and all(x is not None for x in inputs):
                values[name] = compute(node, *inputs)
                if node["op"] == "Mean":
                    return values[name]


def compute(node, x, *rest):
    operations = {
        "Conv2D": lambda k: convolve(node, x, k.permute(3, 2, 0, 1), 1),
        "DepthwiseConv2dNative": lambda k: convolve(node, x, k.permute(2, 3, 0, 1), x.shape[3]),
        "Mul": x.mul,
        "Add": x.add,
        "Relu": lambda: x.clamp(min=0),
        "Minimum": x.minimum,
        "Maximum": x.maximum,
        "Mean": lambda axes: x.mean(axes.int().tolist()),
    }
    return operations[node["op"]](*rest)


def convolve(node, x, kernel, groups):
    """A convolution over (B, H, W, C) with TensorFlow's SAME padding."""
    stride = int(node["attr"]["strides"]["list"]["i"][1])
    pads = []
    for size in (x.shape[2], x.shape[1]):
        total = max((-(-size // stride) - 1) * stride + kernel.shape[2] - size, 0)
        pads += [total // 2, total - total // 2]
    x = F.pad(x.permute(0, 3, 1, 2), pads)
    return F.conv2d(x, kernel, stride=stride, groups=groups).permute(0, 2, 3, 1)
