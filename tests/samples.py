"""Random but reproducible cameras, views, Gaussians and transforms for the tests, in float64."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mouselift import geometry
from mouselift.geometry import Cameras, Gaussians, Similarity, Views
from mouselift.geometry.transforms import quat_to_rotmat

WIDTH, HEIGHT = 40, 30
BATCH_SHAPES = [(), (2,), (1, 2)]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def uniform(generator: torch.Generator, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


def random_quats(generator: torch.Generator, *shape: int) -> Tensor:
    return F.normalize(normal(generator, *shape, 4), dim=-1)


def random_rotation(generator: torch.Generator, *shape: int) -> Tensor:
    return quat_to_rotmat(random_quats(generator, *shape))


def random_similarity(generator: torch.Generator) -> Similarity:
    return Similarity(
        scale=uniform(generator, low=-2.0, high=2.0).exp(),
        rotation=random_rotation(generator),
        translation=3 * normal(generator, 3),
    )


def random_cameras(
    generator: torch.Generator, *batch: int, distorted: bool = False, names: tuple[str, ...] = ()
) -> Cameras:
    """Cameras 2.5 to 3.5 units from the origin, which they look about at; off-centre, with skew."""
    eyes = F.normalize(normal(generator, *batch, 3), dim=-1) * uniform(generator, *batch, 1, low=2.5, high=3.5)
    K = torch.zeros(*batch, 3, 3, dtype=torch.float64)
    K[..., 0, 0] = uniform(generator, *batch, low=35.0, high=55.0)
    K[..., 1, 1] = uniform(generator, *batch, low=35.0, high=55.0)
    K[..., 0, 1] = uniform(generator, *batch, low=-3.0, high=3.0)
    K[..., 0, 2] = WIDTH / 2 + uniform(generator, *batch, low=-4.0, high=4.0)
    K[..., 1, 2] = HEIGHT / 2 + uniform(generator, *batch, low=-4.0, high=4.0)
    K[..., 2, 2] = 1
    spread = torch.tensor([0.2, 0.1, 0.005, 0.005, 0.02], dtype=torch.float64)
    return Cameras(
        K=K,
        w2c=geometry.look_at(eyes, 0.2 * normal(generator, *batch, 3)),
        width=WIDTH,
        height=HEIGHT,
        distortion=spread * uniform(generator, *batch, 5, low=-1.0) if distorted else None,
        names=names,
    )


def random_points(generator: torch.Generator, *shape: int) -> Tensor:
    """Points in the cube [-0.6, 0.6]^3, in front of every camera of `random_cameras`."""
    return uniform(generator, *shape, 3, low=-0.6, high=0.6)


def random_views(generator: torch.Generator, *batch: int) -> Views:
    return Views(
        images=uniform(generator, *batch, 3, HEIGHT, WIDTH),
        masks=uniform(generator, *batch, 1, HEIGHT, WIDTH),
        cameras=random_cameras(generator, *batch),
    )


def golden_views(vectors: dict[str, Tensor]) -> Views:
    """The context views of a file of golden vectors."""
    fx, fy, cx, cy = vectors["fxfycxcy"].unbind(-1)
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    K = torch.stack([fx, zero, cx, zero, fy, cy, zero, zero, one], dim=-1).unflatten(-1, (3, 3))
    images = vectors["image"]
    w2c = torch.linalg.inv(vectors["c2w"].double()).float()
    cameras = Cameras(K=K, w2c=w2c, width=images.shape[-1], height=images.shape[-2])
    return Views(images=images, masks=torch.ones_like(images[:, :, :1]), cameras=cameras)


def random_gaussians(generator: torch.Generator, *batch: int, count: int = 7, degree: int = 0) -> Gaussians:
    return Gaussians(
        means=random_points(generator, *batch, count),
        quats=random_quats(generator, *batch, count),
        scales=uniform(generator, *batch, count, 3, low=0.01, high=0.2),
        opacities=uniform(generator, *batch, count),
        sh=normal(generator, *batch, count, (degree + 1) ** 2, 3),
    )
