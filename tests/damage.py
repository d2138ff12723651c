"""Damaged files for the tests of readers."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hypothesis import strategies as st

from mouselift.errors import InputError

T = TypeVar("T")


def refused_or(read: Callable[[Path], T], path: Path) -> T | None:
    """What a reader makes of a file; None where it refuses it, with one line that names the file."""
    try:
        return read(path)
    except InputError as error:
        message = str(error)
    assert message.startswith(str(path))
    assert "\n" not in message
    return None


@st.composite
def damaged(draw: st.DrawFn, sound: bytes) -> bytes:
    """The bytes of a sound file, cut, with some of them changed, or with others after them."""
    data = bytearray(sound[: draw(st.integers(0, len(sound)))] if draw(st.booleans()) else sound)
    for _ in range(draw(st.integers(0, 5)) if data else 0):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data) + draw(st.sampled_from([b"", b"x", bytes(100)]))
