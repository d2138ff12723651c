"""What every backend takes and what `render` gives back."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class RenderOutput:
    """Rendered layers of every camera.

    Attributes:
        image: Composited over the background; not clamped above 1.
        alpha: Accumulated opacity in [0, 1).
        depth: Expected depth along the optical axis, scene units; 0 where alpha is 0.
    """

    image: Float[Tensor, "*batch 3 h w"]
    alpha: Float[Tensor, "*batch 1 h w"]
    depth: Float[Tensor, "*batch 1 h w"]


@dataclass(frozen=True, kw_only=True)
class SplatBatch:
    """S scenes, each seen by V cameras: the input of a backend, on one device and in one dtype.

    Attributes:
        means: Centres, scene frame.
        quats: Quaternions (w, x, y, z), not necessarily unit.
        scales: Standard deviations, scene units.
        opacities: In [0, 1].
        colours: One set for all cameras of a scene (C = 1), or one for each (C = V).
        w2c: Camera from scene.
        K: Intrinsics in pixels, skew kept.
        background: One colour for each camera.
        width: Image width in pixels.
        height: Image height in pixels.
    """

    means: Float[Tensor, "s n 3"]
    quats: Float[Tensor, "s n 4"]
    scales: Float[Tensor, "s n 3"]
    opacities: Float[Tensor, "s n"]
    colours: Float[Tensor, "s c n 3"]
    w2c: Float[Tensor, "s v 4 4"]
    K: Float[Tensor, "s v 3 3"]
    background: Float[Tensor, "s v 3"]
    width: int
    height: int
