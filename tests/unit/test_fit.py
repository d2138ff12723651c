"""Fitting the body: the silhouette pulls a wrong pose to the true one; a tail that the mask lacks costs nothing."""

from dataclasses import asdict
from functools import cache

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from mouselift.body.code import CODE_DIM, decode
from mouselift.body.pose import mouse_tensors, posed_keypoints
from mouselift.data.layout import Sample
from mouselift.fit import FittedBody, _silhouette_ious, _silhouettes, fit_body, picture_camera, tail_alpha
from mouselift.geometry import Views
from mouselift.models.pose_estimator import PoseEstimator, PoseEstimatorConfig
from mouselift.synth import FurConfig, SynthConfig, SynthSample, synthesize_sample
from mouselift.train.pose_task import pose_code

CONFIG = SynthConfig(num_ring=2, num_framed=2, fur=FurConfig(num_hairs=4000, num_skin=6000, num_whiskers=0))
FRAMED = 2  # the first framed view


@cache
def standing_mouse() -> tuple[SynthSample, Views, torch.Tensor]:
    sample = synthesize_sample(CONFIG, 11)
    view = sample.views[[FRAMED]]
    return sample, view, true_code(sample, view)


def true_code(sample: SynthSample, view: Views) -> torch.Tensor:
    extra = {
        "body_pose": {
            "axis_angle_rad": Rotation.from_matrix(sample.rotations).as_rotvec().tolist(),
            "build": asdict(sample.build),
        },
        "keypoints_scene": sample.keypoints_scene.tolist(),
    }
    stored = Sample(
        sample_id="s", frame_index=0, views=sample.views, scene_from_world=sample.scene_from_world, extra=extra
    )
    return pose_code(stored, view)[0]


class Guesser(PoseEstimator):
    """An estimator whose every hypothesis is one given code."""

    def __init__(self, code: torch.Tensor) -> None:
        super().__init__(PoseEstimatorConfig(size_px=32, width=48, head_dim=24, image_layers=1, pose_layers=1))
        self.guess = code
        self.code_std.fill_(0.3)

    def sample(self, view, count, *, steps, generator, up=None):
        return self.guess.expand(count, -1)


def distance(code: torch.Tensor, truth: torch.Tensor) -> float:
    points = [posed_keypoints(mouse_tensors(), decode(c).pose) for c in (code, truth)]
    return float((points[0] - points[1]).norm(dim=-1).mean())


def test_the_true_pose_fits_and_stays() -> None:
    _, view, truth = standing_mouse()
    fitted = fit_body(view, Guesser(truth), generator=torch.Generator().manual_seed(0), steps=15)
    assert fitted.silhouette_iou > 0.85
    assert distance(fitted.code, truth) < 0.06  # half-widths of the picture


def test_a_wrong_pose_is_pulled_towards_the_silhouette() -> None:
    _, view, truth = standing_mouse()
    wrong = truth + 0.1 * torch.randn(CODE_DIM, generator=torch.Generator().manual_seed(4))
    start = float(_silhouette_ious(wrong[None], view, picture_camera(view.cameras), 96)[0])
    fitted = fit_body(view, Guesser(wrong), generator=torch.Generator().manual_seed(0))
    assert fitted.silhouette_iou > start + 0.03
    assert distance(fitted.code, truth) < distance(wrong, truth)


def test_a_tail_that_the_mask_lacks_costs_nothing() -> None:
    _, view, truth = standing_mouse()
    camera = picture_camera(view.cameras)
    _, body = _silhouettes(truth[None], camera, view.cameras.width)
    bare = Views(images=view.images, masks=body.detach(), cameras=view.cameras)
    stretched = truth.clone()
    stretched[12] += 0.5  # the log of the tail's length
    ious = _silhouette_ious(torch.stack([truth, stretched]), bare, camera, 96)
    assert abs(float(ious[0] - ious[1])) < 0.01


def test_the_tail_is_where_only_the_tail_is() -> None:
    _, view, truth = standing_mouse()
    fitted = FittedBody(seen=decode(truth), code=truth, silhouette_iou=1.0)
    alpha = tail_alpha(fitted, view.cameras)
    _, body = _silhouettes(truth[None], picture_camera(view.cameras), view.cameras.width)
    assert float(alpha.max()) > 0.5
    assert float((alpha * (body[0] > 0.95)).max()) < 0.1
    assert np.isfinite(alpha.numpy()).all()
