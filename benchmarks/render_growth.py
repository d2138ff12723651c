"""How time and memory of the CPU kernel grow with Gaussians and with pixels; draws docs/results/render_growth.svg.

    OMP_WAIT_POLICY=passive python benchmarks/render_growth.py [--out FILE.svg]

Every point is a process of its own: medians of a dozen runs, and by how much its memory at most exceeded what it held
with the scene loaded. Linux only.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path

from render import backend_runs, ball

COUNTS, SIZE = (12_500, 25_000, 50_000, 100_000, 200_000, 400_000, 800_000), 256
SIZES, COUNT = (64, 128, 256, 512, 1024), 100_000
WIDTH, HEIGHT, MARGIN = 440, 300, 56
COLOURS = {"forward": "#2b6cb0", "forward + backward": "#c05621"}
DEFAULT = Path(__file__).parent.parent / "docs/results/render_growth.svg"
Points = list[tuple[float, float]]


def memory_kib(entry: str) -> int:
    """VmRSS, what is resident now, or VmHWM, the most that was since it was reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(entry))


def measure_point(count: int, size: int, both: bool) -> None:
    run = backend_runs("cpu", *ball(count, size))[int(both)]
    backend_runs("cpu", *ball(16, 16))[int(both)]()  # what torch loads at first use is not counted
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before, times = memory_kib("VmRSS"), []
    for _ in range(13):
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    print(json.dumps([statistics.median(times[1:]), (memory_kib("VmHWM") - before) / 1024]))


def measured(count: int, size: int, both: bool) -> tuple[float, float]:
    """Milliseconds and MiB."""
    command = [sys.executable, __file__, "--point", f"{count}x{size}"] + ["--both"] * both
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    ms, mib = json.loads(answer)
    print(f"| {count:,} | {size}² | {'forward + backward' if both else 'forward'} | {ms:.1f} | {mib:.0f} |", flush=True)
    return ms, mib


def panel(x: int, y: int, title: str, unit: str, lines: dict[str, Points], square: bool) -> list[str]:
    """Curves over two logarithmic axes, and a grey one that grows linearly."""
    every = [point for points in lines.values() for point in points if point[1] > 0]
    low, high = ([f(p[k] for p in every) for k in (0, 1)] for f in (min, max))
    low[1], high[1] = 10 ** math.floor(math.log10(low[1])), 10 ** math.ceil(math.log10(high[1]))

    def at(px: float, py: float) -> tuple[float, float]:
        across, up = (math.log(v / a) / math.log(b / a) for v, a, b in zip((px, py), low, high, strict=True))
        return x + MARGIN + across * (WIDTH - MARGIN - 20), y + HEIGHT - 44 - up * (HEIGHT - 84)

    def path(points: Points, style: str) -> str:
        places = " ".join(f"{a:.1f},{b:.1f}" for a, b in (at(*p) for p in points))
        return f'<polyline fill="none" {style} points="{places}"/>'

    parts = [f'<text x="{x + MARGIN}" y="{y + 22}" font-weight="bold">{title}</text>']
    decade = low[1]
    while decade <= high[1] * 1.01:
        (left, height), (right, _) = at(low[0], decade), at(high[0], decade)
        parts.append(f'<line x1="{left:.1f}" x2="{right:.1f}" y1="{height:.1f}" y2="{height:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6:.1f}" y="{height + 4:.1f}" text-anchor="end">{decade:g} {unit}</text>')
        decade *= 10
    longest = max(lines.values(), key=len)
    for px, _ in longest:
        name = f"{math.isqrt(int(px))}²" if square else f"{px / 1000:g}k"
        parts.append(f'<text x="{at(px, low[1])[0]:.1f}" y="{y + HEIGHT - 26}" text-anchor="middle">{name}</text>')
    top = max(points[-1] for points in lines.values())
    start = max(low[0], top[0] * low[1] / top[1])
    parts.append(path([(start, top[1] * start / top[0]), top], 'stroke="#aaa" stroke-dasharray="4 4"'))
    for k, (name, points) in enumerate(lines.items()):
        points = [p for p in points if p[1] > 0]
        parts.append(path(points, f'stroke="{COLOURS[name]}" stroke-width="2"'))
        parts += [
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{COLOURS[name]}"/>' for a, b in (at(*p) for p in points)
        ]
        parts.append(f'<text x="{x + MARGIN + 8}" y="{y + 56 + 17 * k}" fill="{COLOURS[name]}">{name}</text>')
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DEFAULT)
    parser.add_argument("--point", help="measure one and print it")
    parser.add_argument("--both", action="store_true", help="the point with its backward pass")
    options = parser.parse_args()
    if options.point:
        count, size = map(int, options.point.split("x"))
        return measure_point(count, size, options.both)
    print("| Gaussians | pixels | | ms | MiB |\n|---|---|---|---|---|")
    curves: list[dict[str, Points]] = [{name: [] for name in COLOURS} for _ in range(4)]
    for both, name in enumerate(COLOURS):
        for count in COUNTS:
            for curve, value in zip(curves[:2], measured(count, SIZE, bool(both)), strict=True):
                curve[name].append((count, value))
        for size in SIZES:
            for curve, value in zip(curves[2:], measured(COUNT, size, bool(both)), strict=True):
                curve[name].append((size * size, value))
    titles = (
        f"Time over Gaussians, {SIZE}²",
        "Memory over Gaussians",
        f"Time over pixels, {COUNT // 1000}k",
        "Memory over pixels",
    )
    box = f"0 0 {2 * WIDTH} {2 * HEIGHT + 20}"
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-family="sans-serif" font-size="12">']
    parts.append('<rect width="100%" height="100%" fill="#fff"/>')
    for k, (title, curve) in enumerate(zip(titles, curves, strict=True)):
        parts += panel(k % 2 * WIDTH, k // 2 * HEIGHT, title, ("ms", "MiB")[k % 2], curve, k > 1)
    parts.append(f'<text x="{MARGIN}" y="{2 * HEIGHT + 8}" fill="#888">dashed: proportional growth</text></svg>')
    options.out.write_text("\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
