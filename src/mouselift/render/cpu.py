"""The CPU backend: loads the kernel in `native/`, built for the widest instruction set that this processor has."""

import ctypes
import os
import weakref
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mouselift.errors import InputError
from mouselift.render import constants
from mouselift.render.contract import RenderOutput, SplatBatch

ISAS = ("baseline", "avx2", "avx512")  # in the order of `splat_supported_isa`
ISA_VARIABLE = "MOUSELIFT_CPU_ISA"
MAX_SIZE_PX = 32767  # pixel boxes are 16-bit
_FIELDS = ("means", "quats", "scales", "opacities", "colours", "features")  # what has gradients
_LAYERS = ("image", "alpha", "depth", "features")


class _Batch(ctypes.Structure):
    _fields_ = (
        ("scenes", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("views", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("width", ctypes.c_int32),
        ("height", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("colours_for_each_view", ctypes.c_int32),
        ("features_for_each_view", ctypes.c_int32),
        ("means", ctypes.c_void_p),
        ("quats", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("opacities", ctypes.c_void_p),
        ("colours", ctypes.c_void_p),
        ("features", ctypes.c_void_p),
        ("w2c", ctypes.c_void_p),
        ("K", ctypes.c_void_p),
        ("background", ctypes.c_void_p),
    )


class _Constants(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_float)
        for name in ("near_plane", "dilation_px2", "jacobian_margin", "max_alpha", "min_alpha", "min_transmittance")
    )


class _Images(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in _LAYERS)


class _Gradients(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in _FIELDS)


_CONSTANTS = _Constants(
    constants.NEAR_PLANE,
    constants.DILATION_PX2,
    constants.JACOBIAN_MARGIN,
    constants.MAX_ALPHA,
    constants.MIN_ALPHA,
    constants.MIN_TRANSMITTANCE,
)


def _library_path(isa: str) -> Path:
    return Path(__file__).parent / f"libsplat_{isa}.so"


@cache
def _load(isa: str) -> ctypes.CDLL:
    library = ctypes.CDLL(str(_library_path(isa)))
    pointer = ctypes.c_void_p
    library.splat_forward.argtypes = [pointer, pointer, pointer, pointer]
    library.splat_backward.argtypes = [pointer] * 6
    library.splat_free.argtypes = [pointer]
    library.splat_free.restype = None
    return library


@cache
def supported_isas() -> tuple[str, ...]:
    """The builds of the kernel that are installed and that this processor can run, narrowest first."""
    if not _library_path("baseline").exists():
        return ()
    widest = _load("baseline").splat_supported_isa()
    return tuple(isa for isa in ISAS[: widest + 1] if _library_path(isa).exists())


def is_available() -> bool:
    """Whether the compiled kernel is installed."""
    return bool(supported_isas())


def _library() -> ctypes.CDLL:
    supported = supported_isas()
    if not supported:
        raise InputError("backend 'cpu': the kernel was not compiled; install a C++ compiler and reinstall mouselift")
    isa = os.environ.get(ISA_VARIABLE, supported[-1])
    if isa not in supported:
        raise InputError(f"{ISA_VARIABLE}={isa!r}: expected one of {', '.join(supported)} on this processor")
    return _load(isa)


def _check(status: int) -> None:
    if status:
        raise MemoryError("rendering on the CPU: out of memory")


def _batch(tensors: Sequence[Tensor], width: int, height: int) -> _Batch:
    means, _, _, _, colours, features, w2c, _, _ = tensors
    sizes = (*means.shape[:2], w2c.shape[1], features.shape[-1], width, height)
    for_each_view = (int(colours.shape[1] > 1), int(features.shape[1] > 1))
    return _Batch(*sizes, torch.get_num_threads(), *for_each_view, *(t.data_ptr() for t in tensors))


class _Handle:
    """What the kernel keeps between forward and backward; freed with this object."""

    def __init__(self, library: ctypes.CDLL, address: ctypes.c_void_p) -> None:
        self.library = library
        self.address = address
        weakref.finalize(self, library.splat_free, address)


class _Splat(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, width: int, height: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        tensors = tuple(t.contiguous() for t in tensors)
        library = _library()
        scenes_and_views = tensors[-1].shape[:2]  # of the background
        channels = (3, 1, 1, tensors[len(_FIELDS) - 1].shape[-1])
        layers = tuple(tensors[0].new_empty(*scenes_and_views, c, height, width) for c in channels)
        structs = (_batch(tensors, width, height), _CONSTANTS, _Images(*(t.data_ptr() for t in layers)))
        keep = any(ctx.needs_input_grad)
        address = ctypes.c_void_p()
        _check(library.splat_forward(*map(ctypes.byref, structs), ctypes.byref(address) if keep else None))
        if keep:
            ctx.handle, ctx.size = _Handle(library, address), (width, height)
            ctx.save_for_backward(*tensors, *layers)
        ctx.set_materialize_grads(False)
        return layers

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] (the decorator hides the name of ctx)
        ctx: Any, *cotangents: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        tensors, layers = ctx.saved_tensors[: -len(_LAYERS)], ctx.saved_tensors[-len(_LAYERS) :]
        d_layers = [None if d is None else d.contiguous() for d in cotangents]
        make = torch.empty_like if layers[0].numel() else torch.zeros_like  # without views the kernel writes nothing
        gradients = [make(t) for t in tensors[: len(_FIELDS)]]
        structs = (
            _batch(tensors, *ctx.size),
            _CONSTANTS,
            _Images(*(t.data_ptr() for t in layers)),
            _Images(*(None if d is None else d.data_ptr() for d in d_layers)),
            _Gradients(*(g.data_ptr() for g in gradients)),
        )
        _check(ctx.handle.library.splat_backward(ctx.handle.address, *map(ctypes.byref, structs)))
        d_background = None
        if ctx.needs_input_grad[-1] and d_layers[0] is not None:
            d_background = ((1 - layers[1]) * d_layers[0]).sum((-2, -1))
        d_features = None if d_layers[3] is None else gradients[-1]  # not written without a cotangent
        return None, None, *gradients[:-1], d_features, None, None, d_background


def rasterize(batch: SplatBatch) -> RenderOutput:
    """Render float32 tensors on the CPU.

    Raises:
        InputError: When the kernel is not installed, or the input is not float32 on the CPU.
        MemoryError: When the lists of visible Gaussians do not fit into memory.
    """
    if batch.means.device.type != "cpu" or batch.means.dtype != torch.float32:
        found = f"{batch.means.dtype} on {batch.means.device}"
        raise InputError(f"backend 'cpu': expected float32 on the CPU, found {found}")
    if max(batch.width, batch.height) > MAX_SIZE_PX:
        raise InputError(f"backend 'cpu': images of at most {MAX_SIZE_PX} px, found {batch.width}x{batch.height}")
    apply = cast(Callable[..., tuple[Tensor, ...]], _Splat.apply)  # pyright: ignore[reportUnknownMemberType]
    image, alpha, depth, features = apply(
        batch.width,
        batch.height,
        batch.means,
        batch.quats,
        batch.scales,
        batch.opacities,
        batch.colours,
        batch.features,
        batch.w2c,
        batch.K,
        batch.background,
    )
    return RenderOutput(image=image, alpha=alpha, depth=depth, features=features)
