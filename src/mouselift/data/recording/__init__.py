"""Synchronised video of several cameras, read frame-exactly (docs/recordings.md)."""

from mouselift.data.recording.check import check_recording, require_sound
from mouselift.data.recording.decoded import Decoded, cut_bgra
from mouselift.data.recording.layouts import open_recording
from mouselift.data.recording.masks import soft_mask
from mouselift.data.recording.reader import Instant, read_boxed_masks, read_frames, read_instants, read_masks
from mouselift.data.recording.record import Recording, ViewSource
from mouselift.data.recording.video import VideoInfo, scan_video

__all__ = [
    "Decoded",
    "Instant",
    "Recording",
    "VideoInfo",
    "ViewSource",
    "check_recording",
    "cut_bgra",
    "open_recording",
    "read_boxed_masks",
    "read_frames",
    "read_instants",
    "read_masks",
    "require_sound",
    "scan_video",
    "soft_mask",
]
