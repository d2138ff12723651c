"""How long `mouselift prepare` takes beside what nobody can avoid: decoding the videos and encoding the pictures.

    python benchmarks/prepare.py ../shared/data/markerless_mouse_1_sim

Prints, from one run on one machine: the time of merely decoding every video and mask video once and encoding the
resulting PNGs with the same libraries, the time of `prepare`, their ratio, the time per view, and the peak memory of
preparing the recording once and four times over (the same files listed four times).
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import cv2
import tyro
import yaml

from mouselift.data.layout import list_samples
from mouselift.data.plan import PrepareConfig
from mouselift.data.recording import Recording, open_recording
from mouselift.prepare import prepare

# Not `getrusage`: what it says of a new process begins with the memory of the one that started it.
PEAK = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"


def main(recording: tyro.conf.Positional[Path], every: int = 1, repeats: int = 3, cpu: bool = False) -> None:
    """Measure.

    Args:
        recording: With masks and one calibration.
        every: Use every n-th instant; the floor decodes all and converts the same.
        repeats: Medians over these.
        cpu: Count processor seconds of all threads instead of the time that passes, for a machine that is busy.
    """
    opened = open_recording(recording)
    config = PrepareConfig(every=every)
    floors, totals, clock = [], [], time.process_time if cpu else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        for k in range(repeats):
            out = Path(folder) / f"{k}"
            started = clock()
            prepare(opened, config, out, progress=False)
            totals.append(clock() - started)
            pictures = [
                p for split in ("train", "val") for s in list_samples(out, split) for p in s.glob("images/*.png")
            ]
            decoded = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in pictures]
            started = clock()
            decode(opened, every)
            decoding = clock() - started
            for path, pixels in zip(pictures, decoded, strict=True):
                path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
            floors.append(clock() - started)
        floor, total = statistics.median(floors), statistics.median(totals)
        sys.stdout.write(
            f"{len(pictures)} views of {config.size_px} px, medians of {repeats} runs, {os.cpu_count()} cores, "
            f"load {os.getloadavg()[0]:.1f}, {'processor' if cpu else 'wall'} time\n"
            f"decode and encode only   {floor:7.2f} s   (decoding {decoding:.2f} s in the last run)\n"
            f"prepare                  {total:7.2f} s   {total / floor:.2f} times as long\n"
            f"per view                 {total / len(pictures) * 1e3:7.1f} ms\n"
        )
        once, four = (peak_mib(opened, times, Path(folder)) for times in (1, 4))
        sys.stdout.write(f"peak memory              {once:7.0f} MiB; four times the recording {four:.0f} MiB\n")


def decode(recording: Recording, every: int) -> None:
    """Every video once, in order, one after the other; colour conversion of the wanted frames only."""
    for view in recording.views:
        for footage, kind in ((view.frames, "rgb24"), (view.masks, "gray")):
            for video in () if footage is None else footage.videos:
                with av.open(str(video.path)) as container:
                    container.streams.video[0].thread_type = "AUTO"
                    for number, frame in enumerate(container.decode(video=0)):
                        if number % every == 0:
                            frame.to_ndarray(format=kind)


def peak_mib(recording: Recording, times: int, folder: Path) -> float:
    """Peak resident memory of a process that prepares the recording repeated so often."""
    cameras = {
        view.name: {
            "video": [str(part.path.resolve()) for part in view.frames.parts] * times,
            "mask": [str(part.path.resolve()) for part in view.masks.parts] * times if view.masks else None,
        }
        for view in recording.views
    }
    assert recording.calibration is not None
    source = folder / f"repeated_{times}.yaml"
    source.write_text(yaml.safe_dump({"calibration": str(recording.calibration.source.resolve()), "cameras": cameras}))
    program = (
        "from pathlib import Path\nfrom mouselift.data.plan import PrepareConfig\n"
        "from mouselift.data.recording import open_recording\nfrom mouselift.prepare import prepare\n"
        f"prepare(open_recording({str(source)!r}), PrepareConfig(every=5), Path({str(folder / f'out_{times}')!r}), "
        f"progress=False)\n{PEAK}"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1]) / 1024


if __name__ == "__main__":
    tyro.cli(main)
