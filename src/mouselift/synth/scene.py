"""One synthetic sample: an animal in a pose, under some light, seen by cameras that are known exactly."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import ConvexHull
from torch import Tensor

from mouselift.body.mesh import Body, PosedBody, Region, pose_body, procedural_mouse
from mouselift.geometry import Cameras, Gaussians, Similarity, Views
from mouselift.geometry.rigs import RIG_RADIUS, orbit
from mouselift.geometry.transforms import look_at, rigid
from mouselift.render import render
from mouselift.synth.coat import COATS, sample_coat
from mouselift.synth.fur import FurConfig, grow_fur
from mouselift.synth.ground import stand
from mouselift.synth.light import sample_lights
from mouselift.synth.mammal import mammal_body
from mouselift.synth.pose import Build, PosePrior, sample_build
from mouselift.synth.rodent import rodent_body

SCENE_PER_MM = RIG_RADIUS / 312.0  # the plan's real rig: cameras 312 mm from the subject on average
COAT_SHARES = {"black": 0.28, "agouti": 0.18, "white": 0.24, "brown": 0.10, "grey": 0.10, "piebald": 0.10}
AIM_STEPS = 8  # 2 centre to a pixel, but straight from above, where each step also turns the picture, it takes more
NO_FORE_PAWS = ("rearing", "grooming")


@dataclass(frozen=True, kw_only=True)
class SynthConfig:
    """What synthetic samples are drawn from.

    Attributes:
        size_px: Width and height of every picture.
        num_ring: Cameras of the ring, evenly spaced around the animal.
        num_framed: Free cameras, framed as a user's photograph.
        ring_elevation_deg: Of the ring.
        ring_fov_deg: Of the ring.
        bodies: Any of "procedural" and "rodent", and paths of MAMMAL's `mouse.pkl`; drawn evenly.
        coats: Any of `COATS`, drawn by `COAT_SHARES`.
        grey_share: Share of samples seen in infra-red, without colour.
        distance_range: Of free cameras from the origin, scene units.
        fill_range: Share of a framed picture that the longer side of the silhouette's box fills.
        roll_sigma_deg: Of free cameras.
        fur: How the fur is made.
    """

    size_px: int = 128
    num_ring: int = 8
    num_framed: int = 6
    ring_elevation_deg: float = 20.0
    ring_fov_deg: float = 30.0
    bodies: tuple[str, ...] = ("procedural",)
    coats: tuple[str, ...] = COATS
    grey_share: float = 1 / 3
    distance_range: tuple[float, float] = (2.0, 4.0)
    fill_range: tuple[float, float] = (0.62, 0.80)
    roll_sigma_deg: float = 3.0
    fur: FurConfig = field(default_factory=FurConfig)

    def __post_init__(self) -> None:
        if self.size_px < 8 or self.num_ring < 0 or self.num_framed < 0 or self.num_ring + self.num_framed < 1:
            raise ValueError(f"{self.size_px=} {self.num_ring=} {self.num_framed=}: need at least 8 px and one view")
        if not self.bodies or not self.coats or set(self.coats) - set(COATS):
            raise ValueError(f"bodies and coats must not be empty; coats are {COATS}, found {self.coats}")
        if not 0 <= self.grey_share <= 1:
            raise ValueError(f"grey_share must lie in [0, 1], found {self.grey_share}")
        if not 1.5 <= self.distance_range[0] <= self.distance_range[1]:
            raise ValueError(f"distance_range must rise from at least 1.5 scene units, found {self.distance_range}")
        if not 0 < self.fill_range[0] <= self.fill_range[1] <= 1:
            raise ValueError(f"fill_range must rise within (0, 1], found {self.fill_range}")
        if not (0 < self.ring_fov_deg < 150 and -80 <= self.ring_elevation_deg <= 90 and self.roll_sigma_deg >= 0):
            raise ValueError(f"out of range: {self.ring_fov_deg=} {self.ring_elevation_deg=} {self.roll_sigma_deg=}")


@dataclass(frozen=True, kw_only=True)
class SynthSample:
    """A finished sample.

    Attributes:
        views: (V,) views: `ring_0`, ..., then `framed_0`, ...; straight colour, masks are the rendered alpha.
        keypoints_scene: The 22 keypoints.
        scene_from_world: Millimetres to scene.
        rotations: Of each joint relative to its parent, with the feet on the ground; see `SynthAnimal`.
        build: How this individual differs from the average of its body.
        attributes: What was drawn: body, coat, behaviour, grey, seed.
    """

    views: Views
    keypoints_scene: Float[Tensor, "22 3"]
    scene_from_world: Similarity
    rotations: Float[np.ndarray, "j 3 3"]
    build: Build
    attributes: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class SynthAnimal:
    """An animal before any camera looks at it: Gaussians and keypoints in the scene frame.

    The pose is what `mouselift.body.mesh.pose_body` takes, and the pelvis stays where the rest pose has it: with
    `scene_from_world` it places the whole body.
    """

    gaussians: Gaussians
    keypoints_scene: Float[Tensor, "22 3"]
    scene_from_world: Similarity
    rotations: Float[np.ndarray, "j 3 3"]
    build: Build
    attributes: Mapping[str, Any]


def load_body(name: str) -> Body:
    """A body by its name in `SynthConfig.bodies`."""
    if name == "procedural":
        return procedural_mouse()
    return rodent_body() if name == "rodent" else mammal_body(Path(name))


def synthesize_animal(config: SynthConfig, rng: np.random.Generator) -> SynthAnimal:
    """Draw body, individual, pose, coat and light, and grow the fur.

    The subject centre that falls on the scene's origin is the middle of the box around the body with the first third of
    its tail: near the centre of a visual hull's volume, to which a thin tail adds little.
    """
    body = load_body(str(rng.choice(np.array(config.bodies))))
    shares = np.array([COAT_SHARES[name] for name in config.coats])
    coat = sample_coat(rng, str(rng.choice(np.array(config.coats), p=shares / shares.sum())))
    build, pose, lights = sample_build(rng), PosePrior.load().sample(rng), sample_lights(rng, config.grey_share)
    scales = build.joint_scales()
    rotations = stand(
        body.joints,
        pose.rotations(),
        scales,
        fore_paws=pose.behaviour not in NO_FORE_PAWS,
        tail_rise_rad=pose.tail_rise_rad,
    )
    posed = pose_body(body, rotations, joint_scales=scales)
    fur = replace(
        config.fur,
        length=config.fur.length * float(rng.uniform(0.75, 1.2)),
        lift=config.fur.lift * float(rng.uniform(0.6, 1.6)),
    )
    hairs = grow_fur(body, posed, coat, lights, fur, rng)
    scene_from_world = Similarity(
        scale=torch.tensor(SCENE_PER_MM),
        rotation=torch.eye(3),
        translation=torch.from_numpy(-SCENE_PER_MM * subject_centre(body, posed)).float(),
    )
    return SynthAnimal(
        gaussians=hairs.transformed(scene_from_world),
        keypoints_scene=scene_from_world.apply(torch.from_numpy(posed.keypoints).float()),
        scene_from_world=scene_from_world,
        rotations=rotations,
        build=build,
        attributes={"body": body.name, "coat": coat.name, "behaviour": pose.behaviour, "grey": lights.grey},
    )


def subject_centre(body: Body, posed: PosedBody) -> Float[np.ndarray, "3"]:
    """Middle of the box around the body and the first third of its tail, mm."""
    tail = body.regions == Region.TAIL
    reach = body.vertices[:, 0]
    root, tip = reach[tail].max(), reach[tail].min()
    kept = posed.vertices[~tail | (reach > root - (root - tip) / 3)]
    return 0.5 * (kept.min(0) + kept.max(0))


def synthesize_sample(config: SynthConfig, seed: int) -> SynthSample:
    """One sample; the same seed and config give the same sample, bit for bit on one machine."""
    rng = np.random.default_rng([0x6D6F757365, seed])
    animal = synthesize_animal(config, rng)
    cameras = sample_cameras(config, animal.gaussians, rng)
    return SynthSample(
        views=photograph(animal.gaussians, cameras),
        keypoints_scene=animal.keypoints_scene,
        scene_from_world=animal.scene_from_world,
        rotations=animal.rotations,
        build=animal.build,
        attributes={**animal.attributes, "seed": seed},
    )


def sample_cameras(config: SynthConfig, gaussians: Gaussians, rng: np.random.Generator) -> Cameras:
    """The ring, then the framed cameras."""
    sets = []
    if config.num_ring:
        start = rng.uniform(0, 360)
        sets.append(
            orbit(
                [start + 360.0 * k / config.num_ring for k in range(config.num_ring)],
                config.ring_elevation_deg,
                radius=RIG_RADIUS,
                fov_deg=config.ring_fov_deg,
                size_px=config.size_px,
                names=[f"ring_{k}" for k in range(config.num_ring)],
            )
        )
    if config.num_framed:
        eyes = torch.from_numpy(_free_eyes(config, rng)).float()
        rolls = torch.from_numpy(np.deg2rad(rng.normal(0, config.roll_sigma_deg, config.num_framed))).float()
        fills = torch.from_numpy(rng.uniform(*config.fill_range, config.num_framed)).float()
        sets.append(framed_cameras(gaussians, eyes, rolls, fills, config.size_px))
    return Cameras.cat(sets)


def _free_eyes(config: SynthConfig, rng: np.random.Generator) -> Float[np.ndarray, "v 3"]:
    """Where users hold cameras: three in five from the side, the others from above."""
    n = config.num_framed
    azimuth = rng.uniform(0, 2 * np.pi, n)
    elevation = np.deg2rad(np.where(rng.random(n) < 0.6, rng.uniform(-5, 35, n), rng.uniform(35, 90, n)))
    distance = rng.uniform(*config.distance_range, n)
    flat = np.cos(elevation)
    return distance[:, None] * np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=1)


def framed_cameras(
    gaussians: Gaussians,
    eyes: Float[Tensor, "v 3"],
    rolls_rad: Float[Tensor, "v"],
    fills: Float[Tensor, "v"],
    size_px: int,
) -> Cameras:
    """Cameras at `eyes` that centre the silhouette's box and let its longer side fill a share of the picture.

    Args:
        gaussians: The subject; its box is that of the projected means whose opacity is above 0.5.
        eyes: Camera centres, scene.
        rolls_rad: Rotation about the optical axis.
        fills: Longer side of the box, as a share of the picture.
        size_px: Width and height.
    """
    solid = gaussians.means[gaussians.opacities > 0.5]
    solid = solid[torch.from_numpy(ConvexHull(solid.numpy()).vertices).long()]  # the same box from far fewer points
    target = torch.zeros_like(eyes)
    w2c, low, high = _aimed(solid, eyes, target, rolls_rad)
    for _ in range(AIM_STEPS):
        middle = torch.cat([0.5 * (low + high), torch.ones_like(rolls_rad)[:, None]], dim=-1)
        target = eyes + (w2c[:, :3, :3].mT @ middle[..., None])[..., 0]
        w2c, low, high = _aimed(solid, eyes, target, rolls_rad)
    focal = fills * size_px / (high - low).amax(-1)
    K = torch.zeros(len(eyes), 3, 3)
    K[:, 0, 0] = K[:, 1, 1] = focal
    K[:, :2, 2] = size_px / 2
    K[:, 2, 2] = 1
    names = tuple(f"framed_{k}" for k in range(len(eyes)))
    return Cameras(K=K, w2c=w2c, width=size_px, height=size_px, names=names)


def _aimed(
    points: Float[Tensor, "n 3"],
    eyes: Float[Tensor, "v 3"],
    target: Float[Tensor, "v 3"],
    rolls_rad: Float[Tensor, "v"],
) -> tuple[Float[Tensor, "v 4 4"], Float[Tensor, "v 2"], Float[Tensor, "v 2"]]:
    """Cameras that look at `target`, and the box of the points in their normalised image plane."""
    c, s, o = rolls_rad.cos(), rolls_rad.sin(), torch.zeros_like(rolls_rad)
    roll = torch.stack([c, -s, o, s, c, o, o, o, o + 1], dim=-1).reshape(-1, 3, 3)
    w2c = rigid(roll, torch.zeros_like(eyes)) @ look_at(eyes, target)
    in_camera = points @ w2c[:, :3, :3].mT + w2c[:, None, :3, 3]
    plane = in_camera[..., :2] / in_camera[..., 2:]
    return w2c, plane.amin(1), plane.amax(1)


def photograph(gaussians: Gaussians, cameras: Cameras) -> Views:
    """Render Gaussians into views with straight colour; masks are the rendered alpha."""
    with torch.no_grad():
        shot = render(gaussians, cameras, torch.zeros(3))
    straight = torch.where(shot.alpha > 1e-3, shot.image / shot.alpha.clamp_min(1e-3), torch.zeros(()))
    return Views(images=straight.clamp(0, 1), masks=shot.alpha.clamp(0, 1), cameras=cameras)
