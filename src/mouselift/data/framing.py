"""From a picture and its mask to a framed view: what the models take."""

from jaxtyping import Float
from torch import Tensor

from mouselift.data.components import bounding_box
from mouselift.errors import InputError
from mouselift.geometry import Views
from mouselift.geometry.rigs import FACELIFT_FRONT_DEG, orbit

MIN_SUBJECT_PX = 16  # a smaller animal is a smudge
FILL = 0.71  # of a window by the animal's longer side: the middle of what the networks were trained on
WELL_FILLED, MAX_OFF_CENTRE = (0.55, 0.87), 0.1  # with these a view needs no other window


def frame_picture(
    image: Float[Tensor, "3 h w"],
    mask: Float[Tensor, "1 h w"],
    *,
    fov_deg: float,
    distance: float,
    elevation_deg: float,
    azimuth_deg: float = FACELIFT_FRONT_DEG,
    size_px: int,
    fill: float = FILL,
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
    window_left, window_top, side = subject_window(mask, fill)
    height, width = image.shape[-2:]
    framed = orbit([azimuth_deg], elevation_deg, radius=distance, fov_deg=fov_deg, size_px=size_px)
    whole = framed.resized(side, side).cropped(-window_left, -window_top, width, height)
    views = Views(images=image[None], masks=mask[None], cameras=whole.to(image))
    return views.cropped(window_left, window_top, side, side).resized(size_px, size_px)


def frame_view(view: Views, *, fill: float = FILL, size_px: int | None = None, min_px: int = MIN_SUBJECT_PX) -> Views:
    """Cut a view of a known camera to a square window about the animal; its camera moves along, exactly.

    Args:
        view: (1,) with the animal in its mask.
        fill: Share of the window that the longer side of the animal's bounding box takes.
        size_px: Width and height of the result; the window's own size when not given.
        min_px: A smaller animal is refused.

    Raises:
        InputError: If the mask is empty or the animal too small.
    """
    left, top, side = subject_window(view.masks[0], fill, min_px)
    cut = view.cropped(left, top, side, side)
    return cut if size_px is None else cut.resized(size_px, size_px)


def is_framed(view: Views) -> bool:
    """Whether a view (1,) shows the animal as a framed picture does: in the middle, and neither small nor cut off."""
    left, top, side = subject_window(view.masks[0], FILL, 1)
    width, height = view.cameras.width, view.cameras.height
    away = max(abs(left + side / 2 - width / 2), abs(top + side / 2 - height / 2)) / width
    return width == height and WELL_FILLED[0] <= FILL * side / width <= WELL_FILLED[1] and away <= MAX_OFF_CENTRE


def subject_px(mask: Float[Tensor, "1 h w"]) -> int:
    """Longer side of the animal's bounding box; 0 where the mask is empty."""
    if not bool((mask > 0.5).any()):
        return 0
    left, top, right, bottom = bounding_box(mask[0] > 0.5)
    return max(right - left, bottom - top)


def subject_window(mask: Float[Tensor, "1 h w"], fill: float, min_px: int = MIN_SUBJECT_PX) -> tuple[int, int, int]:
    """Left, top and side of the square window about the animal; it may reach beyond the picture.

    Raises:
        InputError: If the mask is empty or the animal too small.
    """
    if not bool((mask > 0.5).any()):
        raise InputError("expected a mouse in the mask, found an empty one")
    left, top, right, bottom = bounding_box(mask[0] > 0.5)
    longer = max(right - left, bottom - top)
    if longer < min_px:
        raise InputError(f"expected a mouse at least {min_px} px long, found {longer} px")
    side = round(longer / fill)
    return round((left + right - side) / 2), round((top + bottom - side) / 2), side
