"""Options that several commands share."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import OmitArgPrefixes, arg

if TYPE_CHECKING:  # torch is imported only when a command runs
    from mouselift.models.bundled import Models
    from mouselift.reconstruct import ReconstructConfig


@dataclass(frozen=True, kw_only=True)
class HowToReconstruct:
    """How Gaussians are made, and by which weights."""

    unseen: Literal["body", "generator"] = "body"
    """Where the sides that one picture does not show come from: the fitted body of a mouse, or the generator."""
    steps: int | None = None
    """Generator steps: 1 to 50, or 1 to 1000 of latent diffusion; its own number when not given (1 or 50)."""
    guidance: float | None = None
    """Of the generator, 1 is none: weights trained for it, 1 when not given; latent diffusion, 3 when not given."""
    refine: int = 80
    """Steps of polishing the Gaussians on the views they were made from."""
    seed: int = 0
    """Same seed, same result."""
    elevation_deg: float | None = None
    """Of the camera above the ground; estimated when not given."""
    fov_deg: float | None = None
    """Field of view of the framed picture; estimated when not given."""
    device: str = "auto"
    """auto, cpu or cuda."""
    gslrm: Annotated[Path | None, arg(aliases=["--weights"])] = None
    """Other weights than the shipped ones."""
    generator: Path | None = None
    """Other weights than the shipped ones, or a pipeckpts folder of latent diffusion (docs/multiview.md)."""
    pose: Path | None = None
    """Other weights than the shipped ones."""

    def config(self) -> "ReconstructConfig":
        """As the use cases take it."""
        from mouselift.reconstruct import ReconstructConfig

        return ReconstructConfig(
            unseen=self.unseen,
            steps=self.steps,
            guidance=self.guidance,
            refine_steps=self.refine,
            seed=self.seed,
            elevation_deg=self.elevation_deg,
            fov_deg=self.fov_deg,
            device=self.device,
        )

    def models(self) -> "Models | None":
        """The named weights; None for all the shipped ones."""
        from mouselift.models.bundled import load_models

        return load_models(self.gslrm, self.generator, self.pose) if self.gslrm or self.generator or self.pose else None


How = Annotated[HowToReconstruct, OmitArgPrefixes]
USUAL = HowToReconstruct()
