"""Which way is up in a rig's world."""

import pytest
import torch
from samples import random_rotation, seeded

from mouselift.geometry import Similarity
from mouselift.geometry.rigs import orbit, rig_up, turn_to_z_up


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("azimuths", [(0.0, 70.0), (0.0, 60.0, 120.0, 200.0)])
def test_level_cameras_tell_up_in_any_world(seed: int, azimuths: tuple[float, ...]) -> None:
    cameras = orbit(azimuths, [10.0 + 20 * k for k in range(len(azimuths))]).to(torch.float64)
    turn = random_rotation(seeded(seed))
    turned = Similarity(scale=torch.tensor(1.0).double(), rotation=turn, translation=torch.zeros(3).double())
    up = rig_up(cameras.transformed(turned))
    expected = turn @ torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    if expected[2] < 0.96:
        torch.testing.assert_close(up, expected, atol=1e-5, rtol=0)
    rotation = turn_to_z_up(up)
    torch.testing.assert_close(rotation @ up, torch.tensor([0.0, 0.0, 1.0]).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3).double(), atol=1e-9, rtol=0)


def test_a_little_roll_does_not_tilt_an_arena() -> None:
    cameras = orbit([0.0, 60.0, 120.0], 15.0).to(torch.float64)
    assert rig_up(cameras).tolist() == [0.0, 0.0, 1.0]
    upside_down = torch.tensor([0.0, 0.0, -1.0]).double()
    torch.testing.assert_close(turn_to_z_up(upside_down) @ upside_down, -upside_down)
