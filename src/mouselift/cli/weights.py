"""Commands about files of weights: `weights import`, `weights show`."""

import sys
from pathlib import Path
from typing import Literal

import tyro
from tyro.conf import Positional

from mouselift.cli.app import Out, app

weights_app = tyro.extras.SubcommandApp()


@weights_app.command(name="import")
def import_(
    checkpoint: Positional[Path],
    *,
    out: Out,
    licence: str | None = None,
    head_dim: int | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
) -> None:
    """Convert a checkpoint (FaceLift's ckpt_*.pt) into a .safetensors file that remembers where it came from.

    Args:
        checkpoint: A file of tensors; code in it is refused, not run. Every tensor must fit.
        out: The .safetensors file.
        licence: The terms of the weights, for the record.
        head_dim: Width of an attention head, where it is not 64.
        dtype: Of the stored tensors.
    """
    import torch

    from mouselift.models.import_weights import import_weights

    made = import_weights(checkpoint, out, licence=licence, head_dim=head_dim, dtype=getattr(torch, dtype))
    sys.stdout.write("\n".join([*made.describe(), f"written to {out}"]) + "\n")


@weights_app.command
def show(file: Positional[Path]) -> None:
    """What a file of weights is: its model, sizes and record.

    Args:
        file: .safetensors or .pt.
    """
    from mouselift.models.import_weights import show_weights

    sys.stdout.write("\n".join(show_weights(file).describe()) + "\n")


app.command(weights_app, name="weights", help="Files of weights: import and show.")
