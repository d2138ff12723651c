"""Stretches that are surveyed and written apart give the bytes of one process; so does a Ray cluster of two nodes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rig_recordings import write_rig_recording

import mouselift.spread as module
from mouselift.data.plan import PrepareConfig
from mouselift.data.recording import open_recording
from mouselift.errors import InputError
from mouselift.prepare import prepare
from mouselift.spread import prepare_on_ray

CONFIG = PrepareConfig(every=2, size_px=64, val_share=0.2)


class InThisProcess:
    """What is used of Ray, without processes."""

    class exceptions:
        class RayTaskError(Exception):
            cause: Exception

    def init(self, **_: Any) -> None: ...
    def shutdown(self) -> None: ...
    def put(self, value: Any) -> Any:
        return value

    def get(self, value: Any) -> Any:
        return value

    def remote(self, function: Any) -> Any:
        return type("Remote", (), {"remote": staticmethod(function)})


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rig_recording(tmp_path_factory.mktemp("rig") / "recording")


@pytest.fixture(scope="module")
def expected(recorded: Path) -> dict[str, bytes]:
    prepare(open_recording(recorded), CONFIG, recorded.parent / "one", progress=False)
    return tree(recorded.parent / "one")


def test_stretches_give_the_same_bytes(
    recorded: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ray", InThisProcess)
    monkeypatch.setattr(module, "SURVEYED", 3)
    monkeypatch.setattr(module, "CROPPED", 2)
    prepare_on_ray(open_recording(recorded), CONFIG, tmp_path / "set", "local", progress=False)
    assert tree(tmp_path / "set") == expected


@pytest.fixture
def two_nodes() -> Iterator[str]:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    yield cluster.address
    cluster.shutdown()


def test_a_cluster_of_two_nodes_gives_the_same_bytes(
    recorded: Path, expected: dict[str, bytes], two_nodes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SURVEYED", 8)
    monkeypatch.setattr(module, "CROPPED", 2)
    out = tmp_path / "set"
    prepare_on_ray(open_recording(recorded), CONFIG, out, two_nodes, progress=False)
    assert tree(out) == expected
    video = next(recorded.glob("*.mp4"))
    content = video.read_bytes()
    opened = open_recording(recorded)
    video.unlink()
    try:
        with pytest.raises(InputError, match="expected a video, found: No such file"):
            prepare_on_ray(opened, CONFIG, tmp_path / "again", two_nodes, progress=False)
    finally:
        video.write_bytes(content)


def test_without_ray_the_extra_is_named(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InputError, match=r"mouselift\[ray\]"):
        prepare_on_ray(open_recording(recorded), CONFIG, tmp_path / "set", "local")
    assert not (tmp_path / "set").exists()
