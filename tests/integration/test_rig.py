"""From a calibrated recording to Gaussians in the rig's own millimetres."""

from pathlib import Path

from rig_recordings import AXES_MM, centre_at, write_rig_recording

from mouselift import read_ply
from mouselift.data.layout import read_sample
from mouselift.data.plan import PrepareConfig
from mouselift.data.recording import open_recording
from mouselift.export.files import convert
from mouselift.export.result import write_result
from mouselift.prepare import prepare
from mouselift.reconstruct import ReconstructConfig, reconstruct_sample


def test_a_rig_reconstruction_converts_to_mm_of_the_rigs_world(tmp_path: Path) -> None:
    recording = open_recording(write_rig_recording(tmp_path / "rig", 4))
    prepare(recording, PrepareConfig(size_px=128, val_share=0.0), tmp_path / "set", progress=False)
    sample = read_sample(tmp_path / "set" / "sample_000002")
    result = reconstruct_sample(sample, [0, 1, 2, 3], config=ReconstructConfig(refine_steps=5))
    write_result(result, tmp_path / "out")
    convert(tmp_path / "out" / "gaussians.ply", tmp_path / "mm.ply", units="mm")
    world = read_ply(tmp_path / "mm.ply").pruned(0.5)
    assert (world.means.mean(0) - centre_at(2)).norm() < 5.0  # mm
    assert (world.means.amax(0) - world.means.amin(0)).max() < 2 * AXES_MM.max() + 25
