"""Frames by their exact numbers, and what a scan finds wrong with a file."""

import itertools
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from videos import TICKS, numbered_frame, read_number, write_video

from mouselift.data.recording.video import Gap, VideoInfo, read_video, scan_video
from mouselift.errors import InputError


def numbers_of(info: VideoInfo, wanted) -> list[int]:
    return [read_number(frame)[0] for frame in read_video(info, wanted, "rgb")]


CONTAINERS = {
    "mp4": {},
    "fragmented mp4": {"muxer": {"movflags": "frag_keyframe+empty_moov"}},
    "start offset": {"ticks": lambda k: k * TICKS + 777},
    "open groups": {"options": {"g": "15", "bf": "3", "crf": "15", "x264-params": "open-gop=1:scenecut=0"}},
    "keyframes only": {"options": {"g": "1", "crf": "15"}},
    "mkv": {"suffix": "mkv"},
    "avi with reordered frames": {"suffix": "avi"},
    "avi mpeg4": {"suffix": "avi", "codec": "mpeg4"},
    "avi mjpeg": {"suffix": "avi", "codec": "mjpeg", "pixel_format": "yuvj420p", "ticks": lambda k: k},
    "mpeg-ts": {"suffix": "ts"},
}


@pytest.fixture(scope="module", params=CONTAINERS)
def video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VideoInfo:
    options = dict(CONTAINERS[request.param])
    if request.param == "avi mjpeg" or options.get("suffix") == "avi":
        options["ticks"] = lambda k: k * TICKS
    path = tmp_path_factory.mktemp("video") / f"a.{options.pop('suffix', 'mp4')}"
    return scan_video(write_video(path, 90, **options))


@pytest.mark.parametrize(
    "wanted",
    [range(90), range(0, 90, 7), range(4, 90, 31), [89], [40], [41, 42], [0, 89], [5, 5, 6, 6, 6, 80, 80]],
    ids=str,
)
def test_frames_are_exactly_those_asked_for(video: VideoInfo, wanted) -> None:
    assert video.num_frames == 90
    assert numbers_of(video, wanted) == list(wanted)


def test_the_rate_comes_from_time_stamps(tmp_path: Path) -> None:
    assert scan_video(write_video(tmp_path / "a.mp4", 30, fps=40)).fps == pytest.approx(40)
    assert scan_video(write_video(tmp_path / "a.mkv", 90, fps=30)).fps == pytest.approx(30, rel=1e-3)  # stamps in ms


def test_an_edit_list_hides_frames(tmp_path: Path) -> None:
    """Cut without encoding, a file keeps the frames since the keyframe before, and tells players to skip them."""
    whole = write_video(tmp_path / "whole.mp4", 60)
    with av.open(str(whole)) as source, av.open(str(tmp_path / "cut.mp4"), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        start = 25 * round(1 / 25 / stream.time_base)
        for packet in source.demux(stream):
            if packet.dts is not None and packet.pts >= 20 * start // 25:
                packet.stream = copy
                packet.pts, packet.dts = packet.pts - start, packet.dts - start
                target.mux(packet)
    info = scan_video(tmp_path / "cut.mp4")
    assert numbers_of(info, range(info.num_frames)) == list(range(25, 60))


@given(missing=st.sets(st.integers(2, 57), max_size=2))
def test_missing_frames_are_named(tmp_path_factory: pytest.TempPathFactory, missing: set[int]) -> None:
    kept = [k for k in range(60) if k not in missing]
    path = tmp_path_factory.mktemp("gaps") / "a.mp4"
    info = scan_video(write_video(path, len(kept), ticks=lambda k: kept[k] * TICKS))
    steps = enumerate(itertools.pairwise(kept))
    assert info.gaps == tuple(Gap(i, later - earlier - 1) for i, (earlier, later) in steps if later - earlier > 1)
    assert not info.variable
    assert info.fps == pytest.approx(25)


def test_a_rate_that_varies_is_told_apart_from_gaps(tmp_path: Path) -> None:
    times = np.cumsum(np.random.default_rng(0).choice([40, 100, 180], 60))
    info = scan_video(write_video(tmp_path / "a.mp4", 60, ticks=lambda k: int(times[k])))
    assert info.variable
    assert info.gaps == ()
    jitter = np.random.default_rng(0).integers(-15, 16, 60)
    info = scan_video(write_video(tmp_path / "b.mp4", 60, ticks=lambda k: int(k * TICKS + jitter[k] + 15)))
    assert not info.variable
    assert info.gaps == ()


def test_audio_is_ignored(tmp_path: Path) -> None:
    plain = write_video(tmp_path / "plain.mp4", 30)
    with av.open(str(plain)) as source, av.open(str(tmp_path / "sound.mp4"), "w") as target:
        sound = target.add_stream("aac", rate=8000)
        copy = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
        for k in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, 1024 * k
            target.mux(sound.encode(frame))
        target.mux(sound.encode(None))
    info = scan_video(tmp_path / "sound.mp4")
    assert numbers_of(info, range(30)) == list(range(30))


FORMATS = {
    "grey": {"codec": "ffv1", "pixel_format": "gray"},
    "10 bits": {"codec": "ffv1", "pixel_format": "yuv420p10le"},
    "H.264 of 10 bits": {"pixel_format": "yuv420p10le"},
    "4:4:4": {"pixel_format": "yuv444p"},
    "RGB": {"codec": "ffv1", "pixel_format": "bgr0"},
}


@pytest.mark.parametrize("options", FORMATS.values(), ids=list(FORMATS))
def test_pixel_formats_become_rgb_of_8_bits(tmp_path: Path, options: dict[str, str]) -> None:
    info = scan_video(write_video(tmp_path / "a.mkv", 5, **options))
    assert info.bit_depth == (10 if "10" in options["pixel_format"] else 8)
    for number, frame in enumerate(read_video(info, range(5), "rgb")):
        assert frame.shape == (48, 64, 3)
        assert np.abs(frame.astype(int) - numbered_frame(number)).mean() < 4


def test_odd_sizes(tmp_path: Path) -> None:
    frames = [numbered_frame(k, width=67, height=51) for k in range(5)]
    info = scan_video(write_video(tmp_path / "a.mp4", frames, pixel_format="yuv444p"))
    assert (info.width, info.height) == (67, 51)
    for frame, given_frame in zip(read_video(info, range(5), "rgb"), frames, strict=True):
        assert frame.shape == (51, 67, 3)
        assert np.abs(frame.astype(int) - given_frame).mean() < 4


def test_transparency_is_kept(tmp_path: Path) -> None:
    alpha = np.arange(48 * 64).reshape(48, 64) % 256
    frames = [np.dstack([numbered_frame(k), np.roll(alpha, k, 1).astype(np.uint8)]) for k in range(4)]
    info = scan_video(write_video(tmp_path / "a.mov", frames, codec="qtrle", pixel_format="argb"))
    assert info.has_alpha
    assert all((got == given).all() for got, given in zip(read_video(info, range(4), "rgba"), frames, strict=True))


def test_metadata_that_turn_the_picture_are_seen(tmp_path: Path) -> None:
    info = scan_video(write_video(tmp_path / "a.mp4", 5, rotation=90))
    assert abs(info.rotation_deg) == 90
    assert scan_video(write_video(tmp_path / "b.mp4", 5)).rotation_deg == 0


def cut(path: Path, kept: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])


def broken(path: Path, fault: str) -> Path:
    front = {"movflags": "+faststart"}
    if fault == "missing":
        return path
    if fault == "folder":
        path.mkdir()
    elif fault == "zero bytes":
        path.touch()
    elif fault == "text":
        path.write_text("frames\n" * 100)
    elif fault == "cut, index at the end":
        cut(write_video(path, 60), 0.6)
    elif fault == "cut, index in front":
        cut(write_video(path, 60, muxer=front), 0.6)
    elif fault == "cut mkv":
        cut(write_video(path.with_suffix(".mkv"), 60), 0.6)
        return path.with_suffix(".mkv")
    elif fault == "cut avi":
        cut(write_video(path.with_suffix(".avi"), 60, codec="mpeg4"), 0.6)
        return path.with_suffix(".avi")
    elif fault == "sound only":
        with av.open(str(path), "w") as container:
            sound = container.add_stream("aac", rate=8000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 8000
            container.mux([*sound.encode(frame), *sound.encode(None)])
    return path


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("missing", "No such file"),
        ("folder", "expected a video, found"),
        ("zero bytes", r"empty file \(0 bytes\)"),
        ("text", "no readable one"),
        ("cut, index at the end", "cut off while recording"),
        ("cut, index in front", "cut off"),
        ("cut mkv", "cut off"),
        ("cut avi", "cut off"),
        ("sound only", "expected a video stream, found audio"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, fault: str, said: str) -> None:
    path = broken(tmp_path / "a.mp4", fault)
    with pytest.raises(InputError, match=said) as caught:
        scan_video(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damage_inside_is_named_with_its_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 60, muxer={"movflags": "+faststart"})
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.is_keyframe][2]
        position, size, number = packet.pos, packet.size, 40
    content = bytearray(path.read_bytes())
    content[position + 40 : position + size] = bytes(255 - byte for byte in content[position + 40 : position + size])
    path.write_bytes(content)
    info = scan_video(path)
    assert numbers_of(info, range(30)) == list(range(30))
    with pytest.raises(InputError, match=r"a\.mp4: damaged at (or after )?frame (\d+)") as caught:
        numbers_of(info, range(60))
    assert abs(int(str(caught.value).split("frame ")[1].split(":")[0]) - number) <= 4  # reordering and threads


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    """Frames live in FFmpeg's memory, which tracemalloc does not see; the copies of a mask video's are Python's."""
    info = scan_video(write_video(tmp_path / "a.mp4", 150))
    tracemalloc.start()
    for _ in read_video(info, range(150), "mask"):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * 64 * 48
