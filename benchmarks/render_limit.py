"""How near the raster loops of the CPU kernel come to what its arithmetic allows.

    OMP_WAIT_POLICY=passive python benchmarks/render_limit.py [--isa avx512 avx2] [--sizes 100000x512]

Builds `render_limit.cpp`, which includes the kernel's sources, and measures the time of one (Gaussian, block) in the
kernel's own loops on data that stays in the first cache, where no branch is mispredicted. That time, times the blocks
that the Gaussians of a scene really hit, divided among the threads, is the limit of this loop. Beside it stands the
limit of the multiplication ports: the instructions for them in the loop (counted with objdump), times the cycles each
port needs for a vector. "Boxes": blocks in the boxes of the Gaussians that a tile looked at.
"""

import argparse
import ctypes
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from render import DEFAULT_SIZES, NAMES, ball, machine

from mouselift.render import cpu
from mouselift.render.renderer import _flatten

HERE = Path(__file__).parent
NATIVE = HERE.parent / "src/mouselift/render/native"
FLAGS = {
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma"],
}
# Multiplications, fused or not, comparisons and minima for one block, forward and backward, as objdump shows them.
PORT_INSTRUCTIONS = {"avx512": (16, 31), "avx2": (16, 31)}
# Zen 4 has two such ports of 256 bits; a vector of 512 bits takes one for two cycles.
PORT_CYCLES = {"avx512": 1.0, "avx2": 0.5}


def build(isa: str, folder: Path) -> ctypes.CDLL:
    library = folder / f"limit_{isa}.so"
    flags = ["-std=c++17", "-O3", "-w", "-fvisibility=hidden", "-fopenmp", "-shared", "-fPIC", *FLAGS[isa]]
    source = str(HERE / "render_limit.cpp")
    subprocess.run(["g++", *flags, f"-I{NATIVE}", source, "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.limit_ghz.restype = ctypes.c_double
    return loaded


def bandwidth() -> float:
    """GB/s of reading and writing by all threads."""
    source, target = torch.ones(1 << 26), torch.empty(1 << 26)
    times: list[float] = []
    for _ in range(7):
        before = time.perf_counter()
        target.copy_(source)
        times.append(time.perf_counter() - before)
    return 2e-9 * source.nbytes / min(times)


def scene(library: ctypes.CDLL, count: int, size: int) -> list[float]:
    gaussians, cameras = ball(count, size)
    b = _flatten(gaussians, cameras, (1.0, 1.0, 1.0))
    fields = (b.means, b.quats, b.scales, b.opacities, b.colours, b.features, b.w2c, b.K, b.background)
    tensors = [t.contiguous() for t in fields]
    images = [torch.empty(channels, size, size) for channels in (3, 1, 1, 0)]
    cotangent = torch.randn(3, size, size)
    gradients = [torch.empty_like(t) for t in tensors[:6]]
    out = (ctypes.c_double * 8)()
    structs = (
        cpu._batch(tensors, size, size),
        cpu._CONSTANTS,
        cpu._Images(*(t.data_ptr() for t in images)),
        cpu._Images(cotangent.data_ptr(), None, None, None),
        cpu._Gradients(*(t.data_ptr() for t in gradients)),
    )
    library.limit_scene(*map(ctypes.byref, structs), 15, out)
    return list(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", nargs="+", default=["avx512", "avx2"], choices=list(PORT_CYCLES))
    parser.add_argument("--sizes", nargs="+", default=DEFAULT_SIZES)
    options = parser.parse_args()
    threads = torch.get_num_threads()
    print(f"{machine()}; copying {bandwidth():.1f} GB/s")
    with tempfile.TemporaryDirectory() as folder:
        for isa in options.isa:
            library = build(isa, Path(folder))
            loops = (ctypes.c_double * 2)()
            library.limit_loops(ctypes.byref(cpu._CONSTANTS), loops)
            ghz = library.limit_ghz()
            ports = [n * PORT_CYCLES[isa] / ghz for n in PORT_INSTRUCTIONS[isa]]  # ns
            cycles = " / ".join(f"{ns * ghz:.1f}" for ns in loops)
            print(f"\n{NAMES[isa]}: {ghz:.2f} GHz, {cycles} cycles for a block, forward / backward\n")
            print("| Gaussians | pixels | pairs | looked at | boxes | hit | raster, ms | loop | ports | rest, ms |")
            print("|---" * 10 + "|")
            for count, size in (map(int, item.split("x")) for item in options.sizes):
                *counts, forward, backward, binning, gathering = scene(library, count, size)
                shares = [
                    " / ".join(f"{1e-4 * counts[3] * a / threads / b:.0f} %" for a, b in zip(of, ms, strict=True))
                    for ms in [(forward, backward)]
                    for of in (loops, ports)
                ]
                cells = [f"{n / 1e3:,.0f} k" for n in counts]
                cells += [f"{forward:.2f} / {backward:.2f}", *shares, f"{binning:.2f} / {gathering:.2f}"]
                print(f"| {count:,} | {size}² | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
