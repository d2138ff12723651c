"""One picture, or posed views of one instant, to 3D Gaussians."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mouselift.body.code import decode
from mouselift.body.pose import mouse_tensors, posed_keypoints
from mouselift.data.foreground import check_single_subject, clean_mask, segment_foreground
from mouselift.data.framing import frame_picture, frame_view, is_framed
from mouselift.data.layout import Sample
from mouselift.data.picture import Picture, read_picture
from mouselift.errors import InputError
from mouselift.fit import FittedBody, fit_body, picture_camera, tail_alpha
from mouselift.geometry import Gaussians, Similarity, Views
from mouselift.geometry.picture_frame import to_picture_frame
from mouselift.geometry.rigs import FACELIFT_FRONT_DEG, MOUSE_FOV_DEG, RIG_RADIUS, facing_azimuth_deg, mouse_rig
from mouselift.models.bundled import CONTEXT_BACKGROUND, SIZE_PX, Models, shipped_models
from mouselift.models.gslrm import as_context
from mouselift.models.multiview import MultiViewGenerator, as_multiview
from mouselift.models.mvunet.pipeline import MAX_GUIDANCE, MAX_STEPS
from mouselift.models.pose_estimator import camera_elevation_deg
from mouselift.paint import paint_body
from mouselift.refine import refine
from mouselift.runtime import Clock, resolve_device
from mouselift.synth.scene import SCENE_PER_MM, photograph

logger = logging.getLogger(__name__)
MIN_START_OPACITY = 0.005  # Gaussians below it are not polished
MIN_OPACITY = 0.02  # and below this one they are dropped from the result
GENERATED_WEIGHT = 0.25  # of a generated view in polishing; a real one has 1
PICTURE_SIZE_PX = 256  # of a framed picture
BODY_VIEW_WEIGHT = 3.0  # of the fitted body's view in polishing, the picture has 1; with less, hidden sides fray
BOX = 1.2  # scene units; the animal lies inside [-1, 1]^3
CALIBRATED_SIZE_PX = 256  # of several true views: polished at 128 px they lose 5 dB on a camera that was left out
CALIBRATED_FINER = 2


@dataclass(frozen=True, kw_only=True)
class ReconstructConfig:
    """How to reconstruct."""

    unseen: Literal["body", "generator"] = "body"
    """Where the sides that one picture does not show come from: the mouse's body, fitted to the picture and painted
    with its colours, or six views by the generator, lifted by GS-LRM. Several views need neither."""
    steps: int | None = None
    """Steps of the generator, its own number when not given. Of the shipped one 1 to 50: one, its own, gives the
    smoothest, most probable views, more give sharper ones. Of latent diffusion 1 to 1000, its own is 50."""
    guidance: float | None = None
    """Of latent diffusion: how much more the picture counts than no picture, its own is 3. The shipped one has none."""
    refine_steps: int = 80
    """Steps of polishing the Gaussians on the input view(s) and on the made ones, which keep the hidden sides."""
    seed: int = 0
    elevation_deg: float | None = None
    """Of the camera above the horizontal plane through the animal; estimated from the picture when not given."""
    fov_deg: float | None = None
    """Field of view that the framed picture would have at 2.7 scene units; estimated when not given."""
    device: str = "auto"
    """"cpu", "cuda", or "auto" for a GPU when there is one."""

    def __post_init__(self) -> None:
        if self.unseen not in ("body", "generator"):
            raise InputError(f"expected the unseen sides from body or generator, found {self.unseen!r}")
        if self.steps is not None and not 1 <= self.steps <= MAX_STEPS:
            raise InputError(f"expected 1 to {MAX_STEPS} steps, found {self.steps}")
        if self.guidance is not None and not 0 <= self.guidance <= MAX_GUIDANCE:
            raise InputError(f"expected a guidance of 0 to {MAX_GUIDANCE}, found {self.guidance}")
        if not 0 <= self.refine_steps <= 10_000:
            raise InputError(f"expected 0 to 10000 refinement steps, found {self.refine_steps}")
        if self.elevation_deg is not None and not -90 <= self.elevation_deg <= 90:
            raise InputError(f"expected an elevation of -90 to 90 degrees, found {self.elevation_deg}")
        if self.fov_deg is not None and not 5 <= self.fov_deg <= 120:
            raise InputError(f"expected a field of view of 5 to 120 degrees, found {self.fov_deg}")


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """What came out, and what it came from.

    Attributes:
        gaussians: One scene, no batch; scene frame, +Z up, the animal near the origin.
        context: (V,) what the Gaussians were made from: the input view(s) first, then those of the fitted body or of
            the generator.
        num_inputs: How many of them are real.
        timings_s: Seconds of each stage, in order.
        settings: What was chosen or estimated, for the summary.
        picture: The whole picture and its mask, when there was one.
        scene_from_world: The rig's world (mm) to the scene, when the views came from a calibrated rig.
        keypoints_scene: The 22 keypoints of the fitted body, when there is one; order of `mouselift.body.skeleton`.
    """

    gaussians: Gaussians
    context: Views
    num_inputs: int
    timings_s: Mapping[str, float]
    settings: Mapping[str, Any]
    picture: Picture | None = None
    scene_from_world: Similarity | None = None
    keypoints_scene: Float[Tensor, "22 3"] | None = None


def reconstruct(
    picture: str | Path | Picture,
    *,
    mask: str | Path | None = None,
    box: tuple[int, int, int, int] | None = None,
    config: ReconstructConfig | None = None,
    models: Models | None = None,
) -> Reconstruction:
    """Turn one picture of a mouse into 3D Gaussians.

    Args:
        picture: A PNG, JPEG, ... file, or one that was read before. Alpha, when it has any, is the foreground mask.
        mask: A grey picture of the same size, white on the animal.
        box: Left, top, right, bottom in pixels: where the animal is, when there is neither alpha nor mask.
        config: How.
        models: Other weights than the shipped ones.

    Raises:
        InputError: The picture, mask or box cannot be used; the message says why.
    """
    config = config or ReconstructConfig()
    clock = Clock()
    with clock.stage("read"):
        given = (
            picture
            if isinstance(picture, Picture)
            else read_picture(Path(picture), None if mask is None else Path(mask))
        )
    with clock.stage("segment"):
        raw_mask = segment_foreground(given.image, box=box) if given.mask is None else given.mask
        check_single_subject(raw_mask)
        clean = clean_mask(raw_mask)
    with clock.stage("load models"):
        device = resolve_device(config.device)
        models = (models or shipped_models()).to(device)
    view, fitted, settings = _framed(given.image, clean, models, config, clock)
    whole = Picture(image=given.image, mask=clean, source=given.source)
    return _from_one_view(view, fitted, models, config, device, clock, settings, whole)


def reconstruct_sample(
    sample: Sample,
    input_views: list[int],
    *,
    config: ReconstructConfig | None = None,
    models: Models | None = None,
) -> Reconstruction:
    """Reconstruct from calibrated views of a dataset sample, in its scene frame.

    One view goes the way of a picture; several go straight into GS-LRM.

    Args:
        sample: Read with `read_sample`.
        input_views: Indices into its views.
        config: How.
        models: Other weights than the shipped ones.

    Raises:
        InputError: An index is out of range, a chosen view shows nothing, or an elevation or a field of view is given,
            which the cameras tell.
    """
    config = config or ReconstructConfig()
    if config.elevation_deg is not None or config.fov_deg is not None:
        raise InputError("expected no elevation and no field of view for calibrated views, whose cameras tell both")
    views = calibrated_views(sample, input_views)
    clock = Clock()
    with clock.stage("load models"):
        device = resolve_device(config.device)
        models = (models or shipped_models()).to(device)
    settings = {"sample": sample.sample_id, "input_views": input_views}
    if len(input_views) == 1:
        views, fitted = _framed_view(sample.views[input_views], models, config), None
        if config.unseen == "body":
            with clock.stage("fit body"):
                fitted = fit_body(views.to(device), models.pose, generator=_dice(config), up=_up_in(views))
        result = _from_one_view(views, fitted, models, config, device, clock, settings, None)
        return replace(result, scene_from_world=sample.scene_from_world)
    gaussians = _lift(views, len(input_views), models, config, device, clock)
    return Reconstruction(
        gaussians=gaussians,
        context=views,
        num_inputs=len(input_views),
        timings_s=clock.seconds,
        settings=settings,
        scene_from_world=sample.scene_from_world,
    )


def _framed_view(view: Views, models: Models, config: ReconstructConfig) -> Views:
    """A calibrated view (1,) as the networks know pictures: with the animal large in the middle.

    A generator that takes one camera for granted gets the view as it is.
    """
    generator = as_multiview(models.generator, SIZE_PX)
    generated = config.unseen == "generator"
    if not is_framed(view) and not (generated and generator.input_deg is not None):
        view = frame_view(view, min_px=1)
    largest = max(PICTURE_SIZE_PX, generator.size_px) if generated else PICTURE_SIZE_PX
    side = min(largest, max(SIZE_PX, view.cameras.width))
    return view if view.cameras.width == side else view.resized(side, side)


def calibrated_views(sample: Sample, chosen: list[int]) -> Views:
    """Views of a sample at the size at which several true ones are used.

    Raises:
        InputError: An index is out of range, or a chosen view shows nothing.
    """
    count = len(sample.views.cameras)
    if not chosen or any(not 0 <= i < count for i in chosen):
        raise InputError(f"sample {sample.sample_id}: expected input views among 0 to {count - 1}, found {chosen}")
    views = sample.views[chosen]
    empty = [i for i, mask in zip(chosen, views.masks, strict=True) if float(mask.max()) < 0.5]
    if empty:
        raise InputError(f"sample {sample.sample_id}: expected the animal in every input view, found none in {empty}")
    size = min(CALIBRATED_SIZE_PX, views.cameras.width)
    return views.resized(size, size)


def _framed(
    image: Float[Tensor, "3 h w"],
    mask: Float[Tensor, "1 h w"],
    models: Models,
    config: ReconstructConfig,
    clock: Clock,
) -> tuple[Views, FittedBody | None, dict[str, Any]]:
    """Frame the animal, and give the frame the camera that was named or that the body in it tells."""
    generator = as_multiview(models.generator, SIZE_PX)
    size = PICTURE_SIZE_PX if config.unseen == "body" else max(PICTURE_SIZE_PX, generator.size_px)
    config = _as_needed(config, generator)

    def framed(fov_deg: float, elevation_deg: float) -> Views:
        return frame_picture(
            image, mask, fov_deg=fov_deg, distance=RIG_RADIUS, elevation_deg=elevation_deg, size_px=size
        )

    device = next(models.pose.parameters()).device
    with clock.stage("frame"):
        blind = framed(MOUSE_FOV_DEG, 0.0).to(device)
        guess = decode(models.pose.sample(blind, 1, steps=1, generator=_dice(config))[0].to("cpu"))
        half_width = SCENE_PER_MM / float(guess.pose.unit)  # that of an average mouse
        fov = math.degrees(2 * math.atan(half_width / RIG_RADIUS)) if config.fov_deg is None else config.fov_deg
        elevation = float(camera_elevation_deg(guess.up)) if config.elevation_deg is None else config.elevation_deg
        view = framed(fov, elevation)
    fitted = None
    if config.unseen == "body":
        with clock.stage("fit body"):
            up = None if config.elevation_deg is None else _up_in(view)
            fitted = fit_body(view.to(device), models.pose, generator=_dice(config), up=up)
            if config.elevation_deg is None:  # where up is belongs to the hypothesis that was found best
                elevation = float(camera_elevation_deg(fitted.seen.up))
                view = framed(fov, elevation)
    settings = {
        "elevation_deg": round(elevation, 2),
        "elevation_is": "estimated" if config.elevation_deg is None else "given",
        "fov_deg": round(fov, 2),
        "fov_is": "estimated" if config.fov_deg is None else "given",
        "distance": RIG_RADIUS,
        "azimuth_deg": FACELIFT_FRONT_DEG,
    }
    return view, fitted, settings


def _as_needed(config: ReconstructConfig, generator: MultiViewGenerator) -> ReconstructConfig:
    """With the camera that a generator takes for granted, where it does and none was named."""
    if config.unseen == "body" or generator.input_deg is None:
        return config
    elevation, fov = generator.input_deg
    return replace(
        config,
        elevation_deg=elevation if config.elevation_deg is None else config.elevation_deg,
        fov_deg=fov if config.fov_deg is None else config.fov_deg,
    )


def _up_in(view: Views) -> Float[Tensor, "3"]:
    """The scene's +Z in the frame of a view's picture."""
    return to_picture_frame(view.cameras).rotation[:, 2]


def _dice(config: ReconstructConfig) -> torch.Generator:
    return torch.Generator().manual_seed(config.seed)


def _from_one_view(
    view: Views,
    fitted: FittedBody | None,
    models: Models,
    config: ReconstructConfig,
    device: str,
    clock: Clock,
    settings: Mapping[str, Any],
    whole: Picture | None,
) -> Reconstruction:
    keypoints = None
    if fitted is not None:
        gaussians, context = _from_body(view, fitted, config, device, clock)
        keypoints = to_picture_frame(view.cameras).inverse().apply(posed_keypoints(mouse_tensors(), fitted.seen.pose))
        settings = {**settings, "silhouette_iou": round(fitted.silhouette_iou, 3)}
    else:
        generator = as_multiview(models.generator, SIZE_PX)
        gaussians, context = _from_generator(view, generator, models, config, device, clock)
        settings = {
            **settings,
            "steps": generator.default_steps if config.steps is None else config.steps,
            "guidance": generator.default_guidance if config.guidance is None else config.guidance,
        }
    return Reconstruction(
        gaussians=gaussians,
        context=context,
        num_inputs=1,
        timings_s=clock.seconds,
        settings={
            **settings,
            "unseen": config.unseen,
            "refine_steps": config.refine_steps,
            "seed": config.seed,
            "device": device,
        },
        picture=whole,
        keypoints_scene=keypoints,
    )


def _from_body(
    view: Views, fitted: FittedBody, config: ReconstructConfig, device: str, clock: Clock
) -> tuple[Gaussians, Views]:
    """Paint the body, then polish it on the picture; its own views keep the hidden sides as they are."""
    with clock.stage("paint"):
        seen = Views(images=view.images, masks=view.masks, cameras=picture_camera(view.cameras))
        painted = paint_body(fitted.seen.pose, seen, np.random.default_rng(config.seed))
        scene = painted.transformed(to_picture_frame(view.cameras).inverse())
    with clock.stage("refine"):
        rig = mouse_rig(float(facing_azimuth_deg(view.cameras)[0]), size_px=view.cameras.width)
        context = Views.cat([view, photograph(scene, rig)])
        wanted = Views.cat([_with_tail(view, scene, fitted), context[1:]])
        weights = torch.full((len(context.cameras),), BODY_VIEW_WEIGHT)
        weights[0] = 1.0
        turns = len(context.cameras) - 1
        scene = refine(scene.to(device), wanted.to(device), weights.to(device), config.refine_steps, taking_turns=turns)
    return scene.to("cpu").pruned(MIN_OPACITY, BOX), context


def _with_tail(view: Views, scene: Gaussians, fitted: FittedBody) -> Views:
    """The picture, and the body's tail where the mask shows none: masks often miss it, and polishing would erase it."""
    painted = photograph(scene, view.cameras)
    added = (1 - view.masks) * painted.masks * tail_alpha(fitted, view.cameras)
    masks = view.masks + added
    images = (view.images * view.masks + painted.images * added) / masks.clamp_min(1e-6)
    return Views(images=images, masks=masks, cameras=view.cameras)


def _from_generator(
    view: Views, generator: MultiViewGenerator, models: Models, config: ReconstructConfig, device: str, clock: Clock
) -> tuple[Gaussians, Views]:
    view = view.resized(generator.size_px, generator.size_px)
    with clock.stage("generate views"):
        rig = generator.rig(view.cameras)
        made = generator.generate(view, rig, steps=config.steps, guidance=config.guidance, seed=config.seed)
    context = Views.cat([view, made])
    return _lift(context, 1, models, config, device, clock), context


def _lift(
    context: Views, num_inputs: int, models: Models, config: ReconstructConfig, device: str, clock: Clock
) -> Gaussians:
    with clock.stage("reconstruct Gaussians"), torch.no_grad():
        finer = CALIBRATED_FINER if num_inputs == len(context.cameras) else 1  # generated views hold no more detail
        shown = as_context(context, models.gslrm, torch.tensor(CONTEXT_BACKGROUND), finer=finer).to(device)
        scene = models.gslrm(shown.reshape(1, len(context.cameras)))[0].pruned(MIN_START_OPACITY, BOX)
    with clock.stage("refine"):
        weights = torch.full((len(context.cameras),), GENERATED_WEIGHT)
        weights[:num_inputs] = 1.0
        scene = refine(scene, context.to(device), weights.to(device), config.refine_steps)
    return scene.to("cpu").pruned(MIN_OPACITY, BOX)
