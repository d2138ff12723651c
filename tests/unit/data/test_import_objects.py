"""Objects of other projects into a dataset: every layout, points where the cameras say, bad objects in one line."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mouselift.cli import main
from mouselift.data.calibration.colmap import write_colmap
from mouselift.data.calibration.record import CalibratedCamera, Calibration
from mouselift.data.dataset import MouseDataset
from mouselift.data.layout import read_sample
from mouselift.data.objects import find_objects
from mouselift.data.progress import LEFT_OUT_FILE
from mouselift.errors import InputError
from mouselift.geometry import Cameras, Gaussians, Similarity
from mouselift.geometry.rigs import RIG_RADIUS, orbit
from mouselift.geometry.sh import dc_from_rgb
from mouselift.import_objects import ObjectsConfig, import_objects
from mouselift.render import render

SIZE_PX = 96
FOV_DEG = 49.13
# Coloured balls off the world's origin, in world units; a camera knows each by its colour.
BALLS = torch.tensor([[0.35, 0.1, 0.2], [-0.2, 0.3, 0.15], [0.0, -0.3, 0.45]]) + torch.tensor([0.2, -0.1, 0.1])
COLOURS = torch.eye(3) * 0.9 + 0.05
CONFIG = ObjectsConfig(size_px=64, val_share=0.5)


def balls() -> Gaussians:
    """Three balls and a grey body between them, so that the object is one piece."""
    means = torch.cat([BALLS, BALLS.mean(0, keepdim=True)])
    return Gaussians(
        means=means,
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(4, 1),
        scales=torch.tensor([[0.05], [0.05], [0.05], [0.12]]).repeat(1, 3),
        opacities=torch.full((4,), 0.99),
        sh=dc_from_rgb(torch.cat([COLOURS, torch.full((1, 3), 0.4)]))[:, None],
    )


def cameras_around(num_views: int = 8) -> Cameras:
    """At different distances, with principal points of their own, about the world's origin."""
    radii = [2.0 + 0.2 * (i % 3) for i in range(num_views)]
    elevations = [10.0 + 10 * (i % 4) for i in range(num_views)]
    azimuths = [360.0 / num_views * i + 5 for i in range(num_views)]
    return orbit(azimuths, elevations, radius=radii, fov_deg=FOV_DEG, size_px=SIZE_PX)


def picture_of(cameras: Cameras, index: int) -> Image.Image:
    out = render(balls(), cameras[[index]], (0.0, 0.0, 0.0))
    alpha = out.alpha[0].clamp(0, 1)
    straight = torch.where(alpha > 0.01, out.image[0] / alpha.clamp_min(0.01), 0.0).clamp(0, 1)
    rgba = torch.cat([straight, alpha]).permute(1, 2, 0).mul(255).round().byte().numpy()
    return Image.fromarray(rgba, "RGBA")


def _calibrated(cameras: Cameras, names: list[str]) -> Calibration:
    return Calibration(
        cameras=tuple(
            CalibratedCamera(name=n, K=cameras.K[i].double(), w2c=_rigid(cameras.w2c[i]), width=SIZE_PX, height=SIZE_PX)
            for i, n in enumerate(names)
        ),
        format="test",
        source=Path("test"),
    )


def _rigid(w2c: Tensor) -> Tensor:
    u, _, v = torch.linalg.svd(w2c[:3, :3].double())
    rigid = w2c.double().clone()
    rigid[:3, :3] = u @ v
    return rigid


def _transforms(folder: Path, cameras: Cameras, blender: bool) -> None:
    (folder / "train").mkdir(parents=True)
    frames = []
    for i in range(len(cameras)):
        picture_of(cameras, i).save(folder / "train" / f"r_{i}.png")
        c2w = torch.linalg.inv(_rigid(cameras.w2c[i]))
        c2w[:3, 1:3] *= -1
        frame = {"file_path": f"./train/r_{i}" if blender else f"train/r_{i}.png", "transform_matrix": c2w.tolist()}
        if not blender:
            K = cameras.K[i].tolist()
            frame |= {"fl_x": K[0][0], "fl_y": K[1][1], "cx": K[0][2], "cy": K[1][2], "w": SIZE_PX, "h": SIZE_PX}
        frames.append(frame)
    half = len(frames) // 2
    top = {"camera_angle_x": float(np.radians(FOV_DEG))} if blender else {}
    if blender:
        (folder / "transforms_train.json").write_text(json.dumps({**top, "frames": frames[:half]}))
        (folder / "transforms_test.json").write_text(json.dumps({**top, "frames": frames[half:]}))
    else:
        (folder / "transforms.json").write_text(json.dumps({"frames": frames}))


def write_nerfstudio(folder: Path, cameras: Cameras) -> None:
    _transforms(folder, cameras, blender=False)


def write_blender(folder: Path, cameras: Cameras) -> None:
    _transforms(folder, cameras, blender=True)


def write_colmap_text(folder: Path, cameras: Cameras) -> None:
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    names = [f"view_{i}" for i in range(len(cameras))]
    for i, name in enumerate(names):  # opaque photographs, and masks beside them
        picture = picture_of(cameras, i)
        backdrop = Image.new("RGBA", picture.size, (90, 120, 60, 255))
        Image.alpha_composite(backdrop, picture).convert("RGB").save(folder / "images" / f"{name}.png")
        picture.getchannel("A").save(folder / "masks" / f"{name}.png")
    write_colmap(folder / "sparse" / "0", _calibrated(cameras, names))


def write_colmap_binary(folder: Path, cameras: Cameras) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    write_colmap_text(folder, cameras)
    sparse = folder / "sparse" / "0"
    model = pycolmap.Reconstruction(str(sparse))
    for file in sparse.iterdir():
        file.unlink()
    model.write_binary(str(sparse))


def write_npy(folder: Path, cameras: Cameras) -> None:
    folder.mkdir(parents=True)
    for i in range(len(cameras)):
        picture_of(cameras, i).save(folder / f"{i:03d}.png")
        np.save(folder / f"{i:03d}.npy", _rigid(cameras.w2c[i])[:3].numpy())


def write_pose(folder: Path, cameras: Cameras) -> None:
    for name in ("rgb", "pose", "intrinsics"):
        (folder / name).mkdir(parents=True)
    for i in range(len(cameras)):
        picture_of(cameras, i).save(folder / "rgb" / f"{i:03d}.png")
        c2w = torch.linalg.inv(_rigid(cameras.w2c[i]))
        (folder / "pose" / f"{i:03d}.txt").write_text(" ".join(f"{v:.9f}" for v in c2w.flatten().tolist()))
        (folder / "intrinsics" / f"{i:03d}.txt").write_text(" ".join(map(str, cameras.K[i].flatten().tolist())))


LAYOUTS: dict[str, Callable[[Path, Cameras], None]] = {
    "nerfstudio": write_nerfstudio,
    "blender": write_blender,
    "colmap_text": write_colmap_text,
    "colmap_binary": write_colmap_binary,
    "npy": write_npy,
    "pose": write_pose,
}


def centres_of_balls(images: Tensor, masks: Tensor) -> Tensor:
    """Where each ball's colour stands out: centroids (V, 3, 2) in pixels."""
    excess = images - images.amin(1, keepdim=True)
    weights = (excess * masks * (excess > 0.5)).flatten(2)
    rows, columns = torch.meshgrid(*(torch.arange(n) + 0.5 for n in images.shape[-2:]), indexing="ij")
    places = torch.stack([columns.flatten(), rows.flatten()], -1)
    return (weights @ places) / weights.sum(-1, keepdim=True)


def _alpha(scene: Gaussians, cameras: Cameras, shift_px: tuple[float, float]) -> Tensor:
    K = cameras.K.clone()
    K[:, :2, 2] += torch.tensor(shift_px)
    return render(scene, replace(cameras, K=K)).alpha


@pytest.mark.parametrize("layout", LAYOUTS)
def test_points_are_where_the_samples_cameras_see_them(layout: str, tmp_path: Path) -> None:
    LAYOUTS[layout](tmp_path / "set" / "object_a", cameras_around())
    done = import_objects(tmp_path / "set", CONFIG, tmp_path / "dataset", progress=False)
    assert (done.num_train, done.num_val, done.left_out) == (1, 0, {})
    sample = read_sample(tmp_path / "dataset" / "sample_000000")
    views = sample.views
    assert (views.cameras.width, views.cameras.height, len(views.cameras)) == (64, 64, 8)
    seen = views.cameras.project(sample.scene_from_world.apply(BALLS))
    found = centres_of_balls(views.images, views.masks)
    off = (found - seen).norm(dim=-1)
    assert float(off.nanmedian()) < 0.7  # their soft rims mix with what is behind them
    scene = balls().transformed(sample.scene_from_world)
    errors = {
        shift: float((_alpha(scene, views.cameras, shift) - views.masks).square().mean())
        for shift in ((0.0, 0.0), (0.5, 0.0), (-0.5, 0.0), (0.0, 0.5), (0.0, -0.5))
    }
    aligned = errors.pop((0.0, 0.0))
    assert aligned < 0.4 * min(errors.values())  # half a pixel off would show in every direction


def test_the_scene_is_normalised(tmp_path: Path) -> None:
    write_npy(tmp_path / "set", cameras_around())
    import_objects(tmp_path / "set", CONFIG, tmp_path / "dataset", progress=False)
    sample = read_sample(tmp_path / "dataset" / "sample_000000")
    distances = sample.views.cameras.centres.norm(dim=-1)
    assert float(distances.mean()) == pytest.approx(RIG_RADIUS, abs=1e-4)
    assert float(distances.std()) > 0.05  # cameras are not moved to one distance
    up = sample.scene_from_world.rotation @ torch.tensor([0.0, 0.0, 1.0]).to(sample.scene_from_world.rotation)
    assert float(up[2]) == pytest.approx(1.0)
    centre = sample.scene_from_world.apply(BALLS.mean(0, keepdim=True))
    assert float(centre.norm()) < 0.1
    masks = sample.views.masks
    border = torch.cat([masks[..., 0, :], masks[..., -1, :], masks[..., :, 0], masks[..., :, -1]], -1)
    assert float(border.max()) < 0.5  # nothing that counts is cut off
    assert float((masks > 0.5).float().mean((1, 2, 3)).max()) > 0.1  # and the frame is used


def test_edges_do_not_get_darker_than_the_object(tmp_path: Path) -> None:
    """Renders are black outside; straight colours at half alpha must be those of the inside."""
    write_npy(tmp_path / "set", cameras_around())
    import_objects(tmp_path / "set", CONFIG, tmp_path / "dataset", progress=False)
    views = read_sample(tmp_path / "dataset" / "sample_000000").views
    soft = ((views.masks > 0.2) & (views.masks < 0.6)).expand_as(views.images)
    assert float(views.images.amax(1, keepdim=True).expand_as(views.images)[soft].quantile(0.05)) > 0.3


def test_a_world_with_another_up_is_turned(tmp_path: Path) -> None:
    turn = Similarity(
        scale=torch.ones(()),
        rotation=torch.tensor([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]]),
        translation=torch.zeros(3),
    )
    cameras, heights = cameras_around(), []
    for name, its in (("plain", cameras), ("turned", cameras.transformed(turn))):
        write_npy(tmp_path / name, cameras)
        for i in range(len(cameras)):  # the same pictures in a world whose -Y is up
            np.save(tmp_path / name / f"{i:03d}.npy", _rigid(its.w2c[i])[:3].numpy())
        import_objects(tmp_path / name, CONFIG, tmp_path / f"of_{name}", progress=False)
        heights.append(read_sample(tmp_path / f"of_{name}" / "sample_000000").views.cameras.centres[:, 2])
    torch.testing.assert_close(heights[1], heights[0], atol=0.02, rtol=0)
    assert float(heights[0].std()) > 0.1


def test_a_cut_off_run_goes_on_and_changes_nothing(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_npy(tmp_path / "set" / name, cameras_around(5))
    done = import_objects(tmp_path / "set", CONFIG, tmp_path / "dataset", progress=False)
    assert (done.num_train, done.num_val) == (1, 2)
    file = tmp_path / "dataset" / "sample_000001" / "opencv_cameras.json"
    before, when = file.read_bytes(), file.stat().st_mtime_ns
    lost = tmp_path / "dataset" / "sample_000002" / "opencv_cameras.json"
    content = lost.read_bytes()
    lost.unlink()
    import_objects(tmp_path / "set", CONFIG, tmp_path / "dataset", progress=False)
    assert (file.read_bytes(), file.stat().st_mtime_ns) == (before, when)
    assert lost.read_bytes() == content
    with pytest.raises(InputError, match="use another folder"):
        import_objects(tmp_path / "set", ObjectsConfig(size_px=32), tmp_path / "dataset", progress=False)


def _wrong_cameras(folder: Path) -> None:
    matrices = [np.load(folder / f"{i:03d}.npy") for i in range(6)]
    for i, matrix in enumerate(matrices):
        np.save(folder / f"{(i + 2) % 6:03d}.npy", matrix)


def _opaque(folder: Path) -> None:
    for picture in folder.glob("*.png"):
        with Image.open(picture) as image:
            image.convert("RGB").save(picture)


def _mirrored(folder: Path) -> None:
    matrix = np.load(folder / "000.npy")
    matrix[0] *= -1
    np.save(folder / "000.npy", matrix)


def _too_few(folder: Path) -> None:
    for i in range(3, 6):
        (folder / f"{i:03d}.png").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_wrong_cameras, "masks and cameras that agree"),
        (_opaque, "found an opaque picture"),
        (_mirrored, "det"),
        (_too_few, "at least 4 views"),
        (lambda folder: (folder / "001.npy").write_bytes(b"nonsense"), "expected a NumPy array"),
        (lambda folder: (folder / "001.png").write_bytes(b"nonsense"), "expected a picture"),
    ],
)
def test_a_bad_object_is_left_out_in_one_line(spoil: Callable, message: str, tmp_path: Path) -> None:
    write_npy(tmp_path / "set" / "good", cameras_around(6))
    write_npy(tmp_path / "set" / "bad", cameras_around(6))
    spoil(tmp_path / "set" / "bad")
    done = import_objects(tmp_path / "set", CONFIG, tmp_path / "dataset", progress=False)
    assert list(done.left_out) == ["bad"]
    assert message in done.left_out["bad"]
    assert "\n" not in done.left_out["bad"]
    assert (tmp_path / "dataset" / LEFT_OUT_FILE).read_text().startswith("bad\t")
    assert len(MouseDataset(tmp_path / "dataset", "train")) == 1
    again = import_objects(tmp_path / "set", CONFIG, tmp_path / "dataset", progress=False)
    assert again == done


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="expected objects with"):
        find_objects(tmp_path / "empty")
    write_npy(tmp_path / "set", cameras_around(6))
    _opaque(tmp_path / "set")
    with pytest.raises(InputError, match=r"found none of 1; set: .*opaque"):
        import_objects(tmp_path / "set", CONFIG, tmp_path / "dataset", progress=False)


def test_command_imports(tmp_path: Path, monkeypatch, capsys) -> None:
    write_npy(tmp_path / "set" / "a", cameras_around(6))
    words = ["import-objects", str(tmp_path / "set"), "size_px=32", "-o", str(tmp_path / "dataset"), "--workers", "1"]
    monkeypatch.setattr("sys.argv", ["mouselift", *words])
    main()
    assert "1 training and 0 validation samples" in capsys.readouterr().out
    assert (tmp_path / "dataset" / "contact_sheet.png").is_file()
