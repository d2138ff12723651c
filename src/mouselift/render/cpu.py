"""The CPU backend: loads the kernel in `native/`, built for the widest instruction set that this processor has."""

import ctypes
import os
import weakref
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mouselift.errors import InputError
from mouselift.render import constants
from mouselift.render.contract import RenderOutput, SplatBatch, expected_depth

ISAS = ("baseline", "avx2", "avx512")  # in the order of `splat_supported_isa`
ISA_VARIABLE = "MOUSELIFT_CPU_ISA"
MAX_SIZE_PX = 32767  # pixel boxes are 16-bit


class _Scene(ctypes.Structure):
    _fields_ = (
        ("count", ctypes.c_int64),
        ("views", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("height", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("means", ctypes.c_void_p),
        ("quats", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("opacities", ctypes.c_void_p),
        ("colours", ctypes.c_void_p),
        ("colour_view_stride", ctypes.c_int64),
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
    _fields_ = tuple((name, ctypes.c_void_p) for name in ("image", "alpha", "depth"))


class _Gradients(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in ("means", "quats", "scales", "opacities", "colours"))


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
        raise InputError("backend 'cpu': the compiled kernel is not installed; install a C++ compiler and reinstall mouselift")
    isa = os.environ.get(ISA_VARIABLE, supported[-1])
    if isa not in supported:
        raise InputError(f"{ISA_VARIABLE}={isa!r}: expected one of {', '.join(supported)} on this processor")
    return _load(isa)


def _check(status: int) -> None:
    if status:
        raise MemoryError("rendering on the CPU: out of memory")


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _scene(tensors: tuple[Tensor, ...], index: int, width: int, height: int) -> _Scene:
    means, quats, scales, opacities, colours, w2c, K, background = (t[index] for t in tensors)
    return _Scene(
        count=means.shape[0],
        views=w2c.shape[0],
        width=width,
        height=height,
        threads=torch.get_num_threads(),
        means=means.data_ptr(),
        quats=quats.data_ptr(),
        scales=scales.data_ptr(),
        opacities=opacities.data_ptr(),
        colours=colours.data_ptr(),
        colour_view_stride=colours[0].numel() if colours.shape[0] > 1 else 0,
        w2c=w2c.data_ptr(),
        K=K.data_ptr(),
        background=background.data_ptr(),
    )


def _images(image: Tensor | None, alpha: Tensor | None, depth: Tensor | None) -> _Images:
    return _Images(_address(image), _address(alpha), _address(depth))


class _Handle:
    """What the kernel keeps of one scene between forward and backward; freed with this object."""

    def __init__(self, library: ctypes.CDLL, address: ctypes.c_void_p) -> None:
        self.library = library
        self.address = address
        weakref.finalize(self, library.splat_free, address)


class _Splat(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, width: int, height: int, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tensors = tuple(t.contiguous() for t in tensors)
        library = _library()
        keep = any(ctx.needs_input_grad)
        batch = tensors[-1].shape[:2]  # of the background
        image, alpha, depth = (tensors[0].new_empty(*batch, c, height, width) for c in (3, 1, 1))
        handles: list[_Handle] = []
        for s in range(batch[0]):
            scene = _scene(tensors, s, width, height)
            results = _images(image[s], alpha[s], depth[s])
            address = ctypes.c_void_p()
            handle = ctypes.byref(address) if keep else None
            _check(library.splat_forward(ctypes.byref(scene), ctypes.byref(_CONSTANTS), ctypes.byref(results), handle))
            if keep:
                handles.append(_Handle(library, address))
        if keep:
            ctx.handles, ctx.size = handles, (width, height)
            ctx.save_for_backward(*tensors, image, alpha, depth)
        ctx.set_materialize_grads(False)
        return image, alpha, depth

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        *tensors, image, alpha, depth = ctx.saved_tensors
        gradients = [torch.zeros_like(t) for t in tensors[:5]]
        d_layers = [None if d is None else d.contiguous() for d in cotangents]
        for s, handle in enumerate(ctx.handles):
            scene = _scene(tuple(tensors), s, *ctx.size)
            results = _images(image[s], alpha[s], depth[s])
            d_results = _images(*(None if d is None else d[s] for d in d_layers))
            targets = _Gradients(*(g[s].data_ptr() for g in gradients))
            arguments = (scene, _CONSTANTS, results, d_results, targets)
            _check(handle.library.splat_backward(handle.address, *(ctypes.byref(a) for a in arguments)))
        d_image = cotangents[0]
        d_background = None if d_image is None else ((1 - alpha) * d_image).sum((-2, -1))
        return None, None, *gradients, None, None, d_background


def rasterize(batch: SplatBatch) -> RenderOutput:
    """Render float32 tensors on the CPU.

    Raises:
        InputError: When the kernel is not installed, or the input is not float32 on the CPU.
        MemoryError: When the lists of visible Gaussians do not fit into memory.
    """
    if batch.means.device.type != "cpu" or batch.means.dtype != torch.float32:
        raise InputError(f"backend 'cpu': expected float32 on the CPU, found {batch.means.dtype} on {batch.means.device}")
    if max(batch.width, batch.height) > MAX_SIZE_PX:
        raise InputError(f"backend 'cpu': images of at most {MAX_SIZE_PX} px, found {batch.width}x{batch.height}")
    image, alpha, depth = _Splat.apply(
        batch.width,
        batch.height,
        batch.means,
        batch.quats,
        batch.scales,
        batch.opacities,
        batch.colours,
        batch.w2c,
        batch.K,
        batch.background,
    )
    return RenderOutput(image=image, alpha=alpha, depth=expected_depth(depth, alpha))
