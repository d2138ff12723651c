"""A `pipeckpts` folder, FaceLift's published layout: read without its code, without pickle and without a network."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from mouselift.atomic import atomic_folder
from mouselift.errors import InputError
from mouselift.geometry.rigs import FACELIFT_AZIMUTHS_DEG, FACELIFT_FOV_DEG
from mouselift.models.checkpoint_io import load_into, read_state_dict, save_weights
from mouselift.models.mvunet import stock
from mouselift.models.mvunet.unet import RAY_CHANNELS, build_unet, fit_state, is_posed

NUM_WORDS = len(FACELIFT_AZIMUTHS_DEG)
DIFFUSERS_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
WEIGHTS = {  # of each part, the preferred name first
    "unet": DIFFUSERS_WEIGHTS,
    "vae": DIFFUSERS_WEIGHTS,
    "image_encoder": ("model.safetensors", "pytorch_model.bin"),
    "image_normalizer": DIFFUSERS_WEIGHTS,
}
CONFIGS = {
    "unet": "config.json",
    "vae": "config.json",
    "image_encoder": "config.json",
    "feature_extractor": "preprocessor_config.json",
    "image_noising_scheduler": "scheduler_config.json",
    "scheduler": "scheduler_config.json",
}
TEXT = ("view_text.safetensors", "clr_embeds.pt")  # ours, and upstream's mvdiffusion/data/.../clr_embeds.pt
TEXT_KEY = "view_text"
RIG = "mouselift.json"  # only in folders written here; without it the rig is FaceLift's
INDEX = "model_index.json"
OLD_VAE_NAMES = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


@dataclass(frozen=True, kw_only=True)
class RigConfig:
    """The six cameras that a generator without ray conditioning makes: FaceLift's azimuths around the input view."""

    elevation_deg: float = 0.0
    fov_deg: float = FACELIFT_FOV_DEG

    def __post_init__(self) -> None:
        if not -90 < self.elevation_deg < 90 or not 5 <= self.fov_deg <= 120:
            raise InputError(f"expected an elevation within 90 and a field of view of 5 to 120 degrees, found {self}")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a `pipeckpts` folder holds, less the text encoder and its tokenizer, which are not needed to run.

    Attributes:
        unet: The multi-view UNet, the one part that is trained.
        vae: Pictures to latents and back.
        image_encoder: CLIP's, with its projection.
        embedding_mean: Of CLIP's embeddings, (1, I).
        embedding_std: Likewise.
        view_text: The text embeddings of FaceLift's six views, in the order of `FACELIFT_AZIMUTHS_DEG`.
        configs: The JSON of every part by the name of its folder, as it was read.
        rig: The rig that views are made for.
    """

    unet: nn.Module
    vae: nn.Module
    image_encoder: nn.Module
    embedding_mean: Float[Tensor, "1 i"]
    embedding_std: Float[Tensor, "1 i"]
    view_text: Float[Tensor, "6 k e"]
    configs: Mapping[str, Mapping[str, Any]]
    rig: RigConfig

    @property
    def latent_reduction(self) -> int:
        """How many pixels of a picture one latent pixel stands for, along a side."""
        return 2 ** (len(self.configs["vae"]["block_out_channels"]) - 1)

    @property
    def size_px(self) -> int:
        """Width and height of the pictures that the UNet was made for."""
        return int(self.configs["unet"]["sample_size"]) * self.latent_reduction

    def to(self, device: str | torch.device, dtype: torch.dtype | None = None) -> "Parts":
        """All parts on a device, in place for the networks."""
        return replace(
            self,
            unet=nn.Module.to(self.unet, device, dtype),  # diffusers' own `to` warns of what does not apply here
            vae=nn.Module.to(self.vae, device, dtype),
            image_encoder=nn.Module.to(self.image_encoder, device, dtype),
            embedding_mean=self.embedding_mean.to(device),
            embedding_std=self.embedding_std.to(device),
            view_text=self.view_text.to(device),
        )


def load_pipeckpts(folder: str | Path, text: str | Path | None = None) -> Parts:
    """Read a folder; float32, on the CPU, in evaluation mode.

    Args:
        folder: In the published layout. `.safetensors` are preferred; `.bin` are read as tensors only.
        text: The file of the fixed text embeddings (6, 77, 1024), when it does not lie in the folder as
            `view_text.safetensors` or `clr_embeds.pt`.

    Raises:
        InputError: Something is missing, unreadable, or does not fit FaceLift's network; one line says what.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"expected a pipeckpts folder, found none at {folder}")
    text_file = Path(text) if text is not None else _first(folder, TEXT)
    _check_complete(folder, text_file)
    configs = {part: _read_json(folder / part / name) for part, name in CONFIGS.items()}
    unet = build_unet(configs["unet"], str(folder / "unet" / "config.json"))
    vae = _built(stock.build_vae, configs["vae"], folder / "vae")
    encoder = _built(stock.build_image_encoder, configs["image_encoder"], folder / "image_encoder")
    for part, module in (("unet", unet), ("vae", vae), ("image_encoder", encoder)):
        state, where = read_state_dict(_weights(folder, part))
        load_into(module, _as_built(part, state, module), where)
    normalizer, where = read_state_dict(_weights(folder, "image_normalizer"))
    if not {"mean", "std"} <= set(normalizer):
        raise InputError(f"{where}: expected the tensors mean and std, found {', '.join(sorted(normalizer)) or 'none'}")
    assert text_file is not None  # _check_complete
    parts = Parts(
        unet=unet.eval().requires_grad_(False),
        vae=vae.eval().requires_grad_(False),
        image_encoder=encoder.eval().requires_grad_(False),
        embedding_mean=normalizer["mean"].reshape(1, -1),
        embedding_std=normalizer["std"].reshape(1, -1),
        view_text=_read_text(text_file, configs["unet"]),
        configs=configs,
        rig=_read_rig(folder / RIG),
    )
    _check_fit(parts, folder)
    return parts


def save_pipeckpts(parts: Parts, folder: Path) -> None:
    """Write a folder in the published layout, whole or not at all; replaces an earlier one.

    The UNet must be merged (`mouselift.models.mvunet.lora.merged`) if it has low-rank parts.
    """
    rays = RAY_CHANNELS if is_posed(parts.unet) else 0
    configs = {**parts.configs, "unet": {**parts.configs["unet"], "ray_channels": rays}}
    with atomic_folder(folder) as partial:
        for part, name in CONFIGS.items():
            (partial / part).mkdir()
            (partial / part / name).write_text(json.dumps(configs[part], indent=2) + "\n")
        for part in ("unet", "vae", "image_encoder"):
            save_weights(getattr(parts, part), partial / part / WEIGHTS[part][0], {})
        mean, std = parts.embedding_mean, parts.embedding_std
        (partial / "image_normalizer").mkdir()
        normalizer = {"mean": mean.cpu().contiguous(), "std": std.cpu().contiguous()}
        save_file(normalizer, partial / "image_normalizer" / DIFFUSERS_WEIGHTS[0])
        (partial / "image_normalizer" / "config.json").write_text(
            json.dumps({"_class_name": "StableUnCLIPImageNormalizer", "embedding_dim": mean.shape[1]}, indent=2) + "\n"
        )
        save_file({TEXT_KEY: parts.view_text.cpu().contiguous()}, partial / TEXT[0])
        (partial / RIG).write_text(json.dumps({"rig": vars(parts.rig)}, indent=2) + "\n")
        (partial / INDEX).write_text(json.dumps(_index(), indent=2) + "\n")


def _index() -> dict[str, Any]:
    """What diffusers keeps beside the parts; read by nobody here."""
    return {
        "_class_name": "StableUnCLIPImg2ImgPipeline",
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "image_normalizer": ["stable_diffusion", "StableUnCLIPImageNormalizer"],
        "image_noising_scheduler": ["diffusers", "DDPMScheduler"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "unet": ["mv_unet", "UNetMV2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def _check_complete(folder: Path, text: Path | None) -> None:
    missing = [f"{part}/{name}" for part, name in CONFIGS.items() if not (folder / part / name).is_file()]
    missing += [f"{part}/{names[0]}" for part, names in WEIGHTS.items() if _first(folder / part, names) is None]
    if text is None or not text.is_file():
        missing.append(TEXT[1] if text is None else str(text))
    if missing:
        note = "; clr_embeds.pt comes with FaceLift's code" if TEXT[1] in missing else ""
        raise InputError(f"{folder}: expected a pipeckpts folder, found no {', no '.join(missing)}{note}")


def _check_fit(parts: Parts, folder: Path) -> None:
    unet, width = parts.configs["unet"], parts.embedding_mean.shape[1]
    encoded = int(parts.configs["image_encoder"].get("projection_dim", 0))
    expected = unet.get("projection_class_embeddings_input_dim")
    if not encoded == width == parts.embedding_std.shape[1] or expected != 2 * width:
        raise InputError(
            f"{folder}: expected an image embedding of one width in all parts, found {encoded} in image_encoder, "
            f"{width} in image_normalizer and {expected} / 2 in unet"
        )
    channels = int(parts.configs["vae"].get("latent_channels", 4))
    if channels != 4:
        raise InputError(f"{folder}: expected a vae of 4 latent channels, found {channels}")


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _weights(folder: Path, part: str) -> Path:
    path = _first(folder / part, WEIGHTS[part])
    assert path is not None  # _check_complete
    return path


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: expected JSON, found {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, found a {type(content).__name__}")
    return content


def _built(build: Any, config: Mapping[str, Any], folder: Path) -> nn.Module:
    try:
        return build(config)
    except InputError:
        raise
    except (TypeError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{folder}/config.json: expected the sizes of a network, found: {reason}") from None


def _as_built(part: str, state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Names of older libraries to today's, and rays at zero where published weights know none."""
    if part == "unet":
        return fit_state(state, module)
    if part == "image_encoder":
        return {key: value for key, value in state.items() if not key.endswith(".position_ids")}  # a constant
    renamed = {}
    for key, value in state.items():
        for old, new in OLD_VAE_NAMES.items():
            key = key.replace(old, new)
        renamed[key] = value.reshape(value.shape[:2]) if ".attentions." in key and value.ndim == 4 else value
    return renamed


def _read_text(path: Path, unet: Mapping[str, Any]) -> Float[Tensor, "6 k e"]:
    """The fixed embeddings: a file of ours, or upstream's bare tensor."""
    if path.suffix == ".safetensors":
        state, _ = read_state_dict(path)
        tensor: Any = state.get(TEXT_KEY)
    else:
        try:
            tensor = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises many kinds for a file that is not one of its own
            reason = str(error).splitlines()[0]
            raise InputError(f"{path}: expected a tensor of text embeddings, found {reason}") from None
    width = unet.get("cross_attention_dim")
    fits = isinstance(tensor, Tensor) and tensor.ndim == 3 and (tensor.shape[0], tensor.shape[2]) == (NUM_WORDS, width)
    if not fits:
        found = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
        raise InputError(f"{path}: expected text embeddings ({NUM_WORDS}, tokens, {width}), found {found}")
    return tensor.float()


def _read_rig(path: Path) -> RigConfig:
    if not path.is_file():
        return RigConfig()
    content = _read_json(path).get("rig", {})
    try:
        return RigConfig(**content)
    except TypeError as error:
        raise InputError(f"{path}: expected a rig of elevation_deg and fov_deg, found {error}") from None
