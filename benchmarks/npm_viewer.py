"""Opens our files in two viewers from npm, and theirs in our renderer: the same camera, pictures compared.

    apt-get install chromium nodejs npm; pip install -e '.[dev,files]'
    python benchmarks/npm_viewer.py --out docs/results/npm_viewer.png

Installs three, @sparkjsdev/spark, playcanvas and @playcanvas/splat-transform into a folder (`--npm`, kept; a temporary
one else); nothing of them becomes part of MouseLift. The scene is a synthetic mouse with fur and spherical harmonics
of degree 3. First the formats that we write, then files that splat-transform makes of it, turned, moved and scaled by
it: the viewers' pictures of each file against our renderer's picture of what we read from it. Chromium draws with the
processor.

Columns: PSNR of all pixels, PSNR where either picture shows something, IoU of the silhouettes, largest difference of
the two mean colours, of 255. Both viewers cut Gaussians off at sqrt(8) standard deviations, and the browser blends in
8 bits.
"""

import argparse
import base64
import functools
import http.server
import io
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mouselift.export.extent import extent_of
from mouselift.export.files import read_gaussians, write_gaussians
from mouselift.geometry import Cameras, Gaussians, look_at
from mouselift.render import render
from mouselift.synth.fur import FurConfig
from mouselift.synth.scene import SynthConfig, synthesize_animal

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser import Page, open_page  # pyright: ignore[reportMissingImports]

PACKAGES = ("three@0.187.0", "@sparkjsdev/spark@2.2.0", "playcanvas@2.23.3", "@playcanvas/splat-transform@3.7.0")
SIZE_PX, FOV_DEG = 400, 35.0
AZIMUTH_DEG, ELEVATION_DEG = 65.0, 25.0
SHOWN = 16  # of 255: what differs from white by more belongs to the silhouette
PATIENCE_S = 240.0
PAUSE_MS = 700  # between frames: without a graphics card they would leave no time for anything else
SPARK_FORMATS = ("ply", "compressed.ply", "spz", "splat", "ksplat", "sog")
PLAYCANVAS_FORMATS = ("ply", "compressed.ply", "sog", "glb")
CHANGES = ("-s", "1.7", "-r", "20,130,-55", "-t", "0.4,-0.3,0.2")

PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<style>body { margin: 0; background: white }</style>
<canvas id="canvas" width="SIZE" height="SIZE" style="width: SIZEpx; height: SIZEpx"></canvas>
<script type="importmap">{"imports": {
    "three": "/node_modules/three/build/three.module.js",
    "three/addons/": "/node_modules/three/examples/jsm/"}}</script>
<script type="module">
const task = TASK;
const canvas = document.getElementById('canvas');
const log = (error) => { window.failed = String(error && error.stack || error); };
window.addEventListener('unhandledrejection', (event) => log(event.reason));
SCRIPT
</script>"""

SPARK = """
import * as THREE from 'three';
import { SparkRenderer, SplatMesh } from '/node_modules/@sparkjsdev/spark/dist/spark.module.js';
const renderer = new THREE.WebGLRenderer({ canvas, antialias: false, preserveDrawingBuffer: true });
renderer.setPixelRatio(1);
renderer.setSize(SIZE, SIZE);
const scene = new THREE.Scene();
scene.background = new THREE.Color(1, 1, 1);
const spark = new SparkRenderer({ renderer, preBlurAmount: 0.3, blurAmount: 0, sortRadial: false,
                                  accumExtSplats: true });
scene.add(spark);
const camera = new THREE.PerspectiveCamera(task.fov, 1, 0.05, 100);
camera.matrixAutoUpdate = false;
camera.matrix.fromArray(task.world_from_camera);
camera.matrixWorldNeedsUpdate = true;
const mesh = new SplatMesh({ url: task.file, fileName: task.file.split('/').pop(), extSplats: true });
scene.add(mesh);
await mesh.initialized;
window.count = mesh.numSplats;
const draw = () => {
    renderer.render(scene, camera);
    renderer.getContext().finish();
    window.drawn = (window.drawn || 0) + 1;
    setTimeout(draw, PAUSE);
};
draw();
"""

PLAYCANVAS = """
import * as pc from '/node_modules/playcanvas/build/playcanvas.mjs';
const device = await pc.createGraphicsDevice(canvas, { deviceTypes: ['webgl2'], antialias: false,
                                                         preserveDrawingBuffer: true });
const options = new pc.AppOptions();
options.graphicsDevice = device;
options.componentSystems = [pc.RenderComponentSystem, pc.CameraComponentSystem, pc.LightComponentSystem,
                            pc.GSplatComponentSystem];
options.resourceHandlers = [pc.TextureHandler, pc.ContainerHandler, pc.GSplatHandler];
const app = new pc.AppBase(canvas);
app.init(options);
app.setCanvasFillMode(pc.FILLMODE_NONE);
app.setCanvasResolution(pc.RESOLUTION_FIXED, SIZE, SIZE);
app.start();
Object.assign(app.scene.gsplat, { minPixelSize: 0, minContribution: 0, alphaClipForward: 1 / 255 });
const camera = new pc.Entity('camera');
camera.addComponent('camera', { clearColor: new pc.Color(1, 1, 1), fov: task.fov, nearClip: 0.05, farClip: 100,
                                toneMapping: pc.TONEMAP_NONE });
const matrix = new pc.Mat4();
matrix.data.set(task.world_from_camera);
camera.setPosition(matrix.getTranslation());
camera.setRotation(new pc.Quat().setFromMat4(matrix));
app.root.addChild(camera);
const container = task.file.endsWith('.glb');
const asset = new pc.Asset('scene', container ? 'container' : 'gsplat', { url: task.file });
app.assets.add(asset);
asset.on('error', log);
asset.ready(() => {
    let entity;
    if (container) {
        entity = asset.resource.instantiateRenderEntity();
    } else {
        entity = new pc.Entity('splat');
        entity.addComponent('gsplat', { asset });
    }
    const root = new pc.Entity('root');  // glTF is +Y up, our camera is in a world that is +Z up
    if (container) root.setLocalEulerAngles(90, 0, 0);
    root.addChild(entity);
    app.root.addChild(root);
    window.count = 1;
});
app.assets.load(asset);
app.autoRender = false;
setInterval(() => { app.renderNextFrame = true; window.drawn = (window.drawn || 0) + 1; }, PAUSE);
"""
SCRIPTS = {"Spark": SPARK, "PlayCanvas": PLAYCANVAS}


def shiny_mouse(hairs: int, seed: int = 3) -> Gaussians:
    """A synthetic mouse; its coefficients of degrees 1 to 3 make it bluish from one side and give it highlights."""
    config = SynthConfig(coats=("agouti",), grey_share=0, fur=FurConfig(num_hairs=hairs, num_skin=hairs // 2))
    mouse = synthesize_animal(config, np.random.default_rng(seed)).gaussians.to(torch.float32)
    generator = torch.Generator().manual_seed(seed)
    rest = 0.08 * torch.randn(len(mouse), 15, 3, generator=generator)
    rest[:, 2] += torch.tensor([0.25, 0.0, -0.3])
    return replace(mouse, sh=torch.cat([mouse.sh[:, :1], rest], dim=1))


def camera_for(gaussians: Gaussians, up: torch.Tensor) -> Cameras:
    """One that frames the scene, obliquely to all axes."""
    extent = extent_of([gaussians])
    distance = 1.15 * extent.radius / math.sin(math.radians(FOV_DEG) / 2)
    azimuth, elevation = math.radians(AZIMUTH_DEG), math.radians(ELEVATION_DEG)
    flat = math.cos(elevation)
    offset = torch.tensor([flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)])
    focal = SIZE_PX / 2 / math.tan(math.radians(FOV_DEG) / 2)
    K = torch.tensor([[[focal, 0, SIZE_PX / 2], [0, focal, SIZE_PX / 2], [0, 0, 1]]])
    w2c = look_at(extent.centre + distance * offset, extent.centre, up)
    return Cameras(K=K, w2c=w2c[None], width=SIZE_PX, height=SIZE_PX)


def ours(gaussians: Gaussians, camera: Cameras) -> np.ndarray:
    with torch.no_grad():
        image = render(gaussians, camera, (1.0, 1.0, 1.0)).image[0]
    return image.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()


def theirs(viewer: str, file: Path, camera: Cameras, root: Path, address: str) -> np.ndarray:
    """A viewer's picture of a file below `root`."""
    axes = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))  # theirs looks along -z, y up
    task = {
        "file": "/" + file.relative_to(root).as_posix(),
        "fov": FOV_DEG,
        "world_from_camera": (camera.c2w[0] @ axes).T.flatten().tolist(),
    }
    text = PAGE.replace("SCRIPT", SCRIPTS[viewer]).replace("TASK", json.dumps(task)).replace("SIZE", str(SIZE_PX))
    text = text.replace("PAUSE", str(PAUSE_MS))
    (root / "page.html").write_text(text)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        open_page(f"{address}/page.html", Path(profile)) as page,
    ):
        wait(page, "window.count && window.drawn > 2", file)
        return settled(page)


def wait(page: Page, condition: str, file: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not page.evaluate(f"Boolean({condition})"):
        failed = page.evaluate("window.failed || ''") or "; ".join(page.errors)
        if failed or time.monotonic() > deadline:
            raise RuntimeError(f"{file.name}: {failed or 'nothing was drawn'}")
        time.sleep(0.5)


def shown(page: Page) -> np.ndarray:
    """The canvas itself: a screenshot would wait for the whole browser to draw."""
    data = page.evaluate("document.getElementById('canvas').toDataURL()").partition(",")[2]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def settled(page: Page) -> np.ndarray:
    """The picture once four seconds changed nothing and there is something to see."""
    last, since, deadline = shown(page), time.monotonic(), time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        time.sleep(1)
        picture = shown(page)
        if np.abs(picture.astype(int) - last).max() > 2:
            last, since = picture, time.monotonic()
        elif time.monotonic() - since > 4 and silhouette(picture).any():
            return picture
    return last


def silhouette(picture: np.ndarray) -> np.ndarray:
    return (255 - picture.astype(int)).max(axis=-1) > SHOWN


def agreement(a: np.ndarray, b: np.ndarray) -> str:
    difference = a.astype(float) - b
    either, both = silhouette(a) | silhouette(b), silhouette(a) & silhouette(b)

    def psnr_db(pixels: np.ndarray) -> float:
        return -10 * math.log10(max(float((pixels**2).mean()), 1e-9) / 255**2)

    colour = np.abs(difference[both].mean(axis=0)).max() if both.any() else math.nan
    iou = both.sum() / max(either.sum(), 1)
    return f"{psnr_db(difference):.1f} | {psnr_db(difference[either]):.1f} | {iou:.3f} | {colour:.1f}"


@contextmanager
def served(root: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(root))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}  # noqa: RUF012

    def log_message(self, format: str, *args: object) -> None:
        """Leave it."""


def labelled(picture: np.ndarray, text: str) -> np.ndarray:
    from mouselift.export.overlay import draw_label

    titled = picture.copy()
    draw_label(titled, text)
    return titled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--npm", type=Path, help="folder to install the packages into, or where they are")
    parser.add_argument("--out", type=Path, default=Path("npm_viewer.png"))
    parser.add_argument("--hairs", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        root = arguments.npm or Path(temporary)
        root.mkdir(parents=True, exist_ok=True)
        if not (root / "node_modules").is_dir():
            command = ["npm", "install", "--prefix", str(root), "--no-audit", "--no-fund", "--silent", *PACKAGES]
            subprocess.run(command, check=True)
        with served(root) as address:
            compare(root, address, arguments.out, arguments.hairs)


def compare(root: Path, address: str, out: Path, hairs: int) -> None:
    files = root / "files"
    files.mkdir(exist_ok=True)
    mouse = shiny_mouse(hairs)
    camera = camera_for(mouse, torch.tensor([0.0, 0.0, 1.0]))
    truth = ours(mouse, camera)
    top, bottom = [labelled(truth.copy(), "written here: our renderer")], []
    print(f"{len(mouse):,} Gaussians of degree 3, {SIZE_PX} px\n")
    print("| written here | shown by | PSNR, dB | of the subject | IoU | colour |\n|---|---|---|---|---|---|")
    for viewer, formats in {"Spark": SPARK_FORMATS, "PlayCanvas": PLAYCANVAS_FORMATS}.items():
        for kind in formats:
            file = files / f"ours.{kind}"
            write_gaussians(mouse, file)
            picture = theirs(viewer, file, camera, root, address)
            print(f"| .{kind} | {viewer} | {agreement(picture, ours(read_gaussians(file), camera))} |", flush=True)
            if kind in ("ply", "glb"):
                top.append(labelled(picture, f".{kind} in {viewer}"))
    print(
        "\n| made by splat-transform | shown by | PSNR, dB | of the subject | IoU | colour |\n|---|---|---|---|---|---|"
    )
    tool = ["node", str(root / "node_modules/@playcanvas/splat-transform/bin/cli.mjs"), "-q", "-w"]
    for kind in ("ply", "glb"):
        file = files / f"theirs.{kind}"
        subprocess.run([*tool, str(files / "ours.ply"), *CHANGES, str(file)], check=True)
        found = read_gaussians(file)
        camera = camera_for(found, torch.tensor([0.2, 0.1, 1.0]))
        drawn = ours(found, camera)
        bottom.append(labelled(drawn.copy(), f"splat-transform's .{kind}: our renderer"))
        for viewer in ("Spark", "PlayCanvas") if kind == "ply" else ("PlayCanvas",):
            picture = theirs(viewer, file, camera, root, address)
            print(f"| .{kind} | {viewer} | {agreement(drawn, picture)} |", flush=True)
            if viewer == "PlayCanvas":
                bottom.append(labelled(picture, f"splat-transform's .{kind} in {viewer}"))
    sheet = np.concatenate([np.concatenate(row, axis=1) for row in (top[:4], bottom[:4])])
    Image.fromarray(sheet).resize((sheet.shape[1] // 2, sheet.shape[0] // 2), Image.Resampling.LANCZOS).save(out)


if __name__ == "__main__":
    main()
