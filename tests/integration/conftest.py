"""What the tests of preparing share: a tiny sound recording, and what an undisturbed run makes of it."""

from pathlib import Path

import pytest
from broken_recordings import run_prepare, write_sound_recording


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sound_recording(tmp_path_factory.mktemp("sound") / "recording")


@pytest.fixture(scope="session")
def sound_dataset(sound: Path) -> Path:
    out = sound.parent / "dataset"
    with pytest.MonkeyPatch.context() as patch:
        assert run_prepare(patch, sound, out) == 0
    return out
