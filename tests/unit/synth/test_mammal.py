"""The reader of `mouse.pkl` takes arrays and nothing else."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from mouselift.errors import InputError
from mouselift.synth.mammal import load_mouse_pickle


class Bomb:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_bomb_is_refused_and_does_not_go_off(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "boom"
    file = tmp_path / "mouse.pkl"
    file.write_bytes(pickle.dumps({"vertices": Bomb(f"touch {trace}")}, protocol=protocol))
    with pytest.raises(InputError, match=r"mouse\.pkl.*refused"):
        load_mouse_pickle(file)
    assert not trace.exists()


def test_hidden_attributes_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "mouse.pkl"
    file.write_bytes(b"cnumpy\nndarray.__class__.__base__\n.")  # protocol 0, dotted name
    with pytest.raises(InputError, match="refused"):
        load_mouse_pickle(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a pickle", "damaged pickle"),
        (b"", "damaged pickle"),
        (pickle.dumps([1, 2]), "expected a dictionary, found list"),
        (pickle.dumps({"vertices": np.zeros((3, 3))}), r"expected vertices of shape \(14522, 3\), found \(3, 3\)"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "mouse.pkl"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_mouse_pickle(file)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.pkl.*No such file"):
        load_mouse_pickle(tmp_path / "none.pkl")


def test_the_real_file_is_read(test_data: Path) -> None:
    content = load_mouse_pickle(test_data / "mammal" / "mouse.pkl")
    assert content["skinning_weights"].nnz == 35900
