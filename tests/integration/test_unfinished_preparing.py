"""Places that cannot be written to, full disks, Ctrl-C and kill -9: nothing is lost, and the next run goes on."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from broken_recordings import SETTINGS, Damage, looks_whole, run_prepare, the_error, tree

import mouselift.prepare as prepare_module
from mouselift.cli import EXIT_BAD_INPUT, EXIT_INTERRUPTED
from mouselift.data.layout import CAMERA_FILE, DATASET_FILE, SPLIT_FILES

NOBODY = 65534


# ---- places that cannot be written to


def foreign_lists(out: Path) -> None:
    out.mkdir()
    (out / SPLIT_FILES["train"]).write_text("mouse_7/sample_000\n")


def sample_without_end(out: Path) -> None:
    (out / "sample_000001" / CAMERA_FILE).write_text('{"id": "samp')


PLACES: dict[str, tuple[Damage, str, tuple[str, ...]]] = {
    "a file": (lambda out: out.write_text("notes"), r"out: expected a folder for the dataset, found a file", ()),
    "below a file": (
        lambda out: out.write_text("notes"),
        r"out: expected a folder for the dataset, found a file",
        ("-o", "{out}/deeper"),
    ),
    "the recording": (lambda out: None, r"expected another folder than the recording's own", ("-o", "{recording}")),
    "samples of other settings": (lambda out: None, r"sample_000000/.*; use another folder", ("size_px=64",)),
    "somebody's lists": (foreign_lists, r"data_mouse_train\.txt: .*found mouse_7/sample_000.*; use another folder", ()),
    "a damaged sample": (sample_without_end, r"sample_000001/.*; delete the sample's folder", ()),
}


@pytest.mark.parametrize("name", PLACES)
def test_what_lies_at_the_place_of_the_dataset_is_kept(
    name: str,
    sound: Path,
    sound_dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    fill, says, arguments = PLACES[name]
    recording, out = shutil.copytree(sound, tmp_path / "recording"), tmp_path / "out"
    if "sample" in name:
        shutil.copytree(sound_dataset, out)
    fill(out)
    before = tree(tmp_path)
    capfd.readouterr()
    named = [argument.format(out=out, recording=recording) for argument in arguments]
    assert run_prepare(monkeypatch, recording, out, *named) == EXIT_BAD_INPUT
    assert re.search(says, the_error(capfd.readouterr().err))
    assert tree(tmp_path) == before


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may do everything: be nobody for a while."""
    is_root = os.geteuid() == 0
    if is_root:
        os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        if is_root:
            os.setresuid(0, 0, 0)


FORBIDDEN = {
    "a video": ("west.mp4", r"west\.mp4: expected a video, found: Permission denied"),
    "the masks": ("masks", r"masks.*: expected a recording that can be read, found: Permission denied"),
    "the calibration": ("calibration.toml", r"calibration\.toml: expected .*, found Permission denied"),
    "the output": (".", r"expected a folder that can be written to, found one that cannot"),
}


@pytest.mark.parametrize("name", FORBIDDEN)
@pytest.mark.usefixtures(
    "sound_dataset"
)  # by then all is imported: the package's own files may be out of nobody's reach
def test_permission_denied(
    name: str, sound: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file, says = FORBIDDEN[name]
    with tempfile.TemporaryDirectory() as place:
        recording = Path(shutil.copytree(sound, Path(place) / "recording"))
        (recording / file).chmod(0o555 if file == "." else 0)
        Path(place).chmod(0o555)
        capfd.readouterr()
        with unprivileged():
            if not os.access(place, os.R_OK | os.X_OK):
                pytest.skip(f"temporary folders are out of reach of other users: {place}")
            status = run_prepare(monkeypatch, recording, Path(place) / "out")
        Path(place).chmod(0o755)
        (recording / file).chmod(0o755)
        assert status == EXIT_BAD_INPUT
        assert re.search(says, the_error(capfd.readouterr().err))
        assert sorted(path.name for path in Path(place).iterdir()) == ["recording"]
        assert tree(recording) == tree(sound)


# ---- ends that come too early


def in_a_process(recording: Path, out: Path, before: str) -> subprocess.CompletedProcess[str]:
    """`mouselift prepare` in a process of its own that first runs some Python.

    It writes no bytecode: Python 3.11 keeps what a full disk left of it, which no later process could import.
    """
    code = f"{before}\nfrom mouselift.cli import main\nmain()"
    arguments = ["prepare", str(recording), "-o", str(out), *SETTINGS]
    command = [sys.executable, "-B", "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_a_disk_that_is_full(sound: Path, sound_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system refuses files above a size, in the middle of a picture; with room again, the run goes on."""
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    assert max(map(len, (p.read_bytes() for p in sound_dataset.glob("sample_000000/images/*.png")))) > 1000
    done = in_a_process(sound, tmp_path / "out", limit)
    assert done.returncode == EXIT_BAD_INPUT
    assert re.search(
        r"sample_\d+: expected a disk that can be written to, found: File too large", the_error(done.stderr)
    )
    assert tree(tmp_path) == {}
    assert run_prepare(monkeypatch, sound, tmp_path / "out") == 0
    assert tree(tmp_path / "out") == tree(sound_dataset)


@pytest.mark.parametrize(
    ("error", "file"), [("ENOSPC", ".dataset"), ("ENOSPC", ".data_mouse_val"), ("EROFS", ".dataset")]
)
def test_the_lists_appear_together_or_not_at_all(
    error: str,
    file: str,
    sound: Path,
    sound_dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    code, write, out = getattr(errno, error), Path.write_text, tmp_path / "out"
    shutil.copytree(sound_dataset, out, ignore=shutil.ignore_patterns("*.txt", DATASET_FILE, "contact_sheet.png"))
    before = tree(out)

    def fail(path: Path, text: str, *args: Any, **named: Any) -> int:
        if path.name.startswith(file):
            raise OSError(code, os.strerror(code), str(path))
        return write(path, text, *args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", fail)
        assert run_prepare(patch, sound, out) == EXIT_BAD_INPUT
    assert re.search(f"expected a disk .*, found: {os.strerror(code)}$", the_error(capfd.readouterr().err).rstrip())
    assert tree(out) == before


def test_an_interrupted_run_goes_on(
    sound: Path, sound_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C after two samples, which are then kept as they are."""
    write, written, out = prepare_module.write_sample_pictures, [], tmp_path / "out"

    def interrupted(folder: Path, *args: Any, **named: Any) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        write(folder, *args, **named)
        written.append(folder)

    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, "write_sample_pictures", interrupted)
        assert run_prepare(patch, sound, out) == EXIT_INTERRUPTED
    assert capfd.readouterr().err == "mouselift: interrupted\n"
    assert not looks_whole(out)
    times = {file: file.stat().st_mtime_ns for folder in written for file in folder.rglob("*.png")}
    assert run_prepare(monkeypatch, sound, out) == 0
    assert tree(out) == tree(sound_dataset)
    assert times == {file: file.stat().st_mtime_ns for file in times}


def test_a_killed_run_goes_on(
    sound: Path, sound_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 in the middle of the third sample, whose half remains; the next run clears it away."""
    kill = """
import os, signal
from pathlib import Path
write, count = Path.write_bytes, []
def killed(path, content):
    count.append(path)
    if len(count) > 2 * 4 + 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return write(path, content)
Path.write_bytes = killed
"""
    done = in_a_process(sound, tmp_path / "out", kill)
    assert done.returncode == -signal.SIGKILL
    assert not looks_whole(tmp_path / "out")
    left = sorted(path.name[:14] for path in (tmp_path / "out").iterdir())
    assert left == [".sample_000002", "sample_000000", "sample_000001"]
    assert run_prepare(monkeypatch, sound, tmp_path / "out") == 0
    assert tree(tmp_path / "out") == tree(sound_dataset)
