"""Files of tensors, read without running any code of theirs."""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from mouselift.errors import InputError


def read_tensor_file(path: Path, what: str = "weights") -> dict[str, Any]:
    """Read a .safetensors file, or what `torch.save` wrote of tensors, numbers and dictionaries.

    Args:
        path: Every suffix but .safetensors is read as `torch.save`'s.
        what: The file's name in messages.

    Raises:
        InputError: There is no such file, it is damaged, or it asks for code to be run.
    """
    if not path.is_file():
        raise InputError(f"expected a file of {what}, found none at {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        reason = _why(error)
        raise InputError(f"{path}: expected {what} (.safetensors, or .pt of tensors only), found {reason}") from None
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: expected a dictionary of tensors, found {type(content).__name__}")
    return dict(content)


def _why(error: Exception) -> str:
    """One line; torch's own of a refused pickle advises to run it all the same."""
    text = str(error)
    if "weights_only" in text.lower() or "WeightsUnpickler" in text:
        return "a pickle that would run code, or is damaged"
    return text.split("\n")[0] or type(error).__name__
