"""Reconstruction of held-out views and instants, beside baselines (docs/evaluation.md)."""

from mouselift.evaluate.baselines import blank, mean_image, mean_view, nearest_view, rendered
from mouselift.evaluate.figures import METRICS, WHITE, KeypointRow, Row, figures_of

__all__ = [
    "METRICS",
    "WHITE",
    "KeypointRow",
    "Row",
    "blank",
    "figures_of",
    "mean_image",
    "mean_view",
    "nearest_view",
    "rendered",
]
