"""How closely renderers agree: images and gradients against the reference in float64, on one scene file.

    python benchmarks/agreement.py [SCENE.ply] [--pixels 128] [--prototypes DIR] [--gswarp DIR] [--gsplat DIR]

Without a file the scene is 10,000 Gaussians in the unit ball (`render.ball`), written to a .ply and read again. The two
rows "as 3DGS" and "as gsplat" are the reference with those rasterisers' constants and extents, so that what they change
can be told from what a kernel rounds. DIR of --gsplat holds gsplat 1.5.3 (pip install --no-deps --target DIR
gsplat==1.5.3), whose functions in PyTorch check the projection and the spherical harmonics.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import render_peers as peers
import torch
from render import NAMES, ball
from torch import Tensor

from mouselift.export.ply import read_ply, write_ply
from mouselift.geometry import Cameras, Gaussians
from mouselift.geometry.rays import pixel_centres
from mouselift.geometry.sh import dc_from_rgb, eval_sh
from mouselift.render import constants, cpu, reference, render
from mouselift.render.renderer import Backend, _flatten

FIELDS = ("means", "quats", "scales", "opacities", "rgb")
TILE_PX = 16  # of both rasterisers on the GPU
WHITE = (1.0, 1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one renderer made of the scene.

    Attributes:
        image: (3, H, W), over white.
        gradients: Of one random sum over the image, by field.
    """

    image: Tensor
    gradients: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Emulated:
    """A rasteriser on the GPU, as far as it differs from the reference."""

    max_alpha: float
    ends_at_equal: bool  # whether a remainder of exactly the smallest transmittance ends the pixel
    reach: Callable[[reference.Ellipses, Tensor], Tensor]  # (M, 2), px; of ellipses and covariances (a, b, c)
    end_tile: Callable[[Tensor], Tensor]  # one past the last, of the pixel to which it reaches


def reach_3dgs(ellipses: reference.Ellipses, covariances: Tensor) -> Tensor:
    """Three standard deviations of the longer axis, on both (forward.cu, preprocessCUDA)."""
    a, b, c = covariances.unbind(-1)
    middle = (a + c) / 2
    longer = middle + (middle.square() - (a * c - b * b)).clamp_min(0.1).sqrt()
    return (3 * longer.sqrt()).ceil()[:, None].expand(-1, 2)


def reach_gsplat(ellipses: reference.Ellipses, covariances: Tensor) -> Tensor:
    """Where the opacity falls to the threshold, at most 3.33 deviations (ProjectionEWA3DGSFused.cu)."""
    deviations = (2 * (ellipses.opacities / constants.MIN_ALPHA).log()).sqrt().clamp_max(3.33)
    return (deviations[:, None] * covariances[:, ::2].sqrt()).ceil()


EMULATED = {
    "as 3DGS": Emulated(
        max_alpha=0.99,
        ends_at_equal=False,
        reach=reach_3dgs,
        end_tile=lambda pixel: ((pixel + TILE_PX - 1) / TILE_PX).floor(),  # of floats: up to a pixel short (getRect)
    ),
    "as gsplat 1.5.3": Emulated(
        max_alpha=0.999, ends_at_equal=True, reach=reach_gsplat, end_tile=lambda pixel: (pixel / TILE_PX).ceil()
    ),
}


def emulate(kind: Emulated, gaussians: Gaussians, cameras: Cameras) -> Tensor:
    """The image (3, H, W) over white of the first camera."""
    batch = _flatten(gaussians, cameras, WHITE)
    e = reference.project(batch, 0, 0)
    a, b, c = e.conics.unbind(-1)
    covariances = torch.stack([c, -b, a], -1) / (a * c - b * b)[:, None]
    reach = kind.reach(e, covariances).detach()
    first = ((e.centres.detach() - reach) / TILE_PX).floor()
    end = kind.end_tile(e.centres.detach() + reach)
    canvas = pixel_centres(batch.height, batch.width, like=batch.means)
    rows: list[Tensor] = []
    for y in range(0, batch.height, TILE_PX):
        tiles: list[Tensor] = []
        for x in range(0, batch.width, TILE_PX):
            tile = torch.tensor([x, y]) // TILE_PX
            chosen = ((first <= tile) & (tile < end)).all(-1).nonzero().squeeze(-1)
            pixels = canvas[y : y + TILE_PX, x : x + TILE_PX]
            tiles.append(blend(kind, pixels.reshape(-1, 2), e, chosen).mT.reshape(3, *pixels.shape[:2]))
        rows.append(torch.cat(tiles, -1))
    return torch.cat(rows, -2)


def blend(kind: Emulated, pixels: Tensor, e: reference.Ellipses, chosen: Tensor) -> Tensor:
    dx, dy = (e.centres[chosen] - pixels[:, None]).unbind(-1)
    a, b, c = e.conics[chosen].unbind(-1)
    alpha = (e.opacities[chosen] * torch.exp(-(a * dx * dx + c * dy * dy) / 2 - b * dx * dy)).clamp_max(kind.max_alpha)
    alpha = alpha.where(alpha >= constants.MIN_ALPHA, 0)
    remaining = (1 - alpha).cumprod(-1)
    before = torch.cat([torch.ones_like(remaining[:, :1]), remaining[:, :-1]], -1)
    limit = constants.MIN_TRANSMITTANCE
    kept = remaining > limit if kind.ends_at_equal else remaining >= limit
    weights = (alpha * before).where(kept, 0)
    return weights @ e.values[chosen, :3] + (1 - weights.sum(-1, keepdim=True))


def differentiated(draw: Callable[[Gaussians, Tensor], Tensor], gaussians: Gaussians, cotangent: Tensor) -> Result:
    """An image and its gradients; `draw` takes Gaussians and RGB."""
    leaves = {name: getattr(gaussians, name).detach().clone().requires_grad_() for name in FIELDS}
    scene = replace(gaussians, **{name: leaves[name] for name in FIELDS[:-1]})
    image = draw(scene, leaves["rgb"])
    gradients = torch.autograd.grad(image, list(leaves.values()), cotangent.to(image))
    return Result(image=image.detach(), gradients=dict(zip(leaves, gradients, strict=True)))


def coloured(gaussians: Gaussians, rgb: Tensor) -> Gaussians:
    return replace(gaussians, sh=dc_from_rgb(rgb)[:, None])


def with_backend(backend: Backend, gaussians: Gaussians, cameras: Cameras, cotangent: Tensor) -> Result:
    def draw(scene: Gaussians, rgb: Tensor) -> Tensor:
        return render(coloured(scene, rgb), cameras, WHITE, backend).image[0]

    return differentiated(draw, gaussians, cotangent)


def of_prototype(folder: Path, library: str, gaussians: Gaussians, cameras: Cameras, cotangent: Tensor) -> Result:
    module = peers.prototype(folder, library)

    def draw(scene: Gaussians, rgb: Tensor) -> Tensor:
        inputs = [scene.means, scene.quats, scene.scales, scene.opacities, rgb]
        return peers.prototype_render(module, module.Ctx(), cameras, inputs, torch.ones(3)).movedim(-1, 0)

    return differentiated(draw, gaussians, cotangent)


def of_gswarp(folder: Path, gaussians: Gaussians, cameras: Cameras) -> tuple[Result, Tensor]:
    """A result and the cotangent that it used."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "result.pt"
        with peers.Gswarp(folder, Path(scratch), gaussians, cameras) as worker:
            worker.ask(f"save {path}")
            found = torch.load(path)
            return Result(image=found.pop("image"), gradients=found), worker.cotangent


def row(name: str, found: Result, exact: Result, quats: Tensor) -> str:
    difference = found.image.double() - exact.image
    psnr = -10 * difference.square().mean().log10()
    errors: list[str] = []
    for field in FIELDS:
        own, wanted = found.gradients[field].double(), exact.gradients[field]
        if field == "quats":  # along a unit quaternion nothing changes, but not every renderer normalises
            own = own - (own * quats).sum(-1, keepdim=True) * quats
        errors.append(f"{float((own - wanted).norm() / wanted.norm()):.0e}")
    return f"| {name} | {psnr:.1f} | {difference.abs().max():.1e} | {' | '.join(errors)} |"


def projection_check(folder: Path, gaussians: Gaussians, cameras: Cameras) -> list[str]:
    """Largest differences to gsplat's own functions in PyTorch, float64."""
    sys.path.insert(0, str(folder))
    theirs = import_module("gsplat.cuda._torch_impl")
    batch = _flatten(gaussians, cameras, WHITE)
    covariances, _ = theirs._quat_scale_to_covar_preci(gaussians.quats, gaussians.scales, True, False)
    sizes = (cameras.width, cameras.height)
    projected = theirs._fully_fused_projection(gaussians.means, covariances, batch.w2c[0], batch.K[0], *sizes)
    _, centres, depths, conics, _ = (None if t is None else t[0] for t in projected)
    keep = reference.visible(batch, 0, 0).nonzero().squeeze(-1)
    order = keep[depths[keep].argsort(stable=True)]
    own = reference.project(batch, 0, 0)
    largest = own.conics.abs().amax(-1, True)
    directions = torch.nn.functional.normalize(gaussians.means - cameras.centres, dim=-1)
    sh = torch.randn(len(gaussians), 16, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    colours = (theirs._spherical_harmonics(3, directions, sh) + 0.5).clamp_min(0)
    lines: list[str] = []
    for name, a, b in (
        ("centres, px", own.centres, centres[order]),
        ("depths, scene units", own.depths, depths[order]),
        ("conics, relative to the largest entry", own.conics / largest, conics[order] / largest),
        ("colours of degree 3", eval_sh(sh, directions), colours),
    ):
        lines.append(f"| {name} | {float((a - b).abs().max()):.1e} |")
    return lines


def load(path: Path | None, pixels: int) -> tuple[Gaussians, Cameras]:
    gaussians, cameras = ball(10_000, pixels)
    with tempfile.TemporaryDirectory() as scratch:
        if path is None:
            path = Path(scratch) / "ball.ply"
            write_ply(gaussians, path)
        gaussians = read_ply(path)
    return replace(gaussians, quats=torch.nn.functional.normalize(gaussians.quats, dim=-1)), cameras


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", nargs="?", type=Path, help="a 3DGS .ply")
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--prototypes", type=Path)
    parser.add_argument("--gswarp", type=Path)
    parser.add_argument("--gsplat", type=Path)
    options = parser.parse_args()
    gaussians, cameras = load(options.scene, options.pixels)
    doubled = gaussians.to(torch.float64), cameras.to(torch.float64)
    size = (cameras.height, cameras.width)
    cotangent = torch.randn(3, *size, generator=torch.Generator().manual_seed(1))
    exact = with_backend("reference", *doubled, cotangent)
    quats = doubled[0].quats
    print(f"| renderer | PSNR, dB | max error | {' | '.join(f'd {field}' for field in FIELDS)} |")
    print("|---" * (3 + len(FIELDS)) + "|")
    print(row("reference, float32", with_backend("reference", gaussians, cameras, cotangent), exact, quats))
    for isa in reversed(cpu.supported_isas()):
        os.environ[cpu.ISA_VARIABLE] = isa
        print(row(f"cpu, {NAMES[isa]}", with_backend("cpu", gaussians, cameras, cotangent), exact, quats))
    for name, library in peers.PROTOTYPES.items() if options.prototypes else ():
        found = of_prototype(options.prototypes, library, gaussians, cameras, cotangent)
        print(row(name, found, exact, quats))
    if options.gswarp:
        found, own_cotangent = of_gswarp(options.gswarp, gaussians, cameras)
        print(row("gswarp on Warp", found, with_backend("reference", *doubled, own_cotangent), quats))
    for name, kind in EMULATED.items():

        def draw(scene: Gaussians, rgb: Tensor, kind: Emulated = kind) -> Tensor:
            return emulate(kind, coloured(scene, rgb), doubled[1])

        print(row(name, differentiated(draw, doubled[0], cotangent), exact, quats))
    if options.gsplat:
        print("\n| gsplat's functions in PyTorch | max difference |\n|---|---|")
        print("\n".join(projection_check(options.gsplat, *doubled)))


if __name__ == "__main__":
    main()
