"""A tiny `pipeckpts` folder with random weights, in FaceLift's published layout; not by MouseLift's own writer."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mouselift.models.mvunet import stock
from mouselift.models.mvunet.unet import FACELIFT_UNET, build_unet

WIDTH, TOKENS, EMBEDDING, SIZE = 16, 5, 12, 16
UNET: dict[str, Any] = {
    **FACELIFT_UNET,
    "sample_size": SIZE // 2,
    "block_out_channels": [8, 16],
    "down_block_types": ["CrossAttnDownBlockMV2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlockMV2D"],
    "layers_per_block": 1,
    "attention_head_dim": [2, 4],
    "norm_num_groups": 4,
    "cross_attention_dim": WIDTH,
    "projection_class_embeddings_input_dim": 2 * EMBEDDING,
    "cd_attention_last": False,
    "addition_downsample": False,
    "_diffusers_version": "0.30.3",
}
VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 4,
    "scaling_factor": 0.18215,
}
ENCODER: dict[str, Any] = {
    "architectures": ["CLIPVisionModelWithProjection"],
    "hidden_act": "gelu",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
    "projection_dim": EMBEDDING,
}
EXTRACTOR: dict[str, Any] = {
    "crop_size": {"height": 28, "width": 28},
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": {"shortest_edge": 28},
}
NOISING: dict[str, Any] = {
    "_class_name": "DDPMScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "num_train_timesteps": 1000,
}
SCHEDULER: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


def write_tiny_pipeckpts(folder: Path, seed: int = 0, **unet: Any) -> Path:
    """Write the folder; `unet` overrides keys of its configuration."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = {**UNET, **unet}
        networks = {
            "unet": build_unet({**config, "ray_channels": 0}),
            "vae": stock.build_vae(VAE),
            "image_encoder": stock.build_image_encoder(ENCODER),
        }
        text = torch.randn(6, TOKENS, WIDTH)
        normalizer = {"mean": 0.1 * torch.randn(1, EMBEDDING), "std": 0.5 + torch.rand(1, EMBEDDING)}
    configs = {
        "unet/config.json": config,
        "vae/config.json": VAE,
        "image_encoder/config.json": ENCODER,
        "feature_extractor/preprocessor_config.json": EXTRACTOR,
        "image_noising_scheduler/scheduler_config.json": NOISING,
        "scheduler/scheduler_config.json": SCHEDULER,
        "image_normalizer/config.json": {"embedding_dim": EMBEDDING},
        "model_index.json": {"_class_name": "StableUnCLIPImg2ImgPipeline"},
    }
    for name, content in configs.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    for name, network in networks.items():
        stem = "model" if name == "image_encoder" else "diffusion_pytorch_model"
        save_file(network.state_dict(), folder / name / f"{stem}.safetensors")
    save_file(normalizer, folder / "image_normalizer" / "diffusion_pytorch_model.safetensors")
    torch.save(text.half(), folder / "clr_embeds.pt")
    return folder
