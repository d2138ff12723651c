"""Many pictures, one after the other: each to a result folder of its own, and one page with all of them."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mouselift.atomic import atomic_path, remove_leftovers
from mouselift.data.progress import read_left_out, write_left_out
from mouselift.data.recording.pictures import PICTURE_SUFFIXES
from mouselift.errors import InputError
from mouselift.export.batch_page import STRIPS, write_batch_page, write_strip
from mouselift.export.result import SUMMARY_FILE, write_result
from mouselift.models.bundled import Models
from mouselift.reconstruct import ReconstructConfig, reconstruct

logger = logging.getLogger(__name__)
BATCH_FILE = "batch.json"
SUFFIXES = PICTURE_SUFFIXES | {".webp"}


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What came out.

    Attributes:
        made: Names of pictures whose results are there, in their order.
        left_out: Names of the others, and why.
    """

    made: tuple[str, ...]
    left_out: Mapping[str, str]


def find_pictures(sources: Sequence[Path]) -> dict[str, Path]:
    """Pictures by the names of their results: files as they are, folders for the pictures in them.

    Raises:
        InputError: There are none, one does not exist, a folder has no pictures, or two would have the same name.
    """
    if not sources:
        raise InputError("expected pictures or folders of pictures, found none")
    found: dict[str, Path] = {}
    for source in sources:
        files = [source]
        if source.is_dir():
            files = sorted(path for path in source.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
        if not files:
            raise InputError(f"{source}: expected pictures ({', '.join(sorted(SUFFIXES))}), found none")
        for path in files:
            if not path.is_file():
                raise InputError(f"expected the picture {path}, found no such file")
            if path.stem == STRIPS:
                raise InputError(f"expected pictures of other names, found {path}, whose result would lie in {STRIPS}/")
            if path.stem in found:
                raise InputError(f"expected pictures of different names, found {found[path.stem]} and {path}")
            found[path.stem] = path
    return found


def reconstruct_all(
    pictures: Mapping[str, Path],
    out: Path,
    *,
    masks: Path | None = None,
    config: ReconstructConfig | None = None,
    models: Models | None = None,
    progress: bool = True,
) -> Batch:
    """Reconstruct pictures; one that cannot be used does not stop the others.

    Results that are there already are left as they are, so a run that was cut off goes on. What could not be used
    stands in `left_out.tsv` and is tried again by the next run. `index.html` shows all results.

    Args:
        pictures: From `find_pictures`.
        out: Gets a folder for each picture; made when missing.
        masks: A folder with masks under the names of the pictures; those without one are segmented.
        config: How.
        models: Other weights than the shipped ones.
        progress: Show a bar.

    Raises:
        InputError: `out` holds results that were made otherwise, or a mask has no picture.
    """
    config = config or ReconstructConfig()
    its_masks = {} if masks is None else find_pictures([masks])
    stray = [name for name in its_masks if name not in pictures]
    if stray:
        raise InputError(f"{masks}: expected masks named as the pictures, found {its_masks[stray[0]].name}")
    _begin(out, config)
    remove_leftovers(out, pictures)
    left_out, summaries = read_left_out(out), {}
    for name, path in tqdm(pictures.items(), desc="pictures", unit="picture", disable=None if progress else True):
        left_out.pop(name, None)
        try:
            summaries[name] = _summary_of(out / name, path)
            if summaries[name] is None:
                result = reconstruct(path, mask=its_masks.get(name), config=config, models=models)
                write_strip(result, out, name)
                summaries[name] = write_result(result, out / name)
        except InputError as error:
            left_out[name] = str(error)
        write_left_out(out, left_out)
    made = {name: summary for name, summary in summaries.items() if summary is not None}
    write_batch_page(out, made, left_out)
    return Batch(made=tuple(made), left_out=left_out)


def _begin(out: Path, config: ReconstructConfig) -> None:
    """Note how the results are made; refuse a folder whose results were made otherwise."""
    settings = {key: value for key, value in asdict(config).items() if key != "device"}
    file = out / BATCH_FILE
    if file.is_file():
        found = json.loads(file.read_text()).get("settings")
        if found != settings:
            raise InputError(f"{file}: expected the settings {settings}, found {found}; use another folder")
        return
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"expected a new or empty output folder or one with {BATCH_FILE}, found other files in {out}")
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as partial:
        partial.write_text(json.dumps({"settings": settings}, indent=1))


def _summary_of(folder: Path, picture: Path) -> dict[str, Any] | None:
    """Of the result that is there already; None without one.

    Raises:
        InputError: It was made from another picture.
    """
    file = folder / SUMMARY_FILE
    if not file.is_file():
        return None
    summary = json.loads(file.read_text())
    if summary["input"] != str(picture):
        raise InputError(f"{file}: expected a result of {picture}, found one of {summary['input']}; use another folder")
    return summary
