"""The command that makes a dataset of other projects' objects: `import-objects`."""

import sys
from pathlib import Path

from tyro.conf import Positional

from mouselift.cli.app import Out, app


@app.command(name="import-objects")
def import_objects(
    source: Positional[Path],
    overrides: Positional[tuple[str, ...]] = (),
    *,
    out: Out,
    config: Path | None = None,
    workers: int = 2,
) -> None:
    """Turn multi-view sets of objects (Nerfstudio, COLMAP, renders of Objaverse) into a dataset to pre-train on.

    Args:
        source: The folder with the objects, or one object.
        overrides: key=value for the configuration, as in size_px=512 max_views=16 mm_per_unit=1000.
        out: The dataset folder. A run that was cut off goes on where it stopped.
        config: YAML of an ObjectsConfig.
        workers: Threads.
    """
    from mouselift.config import load_config
    from mouselift.import_objects import ObjectsConfig
    from mouselift.import_objects import import_objects as run

    done = run(source, load_config(ObjectsConfig, config, overrides), out, workers=workers)
    lines = [f"{done.num_train} training and {done.num_val} validation samples in {out}: look at contact_sheet.png"]
    lines += [f"left out: {name}: {why}" for name, why in done.left_out.items()]
    sys.stdout.write("\n".join(lines) + "\n")
