"""The pose estimator: deterministic, orderly, and found again from its weights."""

import torch

from mouselift.body.code import CODE_DIM, PARTS
from mouselift.geometry import Views
from mouselift.geometry.rigs import orbit
from mouselift.models.checkpoint_io import load_pose_estimator
from mouselift.models.pose_estimator import PoseEstimator, PoseEstimatorConfig, camera_elevation_deg

CONFIG = PoseEstimatorConfig(size_px=32, width=48, head_dim=24, image_layers=1, pose_layers=2)


def estimator() -> PoseEstimator:
    torch.manual_seed(0)
    return PoseEstimator(CONFIG).eval()


def one_view(size_px: int = 32) -> Views:
    generator = torch.Generator().manual_seed(3)
    camera = orbit([10.0], 20.0, fov_deg=30, size_px=size_px)
    return Views(
        images=torch.rand(1, 3, size_px, size_px, generator=generator),
        masks=torch.ones(1, 1, size_px, size_px),
        cameras=camera,
    )


def test_same_noise_same_pose() -> None:
    model = estimator()
    a, b, c = (model.sample(one_view(), 4, steps=3, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert a.shape == (4, CODE_DIM)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_one_step_gives_the_mean_whatever_the_noise() -> None:
    codes = estimator().sample(one_view(), 5, steps=1, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(codes, codes[:1].expand(5, -1), atol=1e-5, rtol=0)


def test_every_part_is_decoded_into_its_own_entries() -> None:
    model = estimator()
    noisy, time = torch.randn(1, 1, CODE_DIM), torch.full((1, 1), 0.5)
    before = model(model.look(one_view().reshape(1, 1)), noisy, time)
    with torch.no_grad():
        model.part_decoders["hind_R"].bias += 1
    changed = (model(model.look(one_view().reshape(1, 1)), noisy, time) - before)[0, 0].abs() > 0.5
    assert tuple(changed.nonzero()[:, 0].tolist()) == PARTS["hind_R"]


def test_several_draws_do_not_see_each_other() -> None:
    model = estimator()
    features = model.look(one_view().reshape(1, 1))
    noisy, time = torch.randn(1, 3, CODE_DIM), torch.tensor([[0.2, 0.5, 0.9]])
    together = model(features, noisy, time)
    alone = torch.cat([model(features, noisy[:, [k]], time[:, [k]]) for k in range(3)], dim=1)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_a_larger_picture_is_made_smaller() -> None:
    codes = estimator().sample(one_view(64), 1, steps=1, generator=torch.Generator())
    assert bool(codes.isfinite().all())


def test_sizes_are_inferred() -> None:
    assert load_pose_estimator(estimator().state_dict(), head_dim=24).config == CONFIG


def test_elevation_from_up() -> None:
    cameras = orbit([0.0, 100.0, -40.0], [-10.0, 25.0, 80.0], fov_deg=30, size_px=8)
    up = cameras.w2c[:, :3, 2]
    torch.testing.assert_close(camera_elevation_deg(up), torch.tensor([-10.0, 25.0, 80.0]), atol=1e-3, rtol=0)
