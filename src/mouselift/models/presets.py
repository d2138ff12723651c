"""Named sizes of GS-LRM (docs/weights.md has the table; configs/sizes/ holds the same as YAML)."""

from mouselift.models.gslrm import GSLRMConfig

GSLRM_PRESETS: dict[str, GSLRMConfig] = {
    # The weights that ship.
    "small": GSLRMConfig(width=256, num_layers=8, skip_empty_patches=True, start_from_hull=True, context_size_px=64),
    # What one GPU trains from scratch: the small one's habits at four times its context.
    "base": GSLRMConfig(width=768, num_layers=12, skip_empty_patches=True, start_from_hull=True, context_size_px=256),
    # FaceLift's published weights: 303,565,824 parameters.
    "facelift": GSLRMConfig(),
}
