"""One picture to the views of a rig by latent diffusion."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from mouselift.errors import InputError
from mouselift.geometry import Cameras, Views
from mouselift.geometry.rigs import RIG_RADIUS, facelift_rig, facing_azimuth_deg
from mouselift.models.mvunet import stock
from mouselift.models.mvunet.conditioning import (
    Conditioning,
    condition,
    decode_latents,
    embed_pictures,
    encode_pictures,
)
from mouselift.models.mvunet.folder import Parts
from mouselift.models.mvunet.matte import cut_out
from mouselift.models.mvunet.unet import is_posed

MAX_GUIDANCE = 100
MAX_STEPS = 1000
ETA = 1.0  # upstream samples stochastically
SAME_POSE = 0.02  # differences of poses (entries of a rotation, scene units) below it count as none: about a degree
SAME_FOCAL = 0.02  # likewise of focal lengths, as a share


@dataclass(frozen=True, kw_only=True)
class LatentGenerator:
    """A multi-view generator from a `pipeckpts` folder (`mouselift.models.mvunet.folder.load_pipeckpts`).

    Attributes:
        parts: The networks.
        background: Grey level that the picture is shown on and the views are made on; 1, white, as upstream.
        batch: Views that are encoded or decoded at once.
    """

    parts: Parts
    background: float = 1.0
    batch: int = 2

    default_steps = 50
    default_guidance = 3.0

    @property
    def size_px(self) -> int:
        """Of the pictures that go in and come out."""
        return self.parts.size_px

    @property
    def posed(self) -> bool:
        """Whether any input view and any rig will do; without rays it is the folder's own rig alone."""
        return is_posed(self.parts.unet)

    @property
    def input_deg(self) -> tuple[float, float] | None:
        """Elevation and field of view that the picture must have been taken with; None when any will do."""
        return None if self.posed else (self.parts.rig.elevation_deg, self.parts.rig.fov_deg)

    def to(self, device: str) -> "LatentGenerator":
        """Move the networks; on a GPU they are in half precision, as upstream's are."""
        dtype = torch.float16 if torch.device(device).type == "cuda" else torch.float32
        return replace(self, parts=self.parts.to(device, dtype))

    def rig(self, camera: Cameras) -> Cameras:
        """The six cameras that the folder was made for, around an input camera of batch shape (1,)."""
        azimuth = float(facing_azimuth_deg(camera)[0])
        rig = self.parts.rig
        return facelift_rig(azimuth, elevation_deg=rig.elevation_deg, fov_deg=rig.fov_deg, size_px=self.size_px)

    def generate(
        self, view: Views, rig: Cameras, *, steps: int | None = None, guidance: float | None = None, seed: int = 0
    ) -> Views:
        """Make the views of a rig from one picture.

        Args:
            view: (1,) of this generator's size.
            rig: (V,) of the same size, in the frame of `view.cameras`; the result carries exactly these. A generator
                that is not posed makes its own rig only, and the picture must be that of the rig's first camera.
            steps: Of the sampler, 1 to 1000; 50 when None.
            guidance: 1 for none; 3 when None. Any other than 1 doubles the time of a step.
            seed: Same seed, same views.

        Raises:
            InputError: The generator cannot make these views, or a number is out of range.
        """
        made = self.generate_batch(
            view.reshape(1, 1),
            rig.reshape(1, len(rig)),
            steps=self.default_steps if steps is None else steps,
            guidance=self.default_guidance if guidance is None else guidance,
            seeds=[seed],
        )
        return Views(images=made.images[0].cpu(), masks=made.masks[0].cpu(), cameras=rig)

    @torch.no_grad()
    def generate_batch(self, view: Views, rig: Cameras, *, steps: int, guidance: float, seeds: Sequence[int]) -> Views:
        """Make the views of several pictures together: (B, 1) and (B, V) to (B, V), with a seed for each picture.

        What a picture gives does not depend on those beside it. Arguments and errors otherwise as `generate`.
        """
        self._check(view, rig, steps, guidance, seeds)
        device = self.parts.view_text.device
        rig, given = rig.to(device), view.cameras.to(device)
        begins = {same_cameras(given[i], rig[i, :1]) for i in range(len(given))}
        if len(begins) > 1:
            raise ValueError("either all rigs of a batch begin with the input view, or none: the others would change")
        wanted = rig if begins == {True} else Cameras.cat([given, rig], dim=1)
        shown = view.over(torch.full((3,), self.background, device=view.images.device)).images[:, 0].to(device)
        dice = [torch.Generator().manual_seed(seed) for seed in seeds]
        embedding = embed_pictures(self.parts, shown)
        num_views = wanted.batch_shape[1]
        told = condition(
            self.parts,
            encode_pictures(self.parts, shown, self.batch),
            embedding,
            _draw(dice, (num_views, embedding.shape[1])).to(device),
            wanted,
            given,
        )
        latents = self._sample(told, dice, steps, guidance)[:, num_views - rig.batch_shape[1] :]
        pictures = decode_latents(self.parts, latents.flatten(0, 1), self.batch)
        images, masks = (t.unflatten(0, tuple(rig.batch_shape)) for t in cut_out(pictures, self.background))
        return Views(images=images, masks=masks, cameras=rig)

    def _sample(
        self, told: Conditioning, dice: Sequence[torch.Generator], steps: int, guidance: float
    ) -> Float[Tensor, "b v 4 h w"]:
        """DDIM with guidance, on the CPU's random numbers: a seed means the same on every device."""
        schedule = stock.build_ddim(self.parts.configs["scheduler"])
        schedule.set_timesteps(steps)
        guided = guidance != 1
        if guided:
            told = told.guided()
        shape = (told.latent.shape[1], *told.latent.shape[2:])
        device = told.latent.device
        latents = _draw(dice, shape).to(device)
        for step in schedule.timesteps.tolist():
            seen = torch.cat([latents, latents]) if guided else latents
            out = told.predict(self.parts.unet, seen, torch.full((len(seen),), float(step), device=device))
            if guided:
                without, with_picture = out.chunk(2)
                out = without + guidance * (with_picture - without)
            fresh = _draw(dice, shape).to(device)
            latents = schedule.step(out, step, latents, eta=ETA, variance_noise=fresh).prev_sample
        return latents

    def _check(self, view: Views, rig: Cameras, steps: int, guidance: float, seeds: Sequence[int]) -> None:
        if not 1 <= steps <= MAX_STEPS:
            raise InputError(f"expected 1 to {MAX_STEPS} steps, found {steps}")
        if not 0 <= guidance <= MAX_GUIDANCE:
            raise InputError(f"expected a guidance of 0 to {MAX_GUIDANCE}, found {guidance}")
        if len(seeds) != len(view.images):
            raise ValueError(f"{len(seeds)} seeds for {len(view.images)} pictures")
        side = self.size_px
        sizes = {(c.width, c.height) for c in (view.cameras, rig)}
        if sizes != {(side, side)}:
            raise ValueError(f"expected picture and rig of {side} x {side} px, found {sorted(sizes)}")
        if self.posed:
            return
        for picture, asked in zip(view.cameras, rig, strict=True):  # pyright: ignore[reportArgumentType]
            own = self.rig(picture).to(asked.K)
            if (
                own.batch_shape != asked.batch_shape
                or not same_cameras(own, asked)
                or not same_cameras(own[:1], picture)
            ):
                declared = self.parts.rig
                raise InputError(
                    "this pipeckpts folder reads no rays: expected a picture from elevation "
                    f"{declared.elevation_deg:g} and distance {RIG_RADIUS:g} with a field of view of "
                    f"{declared.fov_deg:g} degrees, and the six views around it, found other cameras"
                )


def same_cameras(some: Cameras, others: Cameras) -> bool:
    """Whether cameras are the same, up to what no network could tell apart."""
    pose = float((some.w2c - others.w2c.to(some.w2c)).abs().max())
    focal = float((some.K / others.K.to(some.K))[..., (0, 1), (0, 1)].sub(1).abs().max())
    return pose <= SAME_POSE and focal <= SAME_FOCAL


def _draw(dice: Sequence[torch.Generator], shape: tuple[int, ...]) -> Float[Tensor, "b *shape"]:
    """Standard normal numbers, one die for each picture."""
    return torch.stack([torch.randn(shape, generator=die) for die in dice])
