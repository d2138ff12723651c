"""Size and exposure, and the notes that they give rise to."""

import numpy as np
import pytest

from mouselift.check.light import add_light, measure_light
from mouselift.check.report import Findings


def picture(animal: int, around: int = 200) -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros((50, 80), np.uint8)
    mask[10:20, 20:60] = 255
    return np.where(mask[..., None] > 0, np.uint8(animal), np.uint8(around)).repeat(3, axis=2), mask


def test_what_is_measured() -> None:
    light = measure_light(*picture(90))
    assert light.share == pytest.approx(0.1)
    assert light.length_px == 40
    assert (light.animal, light.around) == (pytest.approx(90), pytest.approx(200))
    assert (light.blown, light.lost) == (0, 0)
    assert np.isnan(measure_light(*picture(90), has_surroundings=False).around)
    assert np.isnan(measure_light(picture(90)[0], None).share)
    assert np.isnan(measure_light(picture(90)[0], np.zeros((50, 80), np.uint8)).animal)


def test_lost_light_and_unequal_cameras_are_noted() -> None:
    findings = Findings()
    add_light(findings, ["a", "b"], [[measure_light(*picture(255)), measure_light(*picture(100))]])
    assert any("camera a: 100 % of the animal is overexposed" in note for note in findings.notes)
    assert any("255 in a and 100 in b" in note for note in findings.notes)
    assert findings.figures["light"]["b"]["animal"] == pytest.approx(100)
    sound = Findings()
    add_light(sound, ["a", "b"], [[measure_light(*picture(80)), measure_light(*picture(90))]])
    assert sound.notes == []
