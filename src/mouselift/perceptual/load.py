"""From a file to the perceptual distance that its tensors are of."""

import importlib.util
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from mouselift.errors import InputError
from mouselift.perceptual.backbones import BACKBONES, Backbone
from mouselift.perceptual.distance import LPIPS, Perceptual
from mouselift.perceptual.vgg19 import VGG19Distance
from mouselift.tensor_file import read_tensor_file

Network = Literal["alex", "vgg"]
FACELIFT_PREFIX = "loss_calculator.perceptual_loss_module.net."
PACKAGE = "stlpips_pytorch"
PACKAGE_FILES = {"alex": "alex_shift_tolerant.pth", "vgg": "vgg_shift_tolerant.pth"}
EXPECTED = "torchvision's AlexNet or VGG16, an LPIPS or ST-LPIPS, or a FaceLift checkpoint"


def load_perceptual(path: str | Path | None = None, network: Network = "alex") -> tuple[str, Perceptual]:
    """The perceptual distance of a file, or without one ST-LPIPS from the package that carries its weights.

    Args:
        path: What it holds is found by its tensors: an ImageNet AlexNet or VGG16 with torchvision's names, which gives
            LPIPS; a whole LPIPS or ST-LPIPS; or a FaceLift `ckpt_*.pt`, whose training loss is in it. Nothing in it is
            run.
        network: Backbone of the ST-LPIPS that is used without a file.

    Returns:
        Its name for keys ("lpips", "st_lpips" or "vgg19"; their numbers cannot be compared), and the frozen module, on
        the CPU.

    Raises:
        InputError: The file is unreadable or of something else; or no file is given and `stlpips-pytorch` is missing.
    """
    file = _package_file(network) if path is None else Path(path)
    state = read_tensor_file(file, "perceptual weights")
    distance = _from_state(state, str(file))
    return distance.name, distance


def _package_file(network: Network) -> Path:
    found = importlib.util.find_spec(PACKAGE)  # its code needs torchvision, and is not imported
    folders = [] if found is None else list(found.submodule_search_locations or [])
    if not folders:
        raise InputError(
            "a perceptual distance needs a file of backbone weights, or ST-LPIPS: pip install 'mouselift[perceptual]'"
        )
    return Path(folders[0]) / "weights" / "vST0.0" / PACKAGE_FILES[network]


def _from_state(state: Mapping[str, Any], where: str) -> Perceptual:
    inner = state.get("model")
    state = dict(inner) if isinstance(inner, Mapping) else dict(state)
    state = {key.removeprefix("module."): value for key, value in state.items() if isinstance(value, Tensor)}
    facelift = {k.removeprefix(FACELIFT_PREFIX): v for k, v in state.items() if k.startswith(FACELIFT_PREFIX)}
    if facelift:
        return _filled(VGG19Distance(), facelift, where)
    heads = {f"heads.{k[3]}": v for k, v in state.items() if re.fullmatch(r"lin\d\.model\.1\.weight", k)}
    layers = {re.sub(r"^net\.slice\d\.", "features.", k): v for k, v in state.items()}
    layers = {k: v for k, v in layers.items() if re.fullmatch(r"features\.\d+\.(weight|bias)", k)}
    for kind in BACKBONES:
        backbone = Backbone(kind)
        if {k: v.shape for k, v in backbone.state_dict().items()} != {k: v.shape for k, v in layers.items()}:
            continue
        if not heads and not backbone.shift_tolerant:
            heads = _own_heads(kind)
        filled = {**{f"backbone.{k}": v for k, v in layers.items()}, **heads}
        return _filled(LPIPS(backbone), filled, where)
    raise InputError(f"{where}: expected the weights of {EXPECTED}, found {_some(state)}")


def _own_heads(kind: str) -> dict[str, Tensor]:
    """LPIPS's own weights of the channels (version 0.1), which ship with MouseLift: see NOTICE."""
    file = Path(str(resources.files("mouselift"))) / "assets" / "perceptual" / "lpips_heads.safetensors"
    stored = read_tensor_file(file, "LPIPS's heads")
    return {key.removeprefix(f"{kind}."): value for key, value in stored.items() if key.startswith(f"{kind}.")}


def _filled(distance: Perceptual, state: Mapping[str, Tensor], where: str) -> Perceptual:
    expected = {key: value.shape for key, value in distance.state_dict().items()}
    found = {key: value.shape for key, value in state.items()}
    if expected != found:
        wrong = sorted(k for k in expected.keys() | found.keys() if expected.get(k) != found.get(k))
        raise InputError(
            f"{where}: expected the tensors of {distance.title}, found others under {', '.join(wrong[:4])}"
        )
    distance.load_state_dict({key: value.float() for key, value in state.items()})
    return distance


def _some(state: Mapping[str, Any]) -> str:
    return ", ".join(sorted(state)[:4]) or "no tensors"
