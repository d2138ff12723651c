"""What a training step of GS-LRM costs: floating-point operations and memory, from the sizes alone.

Checked against PyTorch's own counter and against the tensors that autograd really keeps
(tests/unit/train/test_cost.py, benchmarks/train_step.py).
"""

from dataclasses import dataclass

from mouselift.geometry.hull import POINTS_AT_A_TIME, RAY_SAMPLES
from mouselift.models.gslrm import HULL_CHANNELS, RAY_CHANNELS, GSLRMConfig

BACKWARD_FACTOR = 2  # of the forward pass: gradients of the inputs and of the weights
STATE_BYTES = 20  # per parameter in float32: weight, gradient, AdamW's two moments, moving average
GAUSSIAN_BYTES = 350  # per Gaussian: what the head's last lines hold at their peak, float32 (measured: 344)
# Per ray, and per ray and view: of the rays that look for the hull together (measured: 436, 1592).
HULL_BYTES = (440, 1600)
FOUND_BYTES = 24  # per ray: what the others leave
RENDER_BYTES = 150  # per Gaussian and target view: projections, their gradients, lists of tiles (gsplat's buffers)
IMAGE_BYTES = 200  # per pixel of a target view: renders, truth, what the losses keep
PERCEPTUAL_BYTES = 9800  # per pixel of a target view (measured: ST-LPIPS 3000 with AlexNet, 9770 with VGG; VGG19 3180)
STAT_BYTES = 16  # per token and layer: means and deviations of two layer norms


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What one micro-batch holds.

    Attributes:
        batch: Samples.
        num_views: Context views of each.
        size_px: Of a square context view.
        num_targets: Views that are rendered.
        target_px: Of a square target view.
        perceptual: Whether a perceptual loss compares the targets.
    """

    batch: int = 1
    num_views: int = 6
    size_px: int = 512
    num_targets: int = 4
    target_px: int = 512
    perceptual: bool = False


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one device.

    Attributes:
        state: Weights, gradients, moments, moving average.
        layers: What the transformer layers keep until the backward pass.
        one_layer: What a single layer keeps while it is computed again; 0 when none is.
        head: From the last layer to the Gaussians.
        rendering: Of the target views, and their losses.
        hull: While rays look for the visual hull, before all the rest; 0 when they do not.
    """

    state: int
    layers: int
    one_layer: int
    head: int
    rendering: int
    hull: int

    @property
    def activations(self) -> int:
        """The most that a micro-batch needs at a time."""
        return max(self.hull, self.layers + max(self.one_layer, self.head + self.rendering))

    @property
    def total(self) -> int:
        """The peak."""
        return self.state + self.activations


def num_tokens(config: GSLRMConfig, work: Workload) -> int:
    """Tokens of one sample, when no patch is skipped."""
    return config.num_free_gaussians + work.num_views * (work.size_px // config.patch_size_px) ** 2


def num_parameters(config: GSLRMConfig) -> int:
    """Weights of the model; those of QK-norm, a few per head, are left out."""
    d, channels = config.width, config.gaussian_channels
    patch = config.patch_size_px**2
    layers = config.num_layers * (12 * d * d + 2 * d)
    heads = d * channels + d + d * channels * patch + d
    return layers + heads + _input_channels(config) * patch * d + d + config.num_free_gaussians * d


def forward_flops(config: GSLRMConfig, work: Workload) -> int:
    """Floating-point operations of one forward pass, a multiplication and its addition counted as two.

    Matrix products and attention; norms, activations and the rendering are left out, as usual.
    """
    d, channels = config.width, config.gaussian_channels
    tokens = num_tokens(config, work)
    patches = tokens - config.num_free_gaussians
    pixels = config.patch_size_px**2
    linear = config.num_layers * 2 * tokens * 12 * d * d
    attention = config.num_layers * 4 * tokens * tokens * d
    embedding = 2 * patches * _input_channels(config) * pixels * d
    heads = 2 * d * channels * (patches * pixels + config.num_free_gaussians)
    return work.batch * (linear + attention + embedding + heads)


def training_flops(config: GSLRMConfig, work: Workload) -> int:
    """Of forward and backward: what the model needs. Computing layers again costs more and does not count."""
    return (1 + BACKWARD_FACTOR) * forward_flops(config, work)


def layer_bytes(config: GSLRMConfig, tokens: int, *, bf16: bool) -> int:
    """What autograd keeps of one transformer layer, its input among it.

    Per token, in widths d: the float32 residual before each norm (2 x 4 bytes); in the precision of the matrix products
    both norms' outputs (2), q, k, v (3), what attention returns (1) and the hidden layer before and after GELU (8);
    with QK-norm three more.
    """
    wide = 2 if bf16 else 4
    heads = config.width // config.head_dim
    values, per_head = (17, 20) if config.qk_norm else (14, 4)
    return tokens * (config.width * (2 * 4 + values * wide) + STAT_BYTES + per_head * heads)


def training_memory(config: GSLRMConfig, work: Workload, *, bf16: bool, recompute: bool, shards: int = 1) -> Memory:
    """Memory of a training step on one device.

    The terms for the rendering are those of gsplat's buffers, and unlike the others not measured here.

    Args:
        config: Sizes of the model.
        work: The micro-batch.
        bf16: As in the run.
        recompute: Whether layers are computed again in the backward pass.
        shards: Processes over which FSDP cuts the weights up.
    """
    d, tokens, wide = config.width, work.batch * num_tokens(config, work), 2 if bf16 else 4
    patches = tokens - work.batch * config.num_free_gaussians
    pixels = config.patch_size_px**2
    gaussians = patches * pixels
    layer = layer_bytes(config, tokens, bf16=bf16) + (2 * 12 * d * d if bf16 else 0)  # autocast's copies of weights
    embedding = patches * (_input_channels(config) * pixels * wide + 4 * d)
    hull_base, hull_per_view = HULL_BYTES
    gaussians_from_hull = gaussians if config.start_from_hull else 0
    rays = min(gaussians_from_hull, POINTS_AT_A_TIME // (RAY_SAMPLES * work.num_views))
    image = IMAGE_BYTES + (PERCEPTUAL_BYTES if work.perceptual else 0)
    return Memory(
        state=STATE_BYTES * num_parameters(config) // shards,
        layers=embedding + config.num_layers * (tokens * 4 * d if recompute else layer),
        one_layer=layer if recompute else 0,
        head=tokens * 2 * 4 * d + gaussians * GAUSSIAN_BYTES,
        rendering=work.num_targets * (gaussians * RENDER_BYTES + work.batch * work.target_px**2 * image),
        hull=rays * (hull_base + hull_per_view * work.num_views) + gaussians_from_hull * FOUND_BYTES,
    )


def _input_channels(config: GSLRMConfig) -> int:
    return RAY_CHANNELS + (HULL_CHANNELS if config.start_from_hull else 0)
