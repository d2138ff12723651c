"""Commands about data and files: `synth`, `segment`, `prepare`, `surround`, `shards`, `check`, `convert`, `mesh`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from mouselift.cli.app import Out, app
from mouselift.errors import InputError

Calibration = Annotated[Path | None, arg(aliases=["-c"])]


@app.command
def synth(
    out: Out,
    num: int,
    val_share: float = 0.05,
    first_seed: int = 0,
    workers: int = 1,
    config: Path | None = None,
    overrides: Positional[tuple[str, ...]] = (),
) -> None:
    """Make synthetic mice with exact cameras, alpha and fur.

    Args:
        out: The dataset folder.
        num: Number of samples.
        val_share: Share of the samples, the last ones, that is held out.
        first_seed: Seed of the first sample; sample i has seed first_seed + i.
        workers: Processes.
        config: YAML of a SynthConfig.
        overrides: key=value for the configuration.
    """
    from mouselift.config import load_config
    from mouselift.synth.scene import SynthConfig
    from mouselift.synthesize import synthesize_dataset

    settings = load_config(SynthConfig, config, overrides)
    synthesize_dataset(settings, out, num, first_seed, workers, val_share=val_share)


@app.command
def prepare(
    recording: Positional[Path],
    overrides: Positional[tuple[str, ...]] = (),
    *,
    out: Out,
    calibration: Calibration = None,
    config: Path | None = None,
    ray: str | None = None,
) -> None:
    """Turn a calibrated recording with masks into a training set.

    Args:
        recording: Its folder, or a recording.yaml.
        overrides: key=value for the configuration, as in every=9 max_samples=2000 preset=facelift size_px=512.
        out: The dataset folder. A run that was cut off goes on where it stopped.
        calibration: The calibration file, where the recording holds none or several.
        config: YAML of a PrepareConfig.
        ray: Address of a Ray cluster that does the work (auto, ray://host:10001), or local to start one here.
    """
    from mouselift.config import load_config
    from mouselift.data.recording import open_recording
    from mouselift.export.dataset import write_contact_sheet
    from mouselift.prepare import PrepareConfig
    from mouselift.prepare import prepare as prepare_recording

    settings = load_config(PrepareConfig, config, overrides)
    opened = open_recording(recording, calibration=calibration)
    sys.stdout.write("\n".join(opened.describe()) + "\n")
    if ray is None:
        done = prepare_recording(opened, settings, out)
    else:
        from mouselift.spread import prepare_on_ray

        done = prepare_on_ray(opened, settings, out, ray)
    write_contact_sheet(out, done.samples)
    lines = [f"{done.num_train} training and {done.num_val} validation samples in {out}"]
    lines += [f"left out: instant {instant}, {why}" for instant, why in done.dropped.items()]
    sys.stdout.write("\n".join(lines) + "\n")


@app.command
def surround(
    dataset: Positional[Path],
    *,
    out: Out,
    size_px: int = 128,
    num_views: int = 8,
    steps: int = 400,
    enough_db: float = 24.0,
    device: str = "auto",
) -> None:
    """Add views from all sides to the samples of a recording, made by fits, to train the generator on.

    Args:
        dataset: Made by `mouselift prepare`.
        out: The new dataset's folder. A run that was cut off goes on where it stopped.
        size_px: Of all views of the new samples.
        num_views: Around the animal.
        steps: Of each fit.
        enough_db: Foreground PSNR that a fit must reach on its own views; samples below it are left out.
        device: auto, cpu or cuda.
    """
    from mouselift.surround import SurroundConfig
    from mouselift.surround import surround as surround_dataset

    config = SurroundConfig(size_px=size_px, num_views=num_views, steps=steps, enough_db=enough_db, device=device)
    done = surround_dataset(dataset, out, config)
    lines = [f"{done.num_train} training and {done.num_val} validation samples in {out}, fits of {done.mean_db:.1f} dB"]
    lines += [f"left out: {why}" for why in done.left_out.values()]
    sys.stdout.write("\n".join(lines) + "\n")


@app.command
def shards(source: Positional[Path], *, out: Out, samples: int = 100) -> None:
    """Pack a dataset into tar files of WebDataset's layout, or unpack such files into a dataset.

    Args:
        source: A finished dataset, or a folder of shards.
        out: The folder of the shards, or the dataset.
        samples: In each shard.
    """
    from mouselift.data.shards import read_shards, write_shards

    if any(source.glob("*.tar")):
        sys.stdout.write(f"{read_shards(source, out)} samples in {out}\n")
    else:
        sys.stdout.write(f"{write_shards(source, out, samples)} shards in {out}\n")


@app.command
def check(path: Positional[Path], *, out: Out, calibration: Calibration = None, overwrite: bool = False) -> None:
    """Prove the geometry of a recording or a dataset, in figures and pictures.

    Args:
        path: A recording (folder or recording.yaml) or a dataset.
        out: Folder for index.html, figures.json and the pictures.
        calibration: The calibration file, where a recording holds none or several.
        overwrite: Replace an output folder that has something in it.
    """
    from mouselift.check import check_dataset, check_recording, write_report
    from mouselift.data.layout import SPLIT_FILES
    from mouselift.data.recording import open_recording
    from mouselift.export.result import check_output

    check_output(out, overwrite)
    if any((path / name).is_file() for name in SPLIT_FILES.values()):
        report = check_dataset(path)
    else:
        report = check_recording(open_recording(path, calibration=calibration))
    write_report(report, out)
    sys.stdout.write("\n".join([*report.lines, f"report: {out / 'index.html'}"]) + "\n")
    if report.failures:
        raise InputError(f"{path}: {'; '.join(report.failures)}")


@app.command
def convert(
    source: Positional[Path],
    target: Positional[Path],
    *,
    units: Literal["scene", "mm"] | None = None,
    sample: Path | None = None,
    degree: int | None = None,
    minimal: bool = False,
) -> None:
    """Convert a file of Gaussians: .ply, .splat, .compressed.ply, .spz, .sog, .ksplat, .glb (for a mesh, see `mesh`).

    Args:
        source: The file to read.
        target: The file to write; its suffix chooses the format.
        units: scene or mm of the rig's world; mm needs a file that knows where its scene lies, or --sample.
        sample: The dataset sample that the Gaussians were made from.
        degree: Highest degree of spherical harmonics to keep.
        minimal: Leave out the .ply properties that viewers do not need.
    """
    from mouselift.export.files import convert as convert_file
    from mouselift.export.files import read_scene_from_world

    placed = convert_file(
        source,
        target,
        units=units,
        scene_from_world=None if sample is None else read_scene_from_world(sample),
        degree=degree,
        minimal=minimal,
    )
    sys.stdout.write(f"{len(placed.gaussians):,} Gaussians in {placed.units} written to {target}\n")


@app.command
def mesh(source: Positional[Path], target: Positional[Path], *, resolution: int = 128) -> None:
    """Fuse Gaussians into a watertight mesh with vertex colours.

    Args:
        source: A file of Gaussians.
        target: A .glb or .obj file.
        resolution: Voxels along the longest edge.
    """
    from mouselift.export.files import read_placed
    from mouselift.export.mesh import to_mesh
    from mouselift.export.mesh_file import write_mesh

    placed = read_placed(source)
    surface = to_mesh(placed.gaussians, resolution=resolution)
    write_mesh(surface, target, units=placed.units)
    sys.stdout.write(f"{len(surface.vertices):,} vertices and {len(surface.faces):,} faces written to {target}\n")


@app.command
def segment(
    recording: Positional[Path],
    *,
    out: Out,
    every: int = 1,
    tracks: bool = True,
    calibration: Calibration = None,
) -> None:
    """Make masks for a recording that has none.

    Args:
        recording: Its folder, or a recording.yaml.
        out: Folder for the masks and a recording.yaml that `check` and `prepare` read. A run that was cut off goes on.
        every: Segment every n-th instant only; prepare with the same number.
        tracks: Use the 2D points of SLEAP, DeepLabCut, MAMMAL or DANNCE that lie with the recording.
        calibration: The calibration file, where the recording holds none or several.
    """
    from mouselift.data.recording import open_recording
    from mouselift.data.tracks import find_tracks
    from mouselift.segment import segment as segment_recording

    opened = open_recording(recording, calibration=calibration)
    found = find_tracks(opened) if tracks and not opened.has_masks else None
    if found is not None:
        sys.stdout.write(f"tracks       {', '.join(path.name for path in found.sources)}\n")
    masked = segment_recording(opened, out, every=every, tracks=found)
    sys.stdout.write(
        f"masks of {masked.num_instants} instants in {out}: look at overview.png, then prepare {out}/recording.yaml\n"
    )
