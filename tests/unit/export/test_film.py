from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from samples import random_gaussians, seeded

from mouselift.errors import InputError
from mouselift.export.film import film_frames, turntable_frames, write_animation, write_film
from mouselift.export.picture import to_uint8
from mouselift.geometry.rigs import turntable
from mouselift.render import render


def smooth_frames(count: int = 6, height: int = 64, width: int = 96) -> list[np.ndarray]:
    """Saturated colours that move, so that wrong colour matrices and ranges show."""
    rows, columns = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    waves = [np.stack([rows, columns, (rows + columns + k / count) % 2 / 2], axis=-1) for k in range(count)]
    return [(255 * wave).round().astype(np.uint8) for wave in waves]


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_film_plays_back_with_its_colours(tmp_path: Path) -> None:
    frames = smooth_frames()
    write_film(frames, tmp_path / "a.mp4", fps=24)
    found = decoded(tmp_path / "a.mp4")
    assert len(found) == len(frames)
    for shown, given in zip(found, frames, strict=True):
        assert np.abs(shown.astype(float) - given).mean() < 4


def test_browsers_can_play_it(tmp_path: Path) -> None:
    write_film(smooth_frames(), tmp_path / "a.mp4", fps=12.5)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.pix_fmt == "yuv420p"
        assert float(stream.average_rate or 0) == 12.5
        assert (stream.codec_context.color_range, stream.codec_context.colorspace) == (1, 1)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # the index comes first


def test_odd_sides_are_extended_not_scaled(tmp_path: Path) -> None:
    frames = smooth_frames(height=63, width=95)
    write_film(frames, tmp_path / "a.mp4", fps=24)
    shown = decoded(tmp_path / "a.mp4")[0]
    assert shown.shape == (64, 96, 3)
    assert np.abs(shown[:63, :95].astype(float) - frames[0]).mean() < 4


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_film(iter(smooth_frames()), tmp_path / name, fps=24)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_bad_frames_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no frames"):
        write_film([], tmp_path / "a.mp4", fps=24)
    with pytest.raises(ValueError, match="different sizes"):
        write_film([*smooth_frames(2), *smooth_frames(1, height=32)], tmp_path / "a.mp4", fps=24)
    assert list(tmp_path.iterdir()) == []


def test_a_turntable_shows_what_its_cameras_see() -> None:
    gaussians = random_gaussians(seeded(0), count=40).to(torch.float32)
    frames = list(turntable_frames(gaussians, num_frames=11, size_px=24, elevation_deg=10.0, fov_deg=60.0))
    cameras = turntable(11, elevation_deg=10.0, fov_deg=60.0, size_px=24)
    assert len(frames) == 11
    for index in (0, 7, 8, 10):  # on both sides of the boundary between batches
        image = render(gaussians, cameras[index : index + 1]).image[0]
        np.testing.assert_array_equal(frames[index], to_uint8(image))
    assert np.std(np.stack(frames).astype(float)) > 5  # something is to be seen


def moving_square(count: int = 5) -> list[np.ndarray]:
    """A square that moves over a background that is no multiple of anything."""
    frames = [np.full((48, 64, 3), (253, 251, 247), dtype=np.uint8) for _ in range(count)]
    for k, frame in enumerate(frames):
        frame[10:30, 5 + 8 * k : 25 + 8 * k] = (120, 60, 30)
    return frames


@pytest.mark.parametrize(("suffix", "shown_ms"), [("gif", 40), ("webp", 42)])
def test_animations_repeat_and_keep_their_colours(tmp_path: Path, suffix: str, shown_ms: int) -> None:
    frames = moving_square()
    write_animation(iter(frames), tmp_path / f"a.{suffix}", fps=24)
    with Image.open(tmp_path / f"a.{suffix}") as picture:
        assert (picture.n_frames, picture.info["loop"]) == (5, 0)
        for number, given in enumerate(frames):
            picture.seek(number)
            picture.load()
            assert picture.info["duration"] == shown_ms
            shown = np.asarray(picture.convert("RGB"))
            assert np.abs(shown.astype(float) - given).mean() < 3
            if suffix == "gif":
                assert shown[0, 0].tolist() == [253, 251, 247]


def test_the_suffix_chooses_the_format(tmp_path: Path) -> None:
    write_animation(smooth_frames(), tmp_path / "a.mp4", fps=24)
    assert len(decoded(tmp_path / "a.mp4")) == 6
    with pytest.raises(InputError, match=r"expected a suffix among .mp4, .gif, .webp, found .avi"):
        write_animation(smooth_frames(), tmp_path / "a.avi", fps=24)
    with pytest.raises(ValueError, match="no frames"):
        write_animation([], tmp_path / "b.gif", fps=24)


def test_a_sequence_plays_from_its_first_instant_to_its_last() -> None:
    scenes = [random_gaussians(seeded(k), count=40).to(torch.float32) for k in range(3)]
    cameras = turntable(7, fov_deg=60.0, size_px=16)
    frames = list(film_frames(scenes, cameras))
    for index, instant in enumerate([0, 0, 0, 1, 1, 2, 2]):
        image = render(scenes[instant], cameras[index : index + 1]).image[0]
        np.testing.assert_array_equal(frames[index], to_uint8(image))
