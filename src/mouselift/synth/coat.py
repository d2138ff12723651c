"""Coats: what colour each part of an animal has, before any light falls on it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mouselift.body.mesh import Body, Region

RGB = tuple[float, float, float]

COATS = ("black", "agouti", "white", "brown", "grey", "piebald")

_PINK: RGB = (0.72, 0.54, 0.51)
_DUSKY: RGB = (0.50, 0.41, 0.40)
_DARK_EYE: RGB = (0.02, 0.018, 0.018)
_ALBINO_EYE: RGB = (0.62, 0.16, 0.16)


@dataclass(frozen=True, kw_only=True)
class Coat:
    """Reflectances of one animal, as sRGB-encoded colours in [0, 1].

    Attributes:
        name: One of `COATS`.
        back: Fur of back, flanks and head.
        belly: Fur of the belly.
        skin: Feet, tail and nose.
        ear: The ears.
        eye: The eyes.
        ticking: How much single hairs differ from their neighbours, relative.
        patches: Share of the body covered by white patches.
        patch_seed: Where these patches lie.
    """

    name: str
    back: RGB
    belly: RGB
    skin: RGB
    ear: RGB
    eye: RGB = _DARK_EYE
    ticking: float = 0.15
    patches: float = 0.0
    patch_seed: int = 0


_TEMPLATES = {
    "black": Coat(
        name="black", back=(0.125, 0.115, 0.11), belly=(0.16, 0.145, 0.14), skin=_DUSKY, ear=(0.42, 0.33, 0.32)
    ),
    "agouti": Coat(
        name="agouti",
        back=(0.43, 0.365, 0.28),
        belly=(0.64, 0.58, 0.49),
        skin=_PINK,
        ear=(0.62, 0.48, 0.44),
        ticking=0.30,
    ),
    "white": Coat(
        name="white",
        back=(0.90, 0.88, 0.85),
        belly=(0.92, 0.90, 0.88),
        skin=_PINK,
        ear=(0.86, 0.68, 0.64),
        eye=_ALBINO_EYE,
        ticking=0.06,
    ),
    "brown": Coat(name="brown", back=(0.36, 0.24, 0.17), belly=(0.46, 0.34, 0.26), skin=_PINK, ear=(0.60, 0.44, 0.40)),
    "grey": Coat(name="grey", back=(0.40, 0.40, 0.41), belly=(0.56, 0.55, 0.55), skin=_PINK, ear=(0.60, 0.50, 0.49)),
    "piebald": Coat(
        name="piebald",
        back=(0.15, 0.13, 0.12),
        belly=(0.55, 0.53, 0.51),
        skin=_PINK,
        ear=(0.55, 0.43, 0.41),
        patches=0.45,
    ),
}
_PATCH_WHITE: RGB = (0.88, 0.86, 0.83)


def sample_coat(rng: np.random.Generator, name: str) -> Coat:
    """One individual's coat: the named template with small changes of lightness and hue.

    Raises:
        ValueError: The name is not one of `COATS`.
    """
    if name not in _TEMPLATES:
        raise ValueError(f"coat {name!r} is unknown, expected one of {', '.join(COATS)}")
    template = _TEMPLATES[name]
    fur_gain, skin_gain = np.exp(rng.normal(0, [0.14, 0.10]))

    def varied(colour: RGB, gain: float) -> RGB:
        r, g, b = np.clip(np.array(colour) * gain * np.exp(rng.normal(0, 0.025, 3)), 0.01, 0.96)
        return float(r), float(g), float(b)

    return Coat(
        name=name,
        back=varied(template.back, fur_gain),
        belly=varied(template.belly, fur_gain * np.exp(rng.normal(0, 0.08))),
        skin=varied(template.skin, skin_gain),
        ear=varied(template.ear, skin_gain),
        eye=template.eye,
        ticking=template.ticking * float(rng.uniform(0.7, 1.3)),
        patches=template.patches * float(rng.uniform(0.5, 1.4)),
        patch_seed=int(rng.integers(2**31)),
    )


def linear_from_srgb(encoded: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Decode sRGB to linear light."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((np.maximum(encoded, 0) + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(linear: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Encode linear light as sRGB, clipped to [0, 1]."""
    light = np.clip(linear, 0, 1).astype(np.float32)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** np.float32(1 / 2.4) - 0.055)


def vertex_albedo(coat: Coat, body: Body) -> Float[np.ndarray, "n 3"]:
    """Linear reflectance of each vertex: regions with soft borders, and patches."""
    palette = {
        Region.BACK: coat.back,
        Region.BELLY: coat.belly,
        Region.FACE: coat.back,
        Region.WHISKER_PAD: coat.back,
        Region.EAR: coat.ear,
        Region.TAIL: coat.skin,
        Region.FOOT: coat.skin,
        Region.NOSE: coat.skin,
        Region.EYE: coat.eye,
    }
    colours = np.array([palette[region] for region in Region])[body.regions]
    if coat.patches > 0:
        furred = (body.fur_mm > 0) & ~np.isin(body.regions, [Region.EAR, Region.TAIL])
        white = furred & (_smooth_noise(body.vertices, coat.patch_seed) < _noise_quantile(coat.patches))
        colours[white] = _PATCH_WHITE
    return linear_from_srgb(colours).astype(np.float32)


def _smooth_noise(points_mm: Float[np.ndarray, "n 3"], seed: int) -> Float[np.ndarray, "n"]:
    """A random field of unit variance whose features are some 20 mm wide."""
    rng = np.random.default_rng(seed)
    frequencies = rng.normal(0, 1 / 9.0, (3, 24))
    phases = rng.uniform(0, 2 * np.pi, 24)
    return np.cos(points_mm @ frequencies + phases).sum(1) * np.sqrt(2 / 24)


def _noise_quantile(share: float) -> float:
    """The value below which about `share` of that field lies (it is nearly normal)."""
    return float(np.clip(1.7 * np.log(max(share, 1e-3) / max(1 - share, 1e-3)) / 2.9, -3, 3))
