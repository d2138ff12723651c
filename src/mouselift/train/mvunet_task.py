"""The task of FaceLift's multi-view diffusion: six views of an animal at once, from any one of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mouselift.data.layout import Sample
from mouselift.data.selection import facelift_subset, random_subset, split_rig_and_free
from mouselift.errors import InputError
from mouselift.geometry import Cameras
from mouselift.geometry.rigs import facelift_rig, facing_azimuth_deg
from mouselift.metrics import iou_alpha, psnr_fg
from mouselift.models.checkpoint_io import load_into, read_state_dict
from mouselift.models.mvunet import stock
from mouselift.models.mvunet.conditioning import Conditioning, condition
from mouselift.models.mvunet.folder import NUM_WORDS, Parts, RigConfig, load_pipeckpts, save_pipeckpts
from mouselift.models.mvunet.lora import add_low_rank, merged_state
from mouselift.models.mvunet.objective import Weighting, draw_steps, min_snr_weights, noised, target
from mouselift.models.mvunet.pipeline import LatentGenerator, same_cameras
from mouselift.models.mvunet.unet import RAY_CHANNELS, build_unet, is_posed, make_posed
from mouselift.models.transformer import low_precision
from mouselift.train.mvunet_features import FeatureSource

PANEL_SAMPLES = 4


@dataclass(frozen=True, kw_only=True)
class MVUNetConfig:
    """Where the networks come from, and which part of the UNet trains."""

    pipeckpts: str = ""
    """The folder to start from, in FaceLift's published layout (docs/multiview.md); it has all parts but the UNet for
    good, and the UNet's first weights."""
    rays: bool = True
    """Tell the UNet the rays of its views, so that any input view and any rig will do. Off: the folder's rig only."""
    rig: RigConfig = field(default_factory=RigConfig)
    """Of the six views that `reconstruct` asks for and, without rays, that the data must have."""
    low_rank: int = 0
    """Train low-rank parts of this rank in the attentions instead of all weights; 0 trains everything."""
    recompute: bool = True
    """Compute activations again in the backward pass: a third more time, several times less memory."""

    def __post_init__(self) -> None:
        if self.low_rank < 0:
            raise InputError(f"expected low_rank 0 or more, found {self.low_rank}")


@dataclass(frozen=True, kw_only=True)
class MVUNetTaskConfig:
    """What the UNet learns from."""

    num_views: int = 6
    """Views of an example, the input view among them: they look at each other."""
    snr_gamma: float = 5.0
    weighting: Weighting = "matched"
    """"matched": the min-SNR weight of what the network predicts; "upstream": min(SNR, gamma) / SNR whatever it is."""
    drop_image: float = 0.05
    """Share of the objects whose picture's embedding is withheld, for guidance."""
    drop_both: float = 0.05
    drop_latent: float = 0.05
    backgrounds: tuple[float, ...] = (1.0, 0.0, 0.5)
    """Grey levels behind the animal, drawn for each example; the same behind input and wanted views."""
    features: str | None = None
    """Folder for the latents and embeddings of all samples, computed when they are first needed; about 100 kB for each
    view and background at 512 px."""
    validation_steps: int = 20
    validation_guidance: float = 3.0

    def __post_init__(self) -> None:
        shares = (self.drop_image, self.drop_both, self.drop_latent)
        if min(shares) < 0 or sum(shares) > 1:
            raise InputError(f"expected shares of at least 0 that add up to at most 1, found {shares}")
        if self.num_views < 2 or not self.backgrounds or not all(0 <= level <= 1 for level in self.backgrounds):
            raise InputError("expected at least two views, and one or more backgrounds in [0, 1]")


class MVUNetTask:
    """Noisy latents of some views of an animal to their velocity, given the picture of the first one."""

    better = "psnr_fg"

    def __init__(self, model: MVUNetConfig, task: MVUNetTaskConfig, *, bf16: bool) -> None:
        if not model.pipeckpts:
            raise InputError("expected mvunet.model.pipeckpts=FOLDER, the weights to start from, found none")
        self.parts = replace(load_pipeckpts(model.pipeckpts), rig=model.rig)
        self.model = self.parts.unet
        self.model.requires_grad_(True)
        if model.rays:
            make_posed(self.model)
        elif is_posed(self.model):
            raise InputError(f"{model.pipeckpts}: its UNet reads rays; expected mvunet.model.rays=true, found false")
        if model.low_rank:
            add_low_rank(self.model, model.low_rank)
        if model.recompute:
            self.model.enable_gradient_checkpointing()  # pyright: ignore[reportCallIssue]
        self.config = task
        self.bf16 = bf16
        self._features = FeatureSource(self.parts, None if task.features is None else Path(task.features))
        self._alphas = stock.alphas_cumprod(self.parts.configs["scheduler"])
        self._prediction = self.parts.configs["scheduler"].get("prediction_type", "epsilon")
        if self._prediction not in ("v_prediction", "epsilon"):
            raise InputError(f"scheduler: expected prediction of v_prediction or epsilon, found {self._prediction!r}")

    def loss(self, samples: Sequence[Sample], generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Weighted squared error of the velocity, mean over views and latent pixels."""
        device = next(self.model.parameters()).device
        latents, told = self._examples(samples, generator, device)
        steps = draw_steps(len(samples), len(self._alphas), generator)
        alpha = self._alphas[steps].to(device)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        with low_precision(latents, self.bf16):
            said = told.predict(self.model, noised(latents, noise, alpha), steps.to(device, torch.float32))
        truth = target(latents, noise, alpha, self._prediction)
        error = (said - truth).square().flatten(1).mean(1)
        weights = min_snr_weights(alpha, self.config.snr_gamma, self._prediction, self.config.weighting)
        return (weights * error).mean(), {"l2": float(error.detach().mean())}

    def _examples(
        self, samples: Sequence[Sample], generator: torch.Generator, device: torch.device
    ) -> tuple[Float[Tensor, "b v 4 h w"], Conditioning]:
        """Clean latents of the views, the input view first, and what the UNet is told about them."""
        choices = [self._choose(sample, generator) for sample in samples]
        count = min(len(chosen) for chosen in choices)
        levels = torch.randint(len(self.config.backgrounds), (len(samples),), generator=generator).tolist()
        features = [
            self._features(sample, chosen[:count], self.config.backgrounds[level], device)
            for sample, chosen, level in zip(samples, choices, levels, strict=True)
        ]
        size = self.parts.size_px
        cameras = [s.views.cameras[c[:count]].resized(size, size) for s, c in zip(samples, choices, strict=True)]
        wanted = Cameras.cat([c.reshape(1, count) for c in cameras]).to(device)
        latents = torch.stack([f.latents for f in features])
        embedding = torch.stack([f.embedding for f in features])
        noise = torch.randn(len(samples), count, embedding.shape[1], generator=generator).to(device)
        told = condition(self._placed(device), latents[:, 0], embedding, noise, wanted, wanted[:, :1])
        image, latent = dropped(len(samples), self.config, generator)
        return latents, told.dropped(image=image.to(device), latent=latent.to(device))

    def _placed(self, device: torch.device) -> Parts:
        """The small tensors that belong to the networks, where these are."""
        names = ("embedding_mean", "embedding_std", "view_text")
        return replace(self.parts, **{name: getattr(self.parts, name).to(device) for name in names})

    def _choose(self, sample: Sample, generator: torch.Generator) -> list[int]:
        """The input view, and the views beside it: any of the recording's cameras, or without rays the rig's six."""
        if is_posed(self.model):
            return random_subset(list(range(len(sample.views.cameras))), self.config.num_views, generator)
        on_rig, _ = split_rig_and_free(sample.views)
        return self._rig_views(sample, random_subset(on_rig, 1, generator)[0])

    def _rig_views(self, sample: Sample, front: int) -> list[int]:
        """The six views of the folder's rig, `front` first; all that a generator without rays can be shown."""
        on_rig, _ = split_rig_and_free(sample.views)
        chosen = facelift_subset(sample.views.cameras, on_rig, front)
        cameras, rig = sample.views.cameras[chosen], self.parts.rig
        azimuth = float(facing_azimuth_deg(cameras)[0])
        own = facelift_rig(
            azimuth, elevation_deg=rig.elevation_deg, fov_deg=rig.fov_deg, size_px=sample.views.cameras.width
        )
        if len(chosen) != NUM_WORDS or not same_cameras(cameras, own):
            raise InputError(
                f"sample {sample.sample_id}: expected FaceLift's six views at elevation {rig.elevation_deg:g} with a "
                f"field of view of {rig.fov_deg:g} degrees, found other cameras; mvunet.model.rays=true learns from any"
            )
        return chosen

    def validate(self, model: nn.Module, samples: Sequence[Sample]) -> tuple[dict[str, float], Tensor]:
        """The other views of held-out animals, made from their first free photograph (or rig view), on white."""
        device = next(model.parameters()).device
        generator = LatentGenerator(parts=replace(self.parts, unet=model).to(device))
        scores: dict[str, list[Tensor]] = {"psnr_fg": [], "blank_psnr_fg": [], "iou_alpha": []}
        rows = []
        white, size = torch.ones(3), self.parts.size_px
        for number, sample in enumerate(samples):
            views = sample.views[self._held_out_views(sample)].resized(size, size)
            with low_precision(next(model.parameters()), self.bf16):
                made = generator.generate(
                    views[:1],
                    views.cameras,
                    steps=self.config.validation_steps,
                    guidance=self.config.validation_guidance,
                    seed=number,
                ).to("cpu")
            truth, shown = views.over(white).images, made.over(white).images
            scores["psnr_fg"].append(psnr_fg(shown[1:], truth[1:], views.masks[1:]))
            scores["blank_psnr_fg"].append(psnr_fg(torch.ones_like(truth[1:]), truth[1:], views.masks[1:]))
            scores["iou_alpha"].append(iou_alpha(made.masks[1:], views.masks[1:]))
            rows.append(rearrange([truth, shown], "two v c h w -> c (two h) (v w)"))
        figures = {name: float(torch.cat(values).nanmean()) for name, values in scores.items()}
        return figures, torch.cat(rows[:PANEL_SAMPLES], dim=1)

    def _held_out_views(self, sample: Sample) -> list[int]:
        on_rig, free = split_rig_and_free(sample.views)
        if not is_posed(self.model):
            return self._rig_views(sample, on_rig[0])
        given = (free or on_rig)[0]
        return [given, *[i for i in on_rig if i != given][: self.config.num_views - 1]]

    def export(self, weights: Path, folder: Path) -> None:
        """Write a `pipeckpts` folder with weights that a run has kept; low-rank parts are merged."""
        state, where = read_state_dict(weights)
        rays = RAY_CHANNELS if is_posed(self.model) else 0
        unet = build_unet({**self.parts.configs["unet"], "ray_channels": rays})
        load_into(unet, merged_state(state), where)
        save_pipeckpts(replace(self.parts, unet=unet), folder)


def dropped(count: int, config: MVUNetTaskConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which objects lose the picture's embedding and which its latent: one number for each object, as upstream."""
    p = torch.rand(count, generator=generator)
    image_only, both = config.drop_image, config.drop_image + config.drop_both
    return p < both, (p >= image_only) & (p < both + config.drop_latent)
