"""Perceptual distances between pictures: LPIPS, ST-LPIPS and the VGG19 features of FaceLift's training.

Numbers of different distances cannot be compared, so whatever shows one names it: `name` in keys, `title` in text.
"""

from mouselift.perceptual.distance import LPIPS, Perceptual
from mouselift.perceptual.load import load_perceptual
from mouselift.perceptual.vgg19 import VGG19Distance

__all__ = ["LPIPS", "Perceptual", "VGG19Distance", "load_perceptual"]
