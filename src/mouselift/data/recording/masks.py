"""What becomes of the grey values of a mask video."""

import cv2
import numpy as np
from jaxtyping import UInt8

MASK_THRESHOLD = 127  # of the stored luma: half way between background and foreground, in either colour range
RAMP = 64  # grey values on each side of the threshold that count as an edge; the codec's ringing stays beyond
_EDGE = ((np.arange(256) - MASK_THRESHOLD) / (2 * RAMP) * 255 + 127.5).clip(0, 255).round().astype(np.uint8)
_BLUR = np.array([1, 6, 1], np.float32) / 8


def soft_mask(luma: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Recover a clean mask from a lossy video's grey values.

    Values beyond 127 -+ 64 become 0 and 255, those between a ramp; then a 3x3 filter, (1, 6, 1) / 8 each way, gives
    hard stairs an edge about a pixel wide. The contour of half foreground stays where the video has it. Measured on
    ellipses: the error against the true coverage of edge pixels is half of that of a bare threshold.

    Args:
        luma: As the video stores it.

    Returns:
        0 background, 255 foreground.
    """
    mask = np.zeros(luma.shape, np.uint8)
    _, inside = cv2.threshold(luma, MASK_THRESHOLD - RAMP, 255, cv2.THRESH_BINARY)
    left, top, width, height = cv2.boundingRect(inside)
    if width:  # a mouse covers little of the picture: filter the box around it only
        box = (slice(max(top - 1, 0), top + height + 1), slice(max(left - 1, 0), left + width + 1))
        mask[box] = cv2.sepFilter2D(cv2.LUT(luma[box], _EDGE), -1, _BLUR, _BLUR, borderType=cv2.BORDER_REPLICATE)
    return mask
