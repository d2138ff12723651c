"""What every test shares: reproducible randomness and the place of the recordings."""

import os

# Before torch starts its threads: spinning while they wait, they slow each other down several times on small machines.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch
from hypothesis import settings

# Machines are shared and slow at times: no deadline. Derandomised: what passes here passes everywhere.
settings.register_profile("mouselift", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("mouselift")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded source of randomness."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def without_shape_checks() -> Iterator[None]:
    """Run as users do, without jaxtyping: for what our own checks have to say about wrong shapes."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of recordings; a test that asks for it is skipped where there is none."""
    folder = Path(os.environ.get("MOUSELIFT_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder}: set MOUSELIFT_TEST_DATA to the folder that holds them")
    return folder
