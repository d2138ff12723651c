"""Times reading and writing files of Gaussians, beside plyfile; and measures what each format rounds.

    python benchmarks/files.py [--count 1500000] [--packed-count 200000]

Use an idle machine and OMP_WAIT_POLICY=passive. The packed formats need the extra `files`.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from plyfile import PlyData, PlyElement

from mouselift.export.files import read_gaussians, write_gaussians
from mouselift.geometry import Gaussians
from mouselift.geometry.sh import dc_from_rgb
from mouselift.geometry.transforms import quat_to_rotmat

REPEATS = 5


def mouse_sized(count: int, degree: int) -> Gaussians:
    """Gaussians in a ball of half a scene unit, sorted by x: compressed PLY packs neighbours in the file together."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    means = 0.5 * directions * torch.rand(count, 1, generator=generator) ** (1 / 3)
    rest = 0.1 * torch.randn(count, (degree + 1) ** 2 - 1, 3, generator=generator)
    return Gaussians(
        means=means[means[:, 0].argsort()],
        quats=torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=-1),
        scales=torch.empty(count, 3).log_normal_(-5.0, 0.5, generator=generator),
        opacities=torch.rand(count, generator=generator),
        sh=torch.cat([dc_from_rgb(torch.rand(count, 1, 3, generator=generator)), rest.clamp(-0.5, 0.5)], dim=1),
    )


def write_with_plyfile(gaussians: Gaussians, path: Path) -> None:
    """The usual script: a structured array, one column after the other."""
    columns = [
        gaussians.means,
        torch.zeros_like(gaussians.means),
        gaussians.sh[:, 0],
        gaussians.opacities.logit()[:, None],
    ]
    table = torch.cat([*columns, gaussians.scales.log(), gaussians.quats], dim=1).numpy()
    names = ["x", "y", "z", "nx", "ny", "nz", *(f"f_dc_{i}" for i in range(3)), "opacity"]
    names += [*(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
    rows = np.empty(len(table), dtype=[(name, "f4") for name in names])
    rows[:] = list(map(tuple, table))
    PlyData([PlyElement.describe(rows, "vertex")]).write(path)


def read_with_plyfile(path: Path) -> Gaussians:
    """The usual script: columns stacked."""
    vertex = PlyData.read(path)["vertex"]

    def columns(*names: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([np.asarray(vertex[name]) for name in names], axis=1))

    return Gaussians(
        means=columns("x", "y", "z"),
        quats=torch.nn.functional.normalize(columns("rot_0", "rot_1", "rot_2", "rot_3"), dim=-1),
        scales=columns("scale_0", "scale_1", "scale_2").exp(),
        opacities=columns("opacity")[:, 0].sigmoid(),
        sh=columns("f_dc_0", "f_dc_1", "f_dc_2")[:, None],
    )


def median_s(run: Callable[[], object], repeats: int = REPEATS) -> float:
    times: list[float] = []
    for _ in range(repeats):
        before = time.perf_counter()
        run()
        times.append(time.perf_counter() - before)
    return statistics.median(times)


def against_plyfile(count: int, folder: Path) -> None:
    gaussians, path, glb = mouse_sized(count, 0), folder / "a.ply", folder / "a.glb"
    ours = median_s(lambda: write_gaussians(gaussians, path)), median_s(lambda: read_gaussians(path))
    theirs = median_s(lambda: write_with_plyfile(gaussians, path), 1), median_s(lambda: read_with_plyfile(path))
    print(f"{count:,} Gaussians of degree 0, {path.stat().st_size / 1e6:.0f} MB, median of {REPEATS}")
    for what, mine, other in zip(("write", "read"), ours, theirs, strict=True):
        print(f"  {what:5}  {mine:6.2f} s   plyfile {other:6.2f} s   {other / mine:5.1f} x")
    times = median_s(lambda: write_gaussians(gaussians, glb)), median_s(lambda: read_gaussians(glb))
    print(f"  the same as .glb: write {times[0]:.2f} s, read {times[1]:.2f} s")


def errors(found: Gaussians, written: Gaussians) -> list[float]:
    """Largest errors: position, colour, opacity, scales (relative), turn (degrees); RMS of higher coefficients."""
    turned = quat_to_rotmat(found.quats.double()).mT @ quat_to_rotmat(written.quats.double())
    cosines = turned.diagonal(dim1=-2, dim2=-1)
    about_own_axes = (cosines.abs().sum(-1).clamp(max=3) - 1) / 2  # half turns about them change nothing
    shared = min(found.sh.shape[1], written.sh.shape[1])
    rest = (found.sh - written.sh[:, :shared])[:, 1:]
    return [
        float((found.means - written.means).abs().max()),
        float((found.rgb - written.rgb).abs().max()),
        float((found.opacities - written.opacities).abs().max()),
        float((found.scales / written.scales - 1).abs().max()),
        float(torch.rad2deg(about_own_axes.clamp(-1, 1).acos()).max()),
        float(rest.square().mean().sqrt()) if rest.numel() else float("nan"),
    ]


def in_order_of(found: Gaussians, like: Gaussians) -> Gaussians:
    """Some formats sort: matched by the nearest centre."""
    from scipy.spatial import KDTree

    nearest = torch.from_numpy(KDTree(found.means.numpy()).query(like.means.numpy())[1])
    return Gaussians(**{name: tensor[nearest] for name, tensor in vars(found).items()})


def formats(count: int, degree: int, folder: Path) -> None:
    gaussians = mouse_sized(count, degree)
    print(f"\n{count:,} Gaussians of degree {degree}")
    print("format         bytes each  write s  read s   position   colour  opacity    scale  turn deg  higher SH rms")
    for kind in ("ply", "glb", "splat", "compressed.ply", "spz", "sog", "ksplat"):
        path = folder / f"a.{kind}"
        writing = median_s(lambda path=path: write_gaussians(gaussians, path), 1)
        reading = median_s(lambda path=path: read_gaussians(path), 1)
        size = path.stat().st_size / count
        position, colour, opacity, scale, turn, rest = errors(in_order_of(read_gaussians(path), gaussians), gaussians)
        print(
            f"{kind:15}{size:10.1f}{writing:9.2f}{reading:8.2f}{position:11.1e}{colour:9.4f}{opacity:9.4f}"
            f"{scale:9.4f}{turn:10.2f}{rest:15.4f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_500_000, help="Gaussians in the PLY file")
    parser.add_argument("--packed-count", type=int, default=200_000, help="Gaussians in the files of other formats")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        against_plyfile(arguments.count, Path(folder))
        if find_spec("gaussforge") is None:
            print("other formats left out: pip install 'mouselift[files]'")
            return
        for degree in (0, 3):
            formats(arguments.packed_count, degree, Path(folder))


if __name__ == "__main__":
    main()
