"""Masks for recordings that come without any (docs/segmentation.md)."""

from mouselift.data.segmentation.segmenter import SAMPLES, SegmentedView, Segmenter, learn_segmenter

__all__ = ["SAMPLES", "SegmentedView", "Segmenter", "learn_segmenter"]
