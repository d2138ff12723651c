"""The task of the pose estimator: the body in one framed picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mouselift.body.build import Build
from mouselift.body.code import CODE_DIM, WHOLE_DIM, SeenPose, decode, encode, rotations
from mouselift.body.pose import BodyPose, mouse_tensors, posed_keypoints
from mouselift.body.skeleton import KEYPOINTS
from mouselift.data.augment import photographed, photographed_without_tail, photometric_jitter
from mouselift.data.layout import Sample
from mouselift.data.selection import random_subset, split_rig_and_free
from mouselift.errors import InputError
from mouselift.geometry import Views
from mouselift.geometry.picture_frame import to_picture_frame
from mouselift.models.pose_estimator import PoseEstimator, PoseEstimatorConfig, camera_elevation_deg

PANEL_SAMPLES = 4
WHOLE_WEIGHT = 4.0  # of the entries that place the whole body
SIDES = [KEYPOINTS.index({"L": "R", "R": "L"}[k[0]] + k[1:]) if k[1] == "_" else i for i, k in enumerate(KEYPOINTS)]


@dataclass(frozen=True, kw_only=True)
class PoseTaskConfig:
    """What the pose estimator learns from."""

    free_share: float = 0.6
    """Share of the pictures that are free photographs; the others are rig views, framed anew."""
    tail_missed_share: float = 0.4
    """Share of the photographs whose masks lack the tail, as those of real pictures often do."""
    draws: int = 6
    """Noisy codes for each picture; looking at the picture costs most."""
    pure_noise_share: float = 0.5
    """Share of the draws at time 0."""
    keypoint_weight: float = 20.0
    """Of the squared keypoint error (in units of half the picture's width) beside the error of the code."""


class PoseTask:
    """One framed picture to the code of the body in it."""

    better = "minus_keypoint_error_mm"

    def __init__(self, model: PoseEstimatorConfig, task: PoseTaskConfig, *, bf16: bool) -> None:
        self.model = PoseEstimator(model)
        self.config = task
        self.bf16 = bf16

    def scale_codes(self, samples: Sequence[Sample]) -> None:
        """Give the network's codes mean 0 and deviation 1 over the free views of these samples and their mirrors."""
        codes = [pose_code(s, s.views[[i]])[0] for s in samples for i in split_rig_and_free(s.views)[1]]
        codes += [encode(decode(code).mirrored()) for code in codes]
        stacked = torch.stack(codes)
        self.model.code_mean.copy_(stacked.mean(0))
        self.model.code_std.copy_(stacked.std(0).clamp_min(1e-3))

    def loss(self, samples: Sequence[Sample], generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Squared errors of the predicted clean codes, and of the keypoints that they give."""
        pairs = [self._photograph(sample, generator) for sample in samples]
        device = next(self.model.parameters()).device
        views = photometric_jitter(Views.stack([view for view, _, _ in pairs]), generator).to(device)
        codes = torch.stack([code for _, code, _ in pairs]).to(device)
        keypoints = torch.stack([points for _, _, points in pairs]).to(device)
        mean, std = self.model.code_mean, self.model.code_std
        shape = (len(samples), self.config.draws)
        pure = torch.rand(shape, generator=generator) < self.config.pure_noise_share
        time = torch.where(pure, 0.0, torch.rand(shape, generator=generator)).to(device)
        noise = torch.randn(*shape, CODE_DIM, generator=generator).to(device)
        clean = ((codes - mean) / std)[:, None]
        predicted = self.model(
            self.model.look(views, bf16=self.bf16), time[..., None] * clean + (1 - time[..., None]) * noise, time
        )
        weight = torch.ones(CODE_DIM, device=device)
        weight[:WHOLE_DIM] = WHOLE_WEIGHT
        code_error = ((predicted - clean).square() * weight).mean()
        points = posed_keypoints(mouse_tensors(), decode(predicted * std + mean).pose)
        point_error = (points - keypoints[:, None]).square().sum(-1).mean()
        figures = {"code_error": float(code_error.detach()), "keypoint_error2": float(point_error.detach())}
        return code_error + self.config.keypoint_weight * point_error, figures

    def _photograph(self, sample: Sample, generator: torch.Generator) -> tuple[Views, Tensor, Tensor]:
        """A framed view, the code of the body in it and its keypoints, half of the time mirrored."""
        on_rig, free = split_rig_and_free(sample.views)
        draws = torch.rand(3, generator=generator).tolist()
        use_free = bool(free) and draws[0] < self.config.free_share
        view = sample.views[random_subset(free if use_free else on_rig, 1, generator)]
        if draws[1] < self.config.tail_missed_share:
            view = photographed_without_tail(view, generator)
        elif not use_free:
            view = photographed(view, generator)
        code, keypoints = pose_code(sample, view)
        if draws[2] < 0.5:
            view = Views(images=view.images.flip(-1), masks=view.masks.flip(-1), cameras=view.cameras)
            code = encode(decode(code).mirrored())
            keypoints = keypoints[SIDES] * torch.tensor([-1.0, 1, 1])
        return view, code, keypoints

    def validate(self, model: PoseEstimator, samples: Sequence[Sample]) -> tuple[dict[str, float], Tensor]:
        """Mean error of the keypoints about the pelvis at the true size, and of the elevation; one step, free views."""
        errors, elevations, shown = [], [], []
        for number, sample in enumerate(samples):
            on_rig, free = split_rig_and_free(sample.views)
            for index in (free or on_rig)[:3]:
                view = sample.views[[index]]
                truth, keypoints = pose_code(sample, view)
                code = model.sample(view, 1, steps=1, generator=torch.Generator().manual_seed(number))[0]
                errors.append(keypoint_errors_mm(code, truth, keypoints).mean())
                up, true_up = decode(code).up, decode(truth).up
                elevations.append((camera_elevation_deg(up) - camera_elevation_deg(true_up)).abs())
                shown.append(view.over(torch.ones(3)).images)
        error = float(torch.stack(errors).mean())
        figures = {
            "keypoint_error_mm": error,
            "minus_keypoint_error_mm": -error,
            "elevation_error_deg": float(torch.stack(elevations).mean()),
        }
        return figures, rearrange(torch.cat(shown[:PANEL_SAMPLES]), "b c h w -> c h (b w)")


def pose_code(sample: Sample, view: Views) -> tuple[Float[Tensor, "99"], Float[Tensor, "22 3"]]:
    """The true code of a synthetic sample as one view (1,) shows it, and its keypoints in the same frame.

    Raises:
        InputError: The sample does not say its pose.
    """
    try:
        angles = torch.tensor(sample.extra["body_pose"]["axis_angle_rad"])
        build = Build(**sample.extra["body_pose"]["build"])
        keypoints = torch.tensor(sample.extra["keypoints_scene"]).float()
    except (KeyError, TypeError):
        raise InputError(
            f"sample {sample.sample_id}: expected a synthetic sample that says its pose, found none; "
            "make the dataset anew with `mouselift synth`"
        ) from None
    factors = torch.tensor([getattr(build, name) for name in Build.__dataclass_fields__])
    pose = BodyPose(
        rotations=rotations(angles),
        factors=factors,
        root=torch.zeros(3),
        unit=sample.scene_from_world.scale.float(),
    )
    # The root follows from a keypoint, so that bodies of other proportions stay where they are.
    at = KEYPOINTS.index("tail_root")
    root = keypoints[at] - posed_keypoints(mouse_tensors(), pose)[at]
    placed = BodyPose(rotations=pose.rotations, factors=factors, root=root, unit=pose.unit)
    picture_from_scene = to_picture_frame(view.cameras)
    up = picture_from_scene.rotation @ torch.tensor([0.0, 0.0, 1.0])
    return encode(SeenPose(pose=placed.transformed(picture_from_scene), up=up)), picture_from_scene.apply(keypoints)


def keypoint_errors_mm(
    code: Float[Tensor, "99"], truth: Float[Tensor, "99"], keypoints: Float[Tensor, "22 3"]
) -> Float[Tensor, "22"]:
    """Errors about the root of the tail, both bodies at the true size: what a picture without a scale can tell."""
    root = KEYPOINTS.index("tail_root")
    pose, true_pose = decode(code).pose, decode(truth).pose
    made = posed_keypoints(mouse_tensors(), pose)
    return ((made - made[root]) / pose.unit - (keypoints - keypoints[root]) / true_pose.unit).norm(dim=-1)
