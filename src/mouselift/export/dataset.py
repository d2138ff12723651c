"""One picture of a dataset, so that people look before they train."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mouselift.atomic import atomic_path
from mouselift.data.layout import read_sample

CONTACT_SHEET_FILE = "contact_sheet.png"
ROWS, COLUMNS, CELL_PX = 8, 8, 160
GREY = 0.5


def write_contact_sheet(dataset: Path, names: Sequence[str]) -> None:
    """Write `contact_sheet.png` into the dataset: a row for each of a few samples, its views over grey.

    Args:
        dataset: Its folder.
        names: Of the sample folders to choose from, evenly.
    """
    rows = []
    for index in np.unique(np.linspace(0, len(names) - 1, min(ROWS, len(names))).round().astype(int)):
        views = read_sample(dataset / names[int(index)]).views
        count = len(views.cameras)
        step = max(count / COLUMNS, 1)
        chosen = views[[int(k * step) for k in range(min(count, COLUMNS))]].resized(CELL_PX, CELL_PX)
        rows.append(torch.cat(list(chosen.over(torch.full((len(chosen.cameras), 3), GREY)).images), dim=-1))
    pixels = torch.cat(rows, dim=-2).permute(1, 2, 0).mul(255).round().byte().numpy()
    with atomic_path(dataset / CONTACT_SHEET_FILE) as partial:
        Image.fromarray(pixels, "RGB").save(partial, format="PNG")
