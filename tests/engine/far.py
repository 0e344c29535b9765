"""An accelerator that is not there: it computes on the host, and notices who would wait for it.

Tensors that are sent to :data:`DEVICE` become :class:`Far`. Whatever needs their numbers in host
memory, or makes shapes of them, raises :class:`Waits`; so does an operation on tensors of both
sides, which a real device would refuse.
"""

from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

DEVICE = torch.device("cuda")
HOST = torch.device("cpu")

aten = torch.ops.aten
WAITING = {
    aten._local_scalar_dense,
    aten.nonzero,
    aten.masked_select,
    aten.unique_dim,
    aten._unique2,
    aten.unique_consecutive,
    aten.repeat_interleave,
    aten.equal,
    aten.is_nonzero,
    aten.bincount,
}
"""Operations that need numbers of their arguments on the host, or to know a shape."""


class Waits(AssertionError):  # noqa: N818  # what the code under test does
    """The host would have to wait for the device here, or the device cannot do this."""


class Far(torch.Tensor):
    """A tensor on the device."""

    @staticmethod
    def __new__(cls, held):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=HOST,
            requires_grad=held.requires_grad,
        )

    def __init__(self, held):
        self.held = held

    @property
    def device(self):
        return DEVICE

    def __repr__(self):
        return f"Far{tuple(self.shape)}"

    def tolist(self):
        raise Waits("tolist")

    def numpy(self):
        raise Waits("numpy")

    def cpu(self):
        raise Waits("a copy to the host")

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


def run(func, args, kwargs):
    """Compute on the host, unless that would mean to wait."""
    inputs = tensors((args, kwargs))
    far = [x for x in inputs if isinstance(x, Far)]
    if not far:
        return func(*args, **kwargs)
    indexes_by_mask = func.overloadpacket in (aten.index, aten.index_put, aten.index_put_) and any(
        x.dtype in (torch.bool, torch.uint8) for x in tree_flatten(args[1])[0] if x is not None
    )
    if func.overloadpacket in WAITING or indexes_by_mask:
        raise Waits(str(func))
    near = [x for x in inputs if not isinstance(x, Far) and x.dim()]
    if near and func.overloadpacket is not aten.copy_:
        raise Waits(f"{func} of tensors on the host and on the device")
    held = tree_map_only(Far, lambda x: x.held, (args, kwargs))
    found = func(*held[0], **held[1])
    if func._schema.is_mutable and func._schema.name.endswith("_"):
        return args[0] if func._schema.returns else None
    return tree_map_only(torch.Tensor, Far, found)


def tensors(values):
    return [x for x in tree_flatten(values)[0] if isinstance(x, torch.Tensor)]


class _Dispatch(TorchDispatchMode):
    def __init__(self, sending):
        super().__init__()
        self.sending = sending

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = run(func, args, kwargs or {})
        if self.sending.on_device and not tensors((args, kwargs)):
            # Made by an operation on the device, for itself, in C++ that takes it for the host.
            return tree_map_only(torch.Tensor, Far, found)
        return found


class _Sending(TorchFunctionMode):
    """Gives host tensors a new type where they are sent to the device, or made there."""

    def __init__(self):
        super().__init__()
        self.on_device = False

    def __torch_function__(self, func, types, args=(), kwargs=None):
        before = self.on_device
        self.on_device = any(isinstance(x, Far) for x in tensors((args, kwargs)))
        try:
            return self.send(func, args, dict(kwargs or {}))
        finally:
            self.on_device = before

    def send(self, func, args, kwargs):
        name = getattr(func, "__name__", "")
        place = kwargs.get("device")
        if name == "to" and len(args) > 1 and isinstance(args[1], torch.device | str):
            place, args = torch.device(args[1]), (args[0], *args[2:])
        elif place is not None:
            kwargs.pop("device")
        if place is None:
            return func(*args, **kwargs)
        if name == "to" and torch.device(place).type == "cpu":
            if isinstance(args[0], Far):
                raise Waits("a copy to the host")
            return args[0]
        patient = not kwargs.pop("non_blocking", False)
        if name == "to" and not isinstance(args[0], Far) and patient:
            raise Waits("a copy to the device that is waited for")
        if name in ("tensor", "as_tensor"):
            raise Waits("numbers of the host are copied to the device, and that is waited for")
        if name == "to":
            found = func(*args, **kwargs) if len(args) > 1 or kwargs else args[0]
        else:
            found = func(*args, **kwargs)
        if torch.device(place).type != DEVICE.type or isinstance(found, Far):
            return found
        return Far(found.detach().clone())


@contextmanager
def accelerator():
    """Make :data:`DEVICE` usable for a while."""
    with _Sending() as sending, _Dispatch(sending):
        yield DEVICE


def sent(module):
    """Move a module to the device, in place; for use inside :func:`accelerator`."""
    for part in module.modules():
        for name, parameter in list(part._parameters.items()):
            if parameter is not None:
                moved = torch.nn.Parameter(Far(parameter.detach()), parameter.requires_grad)
                part._parameters[name] = moved
        for name, buffer in list(part._buffers.items()):
            if buffer is not None:
                part._buffers[name] = Far(buffer)
    return module
