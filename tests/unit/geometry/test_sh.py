import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import normal, random_rotation, seeded
from scipy.special import sph_harm_y
from torch.nn import functional as F

from mouselift.geometry.sh import dc_from_rgb, eval_sh, rgb_from_dc, rotate_sh, sh_basis, sh_degree

SEEDS = st.integers(0, 2**31)
DEGREES = st.integers(0, 3)


def unit(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return F.normalize(normal(generator, *shape, 3), dim=-1)


def smooth(sh: torch.Tensor) -> torch.Tensor:
    """Coefficients so small that `eval_sh` never clamps."""
    return 0.01 * sh


@pytest.mark.parametrize("degree", range(4))
def test_basis_is_scipys_real_part_with_its_phase(degree: int) -> None:
    directions = unit(seeded(0), 50)
    x, y, z = directions.numpy().T
    polar, azimuth = torch.from_numpy(z).acos().numpy(), torch.atan2(*map(torch.from_numpy, (y, x))).numpy()
    columns = []
    for n in range(degree + 1):
        for m in range(-n, n + 1):
            value = sph_harm_y(n, abs(m), polar, azimuth)  # complex, Condon-Shortley phase included
            columns.append(value.real if m == 0 else math.sqrt(2) * (value.real if m > 0 else value.imag))
    expected = torch.stack([torch.from_numpy(c) for c in columns], dim=-1)
    torch.testing.assert_close(sh_basis(directions, degree), expected, rtol=0, atol=1e-13)


@given(seed=SEEDS, degree=DEGREES)
def test_turned_coefficients_look_the_same_from_turned_directions(seed: int, degree: int) -> None:
    generator = seeded(seed)
    sh, rotation = smooth(normal(generator, 6, (degree + 1) ** 2, 3)), random_rotation(generator)
    directions = unit(generator, 6)
    found = eval_sh(rotate_sh(sh, rotation), directions @ rotation.mT)
    torch.testing.assert_close(found, eval_sh(sh, directions), rtol=0, atol=1e-13)


@given(seed=SEEDS, degree=DEGREES)
def test_turning_is_a_group_and_keeps_each_degrees_norm(seed: int, degree: int) -> None:
    generator = seeded(seed)
    sh = normal(generator, 2, 3, (degree + 1) ** 2, 3)
    a, b = random_rotation(generator), random_rotation(generator)
    torch.testing.assert_close(rotate_sh(rotate_sh(sh, b), a), rotate_sh(sh, a @ b))
    torch.testing.assert_close(rotate_sh(sh, torch.eye(3, dtype=torch.float64)), sh)
    turned = rotate_sh(sh, a)
    for n in range(degree + 1):
        band = slice(n**2, (n + 1) ** 2)
        torch.testing.assert_close(turned[..., band, :].norm(dim=-2), sh[..., band, :].norm(dim=-2))


def test_colour_round_trip_and_its_meaning(generator: torch.Generator) -> None:
    rgb = torch.rand(5, 3, generator=generator)
    dc = dc_from_rgb(rgb)
    torch.testing.assert_close(rgb_from_dc(dc), rgb)
    directions = unit(generator, 5).float()
    torch.testing.assert_close(eval_sh(dc[:, None], directions), rgb)  # seen from anywhere


def test_eval_clamps_below_only() -> None:
    sh = dc_from_rgb(torch.tensor([[[-1.0, 0.5, 3.0]]]))
    seen = eval_sh(sh, torch.tensor([[0.0, 0.0, 1.0]]))
    torch.testing.assert_close(seen, torch.tensor([[0.0, 0.5, 3.0]]))


@pytest.mark.parametrize(("bases", "degree"), [(1, 0), (4, 1), (9, 2), (16, 3)])
def test_degree(bases: int, degree: int) -> None:
    assert sh_degree(bases) == degree


@pytest.mark.parametrize("bases", [0, 2, 3, 25])
def test_degree_refuses_other_numbers(bases: int) -> None:
    with pytest.raises(ValueError, match=f"1, 4, 9 or 16 bases, found {bases}"):
        sh_degree(bases)
