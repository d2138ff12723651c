"""A recording becomes a training set whose cameras are exact."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rig_recordings import AXES_MM, FPS, centre_at, rig, write_rig_recording

from mouselift.data.calibration import read_cameras
from mouselift.data.consistency import hull_iou
from mouselift.data.crop import crop_maps, crop_view
from mouselift.data.layout import list_samples, read_sample
from mouselift.data.plan import PrepareConfig, make_plan, virtual_cameras
from mouselift.data.recording import open_recording, read_masks
from mouselift.data.survey import Surveyor
from mouselift.errors import InputError
from mouselift.geometry.hull import carve
from mouselift.prepare import prepare

CONFIG = PrepareConfig(every=4, size_px=96, val_share=0.2)
TRUTH = "markerless_mouse_1_sim"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rig_recording(tmp_path_factory.mktemp("rig") / "recording")


@pytest.fixture(scope="module")
def dataset(recorded: Path) -> Path:
    out = recorded.parent / "dataset"
    prepare(open_recording(recorded), CONFIG, out, progress=False)
    return out


def test_the_set_is_whole(dataset: Path) -> None:
    record = json.loads((dataset / "dataset.json").read_text())
    train, val = list_samples(dataset, "train"), list_samples(dataset, "val")
    assert (len(train), len(val)) == (record["splits"]["train"], record["splits"]["val"])
    assert 1 <= len(val) < len(train) <= 5
    samples = [read_sample(folder) for folder in sorted([*train, *val])]
    assert len({sample.frame_index for sample in samples}) == len(samples)
    assert all(sample.frame_index % 4 == 0 for sample in samples)
    for sample in samples:
        assert sample.views.cameras.names == ("east", "north", "west", "south")  # by azimuth
        assert sample.views.images.shape == (4, 3, 96, 96)


def test_the_animal_is_at_the_origin_and_mm_come_back(dataset: Path) -> None:
    distances = []
    for folder in list_samples(dataset, "train"):
        sample = read_sample(folder)
        back = sample.scene_from_world.inverse().apply(torch.zeros(3))
        assert (back - centre_at(sample.frame_index)).norm() < 3.0  # mm; the hull of four views is not symmetric
        distances.append(sample.views.cameras.centres.norm(dim=-1).mean())
        world = sample.views.cameras.centres.double()
        centres = sample.scene_from_world.inverse().apply(world.float())
        torch.testing.assert_close(centres, rig().centres.float(), atol=0.02, rtol=0)  # cameras stay where they are
    assert torch.stack(distances).mean() == pytest.approx(2.7, abs=0.02)


def test_alpha_is_the_silhouette_that_the_stored_camera_sees(dataset: Path) -> None:
    """The silhouette of the true body through the stored camera, found from points on its surface."""
    directions = torch.nn.functional.normalize(torch.randn(40_000, 3, dtype=torch.float64), dim=-1)
    for folder in list_samples(dataset, "train")[:2]:
        sample = read_sample(folder)
        surface = centre_at(sample.frame_index) + AXES_MM * directions
        points = sample.scene_from_world.apply(surface.float())
        for view in range(4):
            pixels = sample.views.cameras[view].project(points).numpy()
            hull = cv2.convexHull(pixels.astype(np.float32))
            expected = np.zeros((96 * 16, 96 * 16), np.uint8)
            cv2.fillConvexPoly(expected, np.round(hull * 16).astype(np.int32), 255)
            expected = cv2.resize(expected, (96, 96), interpolation=cv2.INTER_AREA) / 255.0
            alpha = sample.views.masks[view, 0].numpy()
            overlap = np.minimum(alpha, expected).sum() / np.maximum(alpha, expected).sum()
            assert overlap > 0.92  # the body is 30 px wide in the frame, and a video codec lies between
            assert np.abs(centroid(alpha) - centroid(expected)).max() < 0.2


def centroid(mask: np.ndarray) -> np.ndarray:
    return np.array([(axis * mask).sum() / mask.sum() for axis in np.indices(mask.shape)])


def test_a_run_that_was_cut_off_goes_on(recorded: Path, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    shutil.copytree(dataset, out)
    before = {path: path.stat().st_mtime_ns for path in out.glob("sample_*/*.json")}
    shutil.rmtree(out / "sample_000002")
    (out / "dataset.json").unlink()
    prepare(open_recording(recorded), CONFIG, out, progress=False)
    assert (out / "dataset.json").read_text() == (dataset / "dataset.json").read_text()
    changed = [path.parent.name for path, time in before.items() if path.stat().st_mtime_ns != time]
    assert changed == ["sample_000002"]
    with pytest.raises(InputError, match="use another folder"):
        prepare(open_recording(recorded), PrepareConfig(every=4, size_px=64), out, progress=False)


def test_swapped_views_are_refused_and_named(tmp_path: Path) -> None:
    recording = open_recording(write_rig_recording(tmp_path / "swapped", 4, order=(1, 0, 2, 3)))
    with pytest.raises(InputError, match=r"expected masks that overlap.*cameras east and north are swapped"):
        prepare(recording, PrepareConfig(size_px=64), tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_tight_and_facelift_framing(recorded: Path) -> None:
    recording = open_recording(recorded)
    tight = make_plan(recording, PrepareConfig(every=8), progress=False)
    wide = make_plan(recording, PrepareConfig(every=8, preset="facelift"), progress=False)
    assert wide.fov_deg == 50.0
    longest = 2 * np.rad2deg(np.arctan(30 / 250))  # the body's half length as the nearest camera may see it
    assert 0.8 * longest < tight.fov_deg < 1.3 * longest
    K = virtual_cameras(wide.rig, torch.zeros(3).double(), 50.0, 512).K
    assert K[0, 0, 0] == pytest.approx(548.99, abs=0.01)
    assert recording.fps == FPS


# ---- the simulated recording of the real rig


@pytest.fixture(scope="module")
def simulated(test_data: Path) -> Path:
    if not (test_data / TRUTH / "new_cam.pkl").is_file():
        pytest.skip(f"no recording {TRUTH} in {test_data}")
    return test_data / TRUTH


@pytest.fixture(scope="module")
def prepared(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sim") / "dataset"
    prepare(open_recording(simulated), PrepareConfig(every=33), out, progress=False)
    return out


@pytest.mark.data
def test_true_keypoints_reproject_into_the_crops(simulated: Path, prepared: Path) -> None:
    """A dot where the real camera sees a keypoint is, in the crop, where the stored camera sees it."""
    truth = np.load(simulated / "keypoints3d_truth.npz")["keypoints_mm"]
    raw = read_cameras(simulated / "new_cam.pkl", image_size=(1152, 1024))
    rows, columns = np.mgrid[:1024, :1152] + 0.5
    errors = []
    for folder in list_samples(prepared, "train")[:2]:
        sample = read_sample(folder)
        cameras = sample.views.cameras
        points = torch.from_numpy(truth[sample.frame_index])[::5].double()
        centre = sample.scene_from_world.inverse().apply(torch.zeros(3)).double()
        for view, name in enumerate(cameras.names):
            real = raw[raw.names.index(name)]
            virtual = virtual_cameras_of(real, centre, cameras)
            for point, (x, y) in zip(points, real.project(points).tolist(), strict=True):
                dot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18)
                dot = dot.round().astype(np.uint8)
                alpha = crop_view(np.dstack([dot] * 3), dot, crop_maps(real.reshape(1), virtual.reshape(1))[0])[
                    ..., 3
                ].astype(float)
                rows_out, columns_out = np.indices(alpha.shape) + 0.5
                found = [(columns_out * alpha).sum() / alpha.sum(), (rows_out * alpha).sum() / alpha.sum()]
                expected = cameras[view].project(sample.scene_from_world.apply(point.float())[None])[0]
                errors.append(np.hypot(*(np.array(found) - expected.numpy())))
    assert len(errors) >= 50
    assert max(errors) < 0.5


@pytest.mark.data
def test_alpha_is_the_true_mask_warped_exactly(simulated: Path, prepared: Path) -> None:
    recording = open_recording(simulated)
    sample = read_sample(list_samples(prepared, "train")[0])
    cameras = sample.views.cameras
    raw = read_cameras(simulated / "new_cam.pkl", image_size=(1152, 1024))
    centre = sample.scene_from_world.inverse().apply(torch.zeros(3)).double()
    _, masks = next(read_masks(recording, [sample.frame_index]))
    for view, name in enumerate(cameras.names):
        real = raw[raw.names.index(name)]
        virtual = virtual_cameras_of(real, centre, cameras)
        homography = (virtual.K @ virtual.w2c[:3, :3] @ real.w2c[:3, :3].T @ torch.inverse(real.K)).numpy()
        half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])  # OpenCV counts from pixel centres
        exact = cv2.warpPerspective(
            masks[recording.names.index(name)],
            np.linalg.inv(half) @ homography @ half,
            (512, 512),
            flags=cv2.INTER_LINEAR,
        )
        alpha = sample.views.masks[view, 0].numpy() > 0.5
        overlap = (alpha & (exact > 127)).sum() / (alpha | (exact > 127)).sum()
        assert overlap >= 0.98


@pytest.mark.data
def test_the_prepared_hull_is_the_recordings_hull(simulated: Path, prepared: Path) -> None:
    recording = open_recording(simulated)
    plan = make_plan(recording, PrepareConfig(every=50), progress=False)
    surveyor = Surveyor(plan.rig.cameras)
    sample = read_sample(list_samples(prepared, "train")[0])
    _, masks = next(read_masks(recording, [sample.frame_index]))
    raw_masks = surveyor.shrink([masks[k] for k in plan.rig.order])
    views = sample.views.resized(256, 256)
    of_raw, of_crops = hull_iou(raw_masks, surveyor.cameras), hull_iou(views.masks, views.cameras)
    assert (of_crops / of_raw).min() >= 0.95
    # and voxel by voxel
    scene = torch.rand(200_000, 3, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.6
    world = sample.scene_from_world.inverse().apply(scene)
    in_raw = carve(world, raw_masks, surveyor.cameras.to(torch.float32)) > 0.5
    in_crops = carve(scene, views.masks, views.cameras) > 0.5
    assert (in_raw & in_crops).sum() / (in_raw | in_crops).sum() >= 0.85  # at 6 and 3 px a mm


def virtual_cameras_of(real, centre, stored):
    """The virtual camera of a stored view in the recording's world: the same intrinsics, at the real camera's place."""
    return real.reshape(1).looking_at(centre, stored.K[0].double(), stored.width)[0]
