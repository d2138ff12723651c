"""From a picture and its mask to a framed view: what the models take."""

from jaxtyping import Float
from torch import Tensor

from mouselift.data.components import bounding_box
from mouselift.errors import InputError
from mouselift.geometry import Views
from mouselift.geometry.rigs import FACELIFT_FRONT_DEG, orbit

MIN_SUBJECT_PX = 16  # a smaller animal is a smudge


def frame_picture(
    image: Float[Tensor, "3 h w"],
    mask: Float[Tensor, "1 h w"],
    *,
    fov_deg: float,
    distance: float,
    elevation_deg: float,
    azimuth_deg: float = FACELIFT_FRONT_DEG,
    size_px: int,
    fill: float = 0.71,
) -> Views:
    """Frame the animal with a square window, seen by a camera that looks at the scene's origin.

    Nobody knows the camera that took a plain picture. The one assumed here sees the scene's origin in the
    middle of the animal's bounding box. The whole picture is given that camera first; then both are cropped and
    resized together.

    Args:
        image: sRGB in [0, 1], straight colour.
        mask: Foreground in [0, 1].
        fov_deg: Field of view of the framed window.
        distance: Of the camera from the origin, scene units.
        elevation_deg: Of the camera above the horizontal plane.
        azimuth_deg: Of the camera, counter-clockwise about +Z, 0 = the +X side.
        size_px: Width and height of the framed view.
        fill: Share of the window that the longer side of the animal's bounding box takes.

    Returns:
        Batch shape (1,); transparent where the window reaches beyond the picture.

    Raises:
        InputError: If the mask is empty or the animal too small.
    """
    if not bool((mask > 0.5).any()):
        raise InputError("expected a mouse in the mask, found an empty one")
    left, top, right, bottom = bounding_box(mask[0] > 0.5)
    longer = max(right - left, bottom - top)
    if longer < MIN_SUBJECT_PX:
        raise InputError(f"expected a mouse at least {MIN_SUBJECT_PX} px long, found {longer} px")
    side = round(longer / fill)
    window_left, window_top = round((left + right - side) / 2), round((top + bottom - side) / 2)

    height, width = image.shape[-2:]
    framed = orbit([azimuth_deg], elevation_deg, radius=distance, fov_deg=fov_deg, size_px=size_px)
    whole = framed.resized(side, side).cropped(-window_left, -window_top, width, height)
    views = Views(images=image[None], masks=mask[None], cameras=whole.to(image))
    return views.cropped(window_left, window_top, side, side).resized(size_px, size_px)
