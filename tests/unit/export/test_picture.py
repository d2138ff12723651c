from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mouselift.errors import InputError
from mouselift.export.picture import CELL_PX, GAP_PX, PAPER, TITLE_PX, contact_sheet, to_uint8, write_png


def test_rounding_and_clamping() -> None:
    image = torch.tensor([-0.1, 0.0, 0.4999 / 255, 0.5001 / 255, 254.6 / 255, 1.0, 1.2]).reshape(1, 1, 7)
    assert to_uint8(image)[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255, 255]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_png_round_trip(tmp_path: Path, channels: int, mode: str) -> None:
    image = torch.rand(channels, 5, 7)
    write_png(image, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as read:
        assert read.mode == mode
        np.testing.assert_array_equal(np.asarray(read).reshape(5, 7, channels), to_uint8(image))


def test_unwritable_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a place to write to"):
        write_png(torch.rand(3, 4, 4), tmp_path / "none" / "a.png")


def test_a_sheet_shows_every_picture_under_its_title(tmp_path: Path) -> None:
    red, green = torch.zeros(3, CELL_PX, CELL_PX), torch.zeros(3, CELL_PX // 2, CELL_PX // 2)
    red[0], green[1] = 1, 1
    title = "a title that is much too long for the width of one cell, so that it has to be made small"
    contact_sheet([[("one", red), (title, green)], [("three", green)]], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as read:
        sheet = np.asarray(read)
    step = CELL_PX + GAP_PX
    assert sheet.shape == (GAP_PX + 2 * (CELL_PX + TITLE_PX + GAP_PX), GAP_PX + 2 * step, 3)
    first_row, second_row = GAP_PX + TITLE_PX, GAP_PX + 2 * TITLE_PX + step
    assert (sheet[first_row : first_row + CELL_PX, GAP_PX : GAP_PX + CELL_PX] == [255, 0, 0]).all()
    assert (sheet[first_row : first_row + CELL_PX, GAP_PX + step : GAP_PX + step + CELL_PX] == [0, 255, 0]).all()
    assert (sheet[second_row : second_row + CELL_PX, GAP_PX : GAP_PX + CELL_PX] == [0, 255, 0]).all()
    assert (sheet[second_row:, GAP_PX + step :] == PAPER).all()
    for left in (GAP_PX, GAP_PX + step):
        written = (sheet[GAP_PX : GAP_PX + TITLE_PX, left : left + CELL_PX] < 128).any(-1)
        assert written.sum() > 20
    assert (sheet[GAP_PX : GAP_PX + TITLE_PX, -GAP_PX:] == PAPER).all()  # the long title ends in its cell
