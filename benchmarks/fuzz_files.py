"""Feeds damaged files of every format to the readers, and measures what they take.

    pip install -e '.[dev,files]'
    python benchmarks/fuzz_files.py --minutes 10 --keep fuzzed

Every case has a format and a number, from which `tests/mutations.py` makes the same bytes again. A case passes if it is
read as Gaussians that make sense, or refused with one line that names the file; within 15 seconds of a processor, and
within a memory that grows with the size of the file: 96 MB + 48 bytes for each byte for our own readers, and for the
formats of gaussforge 256 MB + 160 bytes for each byte beside the process that reads them, which limits itself. Linux
only.

    python benchmarks/fuzz_files.py --case glb 1234       # one again
"""

import argparse
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import torch

from mouselift.errors import InputError
from mouselift.export.files import read_gaussians

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from mutations import OWN_KINDS, PACKED_KINDS, damaged_file, file_suffix  # pyright: ignore[reportMissingImports]

KINDS = (*OWN_KINDS, *PACKED_KINDS)
TIME_LIMIT_S = 15.0
STUCK_S = 600.0  # of the clock: other programs may keep the processors
OWN_BASE, OWN_SHARE = 96e6, 48
PACKED_BASE, PACKED_SHARE = 256e6, 160
ADDRESS_SPACE = 8 << 30  # of a reading process: what asks for more is stopped
BATCH = 400


def status_bytes(name: str) -> int:
    """VmRSS or VmHWM of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status says nothing of {name}")


def processor_s() -> float:
    """Of this process and those that it ran."""
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def outcome(path: Path) -> str:
    """What came of it: read, refused, or what went wrong."""
    try:
        found = read_gaussians(path)
    except InputError as error:
        message = str(error)
        if not message.startswith(str(path)) or "\n" in message or len(message) > 600:
            return f"a message unlike others: {message[:200]!r}"
        return "refused"
    except Exception:  # whatever a reader raises besides is what is looked for
        return "a traceback: " + " | ".join(traceback.format_exc().splitlines()[-4:])
    sound = {
        "finite": all(bool(values.isfinite().all()) for values in vars(found).values()),
        "unit quaternions": bool(torch.allclose(found.quats.norm(dim=-1), torch.ones(len(found)), atol=1e-4)),
        "scales above 0": bool((found.scales > 0).all()),
        "opacities": bool(((found.opacities >= 0) & (found.opacities <= 1)).all()),
    }
    wrong = [what for what, holds in sound.items() if not holds]
    return f"read Gaussians without {', '.join(wrong)}" if wrong else "read"


def run_case(kind: str, number: int, folder: Path) -> dict[str, object]:
    """One case, and what it took: seconds, and bytes above what the process had."""
    path = folder / f"case{file_suffix(kind)}"
    path.write_bytes(damaged_file(kind, number))
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    before, began = status_bytes("VmRSS"), processor_s()
    said = outcome(path)
    seconds, memory = processor_s() - began, status_bytes("VmHWM") - before
    size = path.stat().st_size
    base, share = (PACKED_BASE, PACKED_SHARE) if kind in PACKED_KINDS else (OWN_BASE, OWN_SHARE)
    if memory > base + share * size:
        said = f"{memory / 1e6:.0f} MB for a file of {size} bytes ({said})"
    elif seconds > TIME_LIMIT_S:
        said = f"{seconds:.0f} s for a file of {size} bytes ({said})"
    return {"kind": kind, "number": number, "outcome": said, "seconds": seconds, "memory": memory, "size": size}


def worker(kind: str, first: int, last: int) -> None:
    """Cases of one format; each is announced, so that one that ends the process is known."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, last):
            print(json.dumps({"begun": number}), flush=True)
            print(json.dumps(run_case(kind, number, Path(folder))), flush=True)


def batch(kind: str, first: int, last: int) -> list[dict[str, object]]:
    """The results of a worker; another one goes on after a case that ended it."""
    results: list[dict[str, object]] = []
    while first < last:
        command = [sys.executable, __file__, "--worker", kind, str(first), str(last)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert process.stdout is not None
        begun, stuck = first, False
        while True:
            if not select.select([process.stdout], [], [], STUCK_S)[0]:
                stuck = True
                process.kill()
            line = process.stdout.readline()
            if not line:
                break
            found = json.loads(line)
            if "begun" in found:
                begun = found["begun"]
            else:
                results.append(found)
                first = found["number"] + 1
        process.wait()
        if first < last:
            reason = f"nothing after {STUCK_S:.0f} s" if stuck else f"the process ended with {process.returncode}"
            results.append({"kind": kind, "number": begun, "outcome": reason, "seconds": 0, "memory": 0, "size": 0})
            first = begun + 1
    return results


def keep(folder: Path | None, kind: str, number: int) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{kind}-{number}{file_suffix(kind)}").write_bytes(damaged_file(kind, number))


def table(results: list[dict[str, object]]) -> str:
    rows = [
        "| format | cases | read | refused | failed | most time, s | most memory, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        of_kind = [result for result in results if result["kind"] == kind]
        if not of_kind:
            continue
        outcomes = Counter(str(result["outcome"]) for result in of_kind)
        failed = len(of_kind) - outcomes["read"] - outcomes["refused"]
        slowest = max(float(str(result["seconds"])) for result in of_kind)
        memory = max(int(str(result["memory"])) for result in of_kind) / 1e6
        counts = f"{len(of_kind)} | {outcomes['read']} | {outcomes['refused']} | {failed}"
        rows.append(f"| {kind} | {counts} | {slowest:.1f} | {memory:.0f} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each format")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--keep", type=Path, help="folder for the files that failed")
    parser.add_argument("--case", nargs=2, metavar=("FORMAT", "NUMBER"))
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker[0], *map(int, arguments.worker[1:]))
        return
    if arguments.case:
        with tempfile.TemporaryDirectory() as folder:
            print(run_case(arguments.case[0], int(arguments.case[1]), Path(folder)))
        keep(arguments.keep, arguments.case[0], int(arguments.case[1]))
        return
    results: list[dict[str, object]] = []
    deadline, first = time.monotonic() + 60 * arguments.minutes, arguments.first
    while time.monotonic() < deadline:
        for kind in arguments.kinds:
            length = BATCH // 8 if kind in PACKED_KINDS else BATCH  # those take a process each
            start = arguments.first + (first - arguments.first) * length
            for result in batch(kind, start, start + length):
                results.append(result)
                if result["outcome"] not in ("read", "refused"):
                    print(f"{kind} {result['number']}: {result['outcome']}", flush=True)
                    keep(arguments.keep, kind, int(str(result["number"])))
        first += 1
    print(table(results))
    sys.exit(any(result["outcome"] not in ("read", "refused") for result in results))


if __name__ == "__main__":
    main()
