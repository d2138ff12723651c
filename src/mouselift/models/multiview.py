"""One interface of everything that makes the views which one picture does not show."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from mouselift.errors import InputError
from mouselift.geometry import Cameras, Views
from mouselift.geometry.rigs import facing_azimuth_deg, mouse_rig
from mouselift.models.checkpoint_io import load_generator
from mouselift.models.generator import MAX_STEPS, Generator
from mouselift.models.mvunet.folder import load_pipeckpts
from mouselift.models.mvunet.pipeline import MAX_GUIDANCE, LatentGenerator


@runtime_checkable
class MultiViewGenerator(Protocol):
    """From one posed picture to the views of a rig, with exactly the cameras that were asked for."""

    default_steps: int
    default_guidance: float

    @property
    def size_px(self) -> int:
        """Width and height of the pictures that go in and come out."""
        ...

    @property
    def input_deg(self) -> tuple[float, float] | None:
        """Elevation and field of view that the picture must have been taken with; None when any will do."""
        ...

    def rig(self, camera: Cameras) -> Cameras:
        """The views that reconstruction asks for, around an input camera of batch shape (1,)."""
        ...

    def generate(
        self, view: Views, rig: Cameras, *, steps: int | None = None, guidance: float | None = None, seed: int = 0
    ) -> Views:
        """Make the views.

        Args:
            view: (1,) picture of `size_px`.
            rig: (V,) wanted cameras in the frame of `view.cameras`.
            steps: Of the sampler; the generator's own number when None.
            guidance: Weight of the picture against no picture; the generator's own when None, 1 is none.
            seed: Same seed, same views.

        Returns:
            (V,) views on the CPU, whose cameras are `rig` itself.

        Raises:
            InputError: The generator cannot make these views, or not in this way.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class PixelGenerator:
    """The small generator as a `MultiViewGenerator`.

    Attributes:
        network: Trained at `size_px`.
        size_px: Of the pictures.
    """

    network: Generator
    size_px: int

    default_steps = 1
    default_guidance = 1.0
    input_deg = None

    def rig(self, camera: Cameras) -> Cameras:
        """The mouse rig around an input camera."""
        return mouse_rig(float(facing_azimuth_deg(camera)[0]), size_px=self.size_px)

    def generate(
        self, view: Views, rig: Cameras, *, steps: int | None = None, guidance: float | None = None, seed: int = 0
    ) -> Views:
        """See `MultiViewGenerator.generate`; 1 to 50 steps, guidance where the weights were trained for it."""
        steps = self.default_steps if steps is None else steps
        if not 1 <= steps <= MAX_STEPS:
            raise InputError(f"expected 1 to {MAX_STEPS} steps, found {steps}")
        guidance = self.default_guidance if guidance is None else guidance
        if not 0 <= guidance <= MAX_GUIDANCE:
            raise InputError(f"expected a guidance of 0 to {MAX_GUIDANCE}, found {guidance}")
        if guidance != 1 and self.network.config.condition_dropout == 0:
            raise InputError(f"expected no guidance, which this generator was not trained for, found {guidance:g}")
        device = next(self.network.parameters()).device
        made = self.network.generate(
            view.reshape(1, 1).to(device),
            rig.reshape(1, len(rig)).to(device),
            steps=steps,
            guidance=guidance,
            generator=torch.Generator().manual_seed(seed),
        )[0].to("cpu")
        return Views(images=made.images, masks=made.masks, cameras=rig)


def load_multiview(source: str | Path) -> Generator | LatentGenerator:
    """The small generator from a file, or latent diffusion from a `pipeckpts` folder.

    Raises:
        InputError: See `load_generator` and `load_pipeckpts`.
    """
    return LatentGenerator(parts=load_pipeckpts(source)) if Path(source).is_dir() else load_generator(source)


def as_multiview(generator: Generator | LatentGenerator, size_px: int) -> MultiViewGenerator:
    """Either of them behind the one interface; `size_px` is that of the small one's pictures."""
    return PixelGenerator(network=generator, size_px=size_px) if isinstance(generator, Generator) else generator
