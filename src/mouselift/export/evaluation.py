"""The output folder of an evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from mouselift.atomic import atomic_folder
from mouselift.evaluate import Row, summarise, table, write_rows, write_summary
from mouselift.export.picture import contact_sheet

SHOWN_SAMPLES = 8


def write_evaluation(rows: Sequence[Row], pictures: Sequence[Mapping[str, Tensor]], out: Path) -> str:
    """Write metrics.json, views.csv and views.png.

    Returns:
        The table of means, as Markdown.
    """
    summary = summarise(rows)
    with atomic_folder(out) as folder:
        write_rows(rows, folder / "views.csv")
        write_summary(summary, folder / "metrics.json")
        (folder / "table.md").write_text(table(summary) + "\n")
        sheet = []
        for shown in pictures[:SHOWN_SAMPLES]:
            given = shown["input"][0]
            sheet.append([("input", given)] + [("truth", image) for image in shown["truth"]])
            sheet.append([("input", given)] + [("MouseLift", image) for image in shown["made"]])
        contact_sheet(sheet, folder / "views.png")
    return table(summary)
