import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import BATCH_SHAPES, normal, seeded, uniform

from mouselift.geometry.distortion import distort, turning_radius, undistort

DANNCE_CAMERA = (-0.159, 0.940, -0.00109, -0.00379, -2.712)  # a real lens whose polynomial turns near the corner
BARREL = (-0.2, 0.0, 0.0, 0.0, 0.0)
PINCUSHION = (0.1, 0.02, 0.003, -0.002, 0.001)
LENSES = [DANNCE_CAMERA, BARREL, PINCUSHION]


def closed_form(x: float, y: float, k1: float, k2: float, p1: float, p2: float, k3: float) -> tuple[float, float]:
    """OpenCV's documentation, term by term."""
    r2 = x**2 + y**2
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2),
        y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y,
    )


def disc(seed: int, radius: float, count: int = 200) -> torch.Tensor:
    generator = seeded(seed)
    r, angle = radius * uniform(generator, count).sqrt(), 2 * math.pi * uniform(generator, count)
    return torch.stack([r * angle.cos(), r * angle.sin()], dim=-1)


@pytest.mark.parametrize("lens", LENSES)
def test_distort_is_the_closed_form(lens: tuple[float, ...]) -> None:
    points = disc(0, 0.45)
    expected = torch.tensor([closed_form(x, y, *lens) for x, y in points.tolist()], dtype=torch.float64)
    found = distort(points, torch.tensor(lens, dtype=torch.float64))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
def test_undistort_inverts_distort_up_to_the_turn(
    lens: tuple[float, ...], dtype: torch.dtype, tolerance: float
) -> None:
    coefficients = torch.tensor(lens, dtype=dtype)
    points = disc(1, 0.98 * min(float(turning_radius(coefficients)), 1.5)).to(dtype)
    found = undistort(distort(points, coefficients), coefficients)
    torch.testing.assert_close(found, points, rtol=0, atol=tolerance)


@given(seed=st.integers(0, 2**31))
def test_undistort_inverts_distort_for_any_mild_lens(seed: int) -> None:
    generator = seeded(seed)
    spread = torch.tensor([0.2, 0.1, 0.005, 0.005, 0.02], dtype=torch.float64)
    coefficients = spread * uniform(generator, 3, 5, low=-1.0)
    points = uniform(generator, 3, 20, 2, low=-0.5, high=0.5)
    found = undistort(distort(points, coefficients), coefficients)
    torch.testing.assert_close(found, points, rtol=0, atol=1e-12)


def test_turning_radius_of_a_pure_barrel_is_the_closed_form() -> None:
    # d/dr (r + k1 r^3) = 0 at r = 1 / sqrt(-3 k1)
    coefficients = torch.tensor([BARREL, (0.2, 0, 0, 0, 0), (0, 0, 0, 0, 0)], dtype=torch.float64)
    expected = torch.tensor([1 / math.sqrt(0.6), math.inf, math.inf], dtype=torch.float64)
    torch.testing.assert_close(turning_radius(coefficients), expected)


@given(seed=st.integers(0, 2**31))
def test_turning_radius_is_the_first_maximum_of_the_sampled_polynomial(seed: int) -> None:
    k1, k2, k3 = normal(seeded(seed), 3).tolist()
    radius = torch.linspace(0, 5, 200_001, dtype=torch.float64)
    grows = torch.diff(radius * (1 + k1 * radius**2 + k2 * radius**4 + k3 * radius**6)) > 0
    expected = math.inf if grows.all() else float(radius[int(grows.int().argmin())])
    found = float(turning_radius(torch.tensor([k1, k2, 0, 0, k3], dtype=torch.float64)))
    if math.isinf(expected):
        assert found > 5
    else:
        assert found == pytest.approx(expected, abs=1e-3)


def test_beyond_the_turn_there_is_nothing_instead_of_something_plausible() -> None:
    lens = torch.tensor(DANNCE_CAMERA, dtype=torch.float64)
    turn = float(turning_radius(lens))
    assert 0.6 < turn < 0.7
    directions = disc(2, 1.0)
    directions /= directions.norm(dim=-1, keepdim=True)
    reach = torch.linspace(1.001, 4, len(directions), dtype=torch.float64)[:, None]
    assert distort(turn * reach * directions, lens).isnan().all()
    # The image of the turn bounds the picture. Beyond it Newton finds roots on the far side of the centre.
    rim = distort(0.9999 * turn * directions, lens)
    assert undistort(1.01 * reach * rim, lens).isnan().all()
    assert undistort(0.99 * rim, lens).isfinite().all()


@pytest.mark.parametrize("batch", BATCH_SHAPES)
def test_coefficients_and_points_broadcast(batch: tuple[int, ...], generator: torch.Generator) -> None:
    coefficients = torch.tensor(PINCUSHION, dtype=torch.float64) * uniform(generator, *batch, 1)
    points = uniform(generator, 6, 2, low=-0.4, high=0.4)
    distorted = distort(points, coefficients)
    assert distorted.shape == (*batch, 6, 2)
    torch.testing.assert_close(undistort(distorted, coefficients), points.expand_as(distorted))
