"""Many pictures, one after the other: each to a result folder of its own, and one page with all of them."""

import hashlib
import json
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
from mouselift.models.bundled import Models, shipped_models
from mouselift.models.generator import Generator
from mouselift.reconstruct import ReconstructConfig, reconstruct
from mouselift.runtime import resolve_device

BATCH_FILE = "batch.json"
SUFFIXES = PICTURE_SUFFIXES | {".webp"}


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What came out.

    Attributes:
        made: Names of the pictures whose results are there, in their order.
        left_out: Names of the others of this run, and why.
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
    stands in `left_out.tsv` and is tried again by the next run. `index.html` shows all results, of earlier runs too.

    Args:
        pictures: From `find_pictures`.
        out: Gets a folder for each picture; made when missing.
        masks: A folder with masks under the names of the pictures; those without one are segmented.
        config: How.
        models: Other weights than the shipped ones.
        progress: Show a bar.

    Raises:
        InputError: `out` holds results of other settings, weights, pictures or masks; or a mask has no picture.
    """
    config, models = config or ReconstructConfig(), models or shipped_models()
    resolve_device(config.device)
    its_masks = {} if masks is None else find_pictures([masks])
    stray = [name for name in its_masks if name not in pictures]
    if stray:
        raise InputError(f"{masks}: expected masks named as the pictures, found {its_masks[stray[0]].name}")
    inputs = {name: _hash_of(path, its_masks.get(name)) for name, path in pictures.items()}
    settings = _settings(config, models)
    made_from = _begin(out, settings, inputs)
    remove_leftovers(out, pictures)
    remove_leftovers(out / STRIPS, pictures)
    left_out = {name: why for name, why in read_left_out(out).items() if name not in pictures}
    failed: dict[str, str] = {}
    for name, path in tqdm(pictures.items(), desc="pictures", unit="picture", disable=None if progress else True):
        if name in made_from:
            continue
        try:
            result = reconstruct(path, mask=its_masks.get(name), config=config, models=models)
        except InputError as error:
            failed[name] = str(error)
            continue
        finally:
            write_left_out(out, left_out | failed)
        write_strip(result, out, name)
        write_result(result, out / name)
        made_from[name] = inputs[name]
        _note(out, settings, made_from)
    summaries = {name: json.loads((out / name / SUMMARY_FILE).read_text()) for name in made_from}
    write_batch_page(out, summaries, left_out | failed)
    return Batch(made=tuple(name for name in pictures if name in made_from), left_out=failed)


def _begin(out: Path, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> dict[str, str]:
    """Hashes of what the results that are there were made from, by name.

    Raises:
        InputError: They were made otherwise, or the folder holds something else.
    """
    file = out / BATCH_FILE
    if not file.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise InputError(
                f"expected a new or empty output folder or one with {BATCH_FILE}, found other files in {out}"
            )
        out.mkdir(parents=True, exist_ok=True)
        _note(out, settings, {})
        return {}
    record = json.loads(file.read_text())
    there = {name: made for name, made in record["made_from"].items() if (out / name / SUMMARY_FILE).is_file()}
    if not there:
        _note(out, settings, {})
        return {}
    if record["settings"] != settings:
        differing = [key for key in settings if record["settings"].get(key) != settings[key]]
        raise InputError(
            f"{file}: expected results of the same {', '.join(differing)}, found others; use another folder"
        )
    changed = [name for name, made in there.items() if inputs.get(name, made) != made]
    if changed:
        raise InputError(
            f"{out / changed[0]}: expected the result of this picture and mask, found that of others; use another "
            "folder"
        )
    return there


def _note(out: Path, settings: Mapping[str, Any], made_from: Mapping[str, str]) -> None:
    with atomic_path(out / BATCH_FILE) as partial:
        partial.write_text(json.dumps({"settings": settings, "made_from": made_from}, indent=1))


def _settings(config: ReconstructConfig, models: Models) -> dict[str, Any]:
    """All that a result depends on besides its picture, as JSON."""
    settings = {key: value for key, value in asdict(config).items() if key != "device"}
    return {**settings, "weights": _weights_hash(models)}


def _weights_hash(models: Models) -> str:
    """Of all weights; of latent diffusion those of its UNet, which the others belong to."""
    digest = hashlib.sha256()
    generator = models.generator if isinstance(models.generator, Generator) else models.generator.parts.unet
    for part in (models.gslrm, models.pose, generator):
        for value in part.state_dict().values():
            digest.update(value.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()[:16]


def _hash_of(*files: Path | None) -> str:
    """Of a picture and its mask."""
    parts = [b"" if file is None else file.read_bytes() for file in files]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:16]
