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
        features: Sum of weight times feature, over nothing; divided by alpha it is the mean of what is seen. None if
            not asked for.
        normals: Sum of weight times normal, in the scene frame, facing the camera. Shorter than 1 where alpha is below
            1 or normals disagree. None if not asked for.
    """

    image: Float[Tensor, "*batch 3 h w"]
    alpha: Float[Tensor, "*batch 1 h w"]
    depth: Float[Tensor, "*batch 1 h w"]
    features: Float[Tensor, "*batch c h w"] | None = None
    normals: Float[Tensor, "*batch 3 h w"] | None = None


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
        features: More channels to blend (possibly none, K = 0): one set for all cameras of a scene, or one for each.
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
    features: Float[Tensor, "s f n k"]
