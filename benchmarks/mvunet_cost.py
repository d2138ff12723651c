"""What FaceLift's multi-view diffusion costs at full size, counted on the meta device: no weights, no GPU, a minute.

python benchmarks/mvunet_cost.py

Operations are those of matrix products, convolutions and attention, as PyTorch counts them (a multiplication and an
addition are two). Memory is that of the tensors; a run also needs what its libraries take.
"""

import sys

import torch
from torch.utils.flop_counter import FlopCounterMode

from mouselift.models.mvunet import attention, stock
from mouselift.models.mvunet.lora import add_low_rank
from mouselift.models.mvunet.unet import FACELIFT_UNET, build_unet, predict

VIEWS = 6
LATENT_PX, PICTURE_PX, TOKENS, TEXT, IMAGE = 64, 512, 77, 1024, 2048
VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
IMAGE_ENCODER = {
    "hidden_act": "gelu",
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "projection_dim": 1024,
}
TERA, GIGA = 1e12, 1e9


class Fused:
    """Attention as GPUs do it, without the matrix of weights: on the meta device torch would take another way."""

    @staticmethod
    def scaled_dot_product_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[0]


def main() -> None:
    torch.set_default_device("meta")
    attention.F = Fused  # pyright: ignore[reportAttributeAccessIssue]
    report("one step of sampling with guidance, sparse attention", sampling_flop(sparse=True, objects=2))
    report("one step of sampling with guidance, dense attention", sampling_flop(sparse=False, objects=2))
    vae, encoder = stock.build_vae(VAE), stock.build_image_encoder(IMAGE_ENCODER)
    pictures = torch.empty(VIEWS, 3, PICTURE_PX, PICTURE_PX)
    report("encoding one picture to a latent", flop(lambda: vae.encode(pictures[:1])))
    report("CLIP's embedding of it", flop(lambda: encoder(pixel_values=torch.empty(1, 3, 224, 224))))
    report("decoding six views", flop(lambda: vae.decode(torch.empty(VIEWS, 4, LATENT_PX, LATENT_PX))))
    for name, network in (("UNet", build_unet(FACELIFT_UNET)), ("VAE", vae), ("image encoder", encoder)):
        count = sum(p.numel() for p in network.parameters())
        sys.stdout.write(f"{name}: {count:,} parameters, {2 * count / GIGA:.2f} GB in half precision\n")
    for recompute in (False, True):
        stored, total = training_step(recompute)
        way = "with" if recompute else "without"
        sys.stdout.write(
            f"training, one object of {VIEWS} views, bf16, {way} recomputing: {stored / GIGA:.1f} GB kept for the "
            f"backward pass, {total / TERA:.1f} TFLOP\n"
        )
    for rank in (4, 16, 64):
        unet = build_unet(FACELIFT_UNET)
        add_low_rank(unet, rank)
        trained = sum(p.numel() for p in unet.parameters() if p.requires_grad)
        sys.stdout.write(f"low rank {rank}: {trained:,} trained parameters\n")


def inputs(objects: int) -> tuple[torch.Tensor, ...]:
    """Latents, time, text and image of a call."""
    return (
        torch.empty(objects, VIEWS, 8, LATENT_PX, LATENT_PX),
        torch.empty(objects),
        torch.empty(objects, VIEWS, TOKENS, TEXT),
        torch.empty(objects, VIEWS, IMAGE),
    )


@torch.no_grad()
def sampling_flop(*, sparse: bool, objects: int) -> int:
    unet = build_unet({**FACELIFT_UNET, "sparse_mv_attention": sparse}).eval()
    return flop(lambda: predict(unet, *inputs(objects)))


def training_step(recompute: bool) -> tuple[int, int]:
    """Bytes that autograd keeps between the forward and the backward pass, weights aside, and operations of both."""
    unet = build_unet(FACELIFT_UNET).to(torch.bfloat16).train()
    if recompute:
        unet.enable_gradient_checkpointing()  # pyright: ignore[reportCallIssue]
    weights = {p.untyped_storage()._cdata for p in unet.parameters()}
    seen: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            seen[storage._cdata] = storage  # keeps it alive, so that no two share an address
        return tensor

    values = [value.to(torch.bfloat16) for value in inputs(1)]
    counter = FlopCounterMode(display=False)
    with counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = predict(unet, *values)
        stored = sum(storage.nbytes() for storage in seen.values())
        out.sum().backward()
    return stored, counter.get_total_flops()


def flop(call) -> int:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        call()
    return counter.get_total_flops()


def report(what: str, count: int) -> None:
    sys.stdout.write(f"{what}: {count / TERA:.2f} TFLOP\n")


if __name__ == "__main__":
    main()
