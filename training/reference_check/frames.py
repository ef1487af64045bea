"""Synthetic frames that the golden pixels were computed from; integer arithmetic makes them equal on all machines."""

import numpy as np

from serve.arrays import UInt8Array


def synthetic_frame(height: int, width: int, seed: int) -> UInt8Array:
    """Return a frame [height, width, 3] with a gradient, a checkerboard, noise, and inverted rectangles."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij", sparse=True)
    mask = 0xFFFFFFFF
    mixed = (x * 73856093) ^ (y * 19349663) ^ (c * 83492791) ^ (seed * 2654435761 & mask)
    mixed &= mask
    mixed ^= mixed >> 13
    mixed = (mixed.astype(np.uint64) * np.uint64(1274126177) & np.uint64(mask)).astype(np.int64)
    mixed ^= mixed >> 16
    ramps = np.empty((height, width, 3), np.int64)
    ramps[..., 0] = x[..., 0] * 192 // max(width - 1, 1)
    ramps[..., 1] = y[..., 0] * 192 // max(height - 1, 1)
    ramps[..., 2] = (x + y)[..., 0] * 192 // max(width + height - 2, 1)
    frame = ramps + 32 * ((x // 7 + y // 5 + seed) % 2) + (mixed & 31)
    for channel in range(3):
        top = (37 * seed + 53 * channel) % max(height - height // 4, 1)
        left = (59 * seed + 91 * channel) % max(width - width // 4, 1)
        part = frame[top : top + height // 5, left : left + width // 6, channel]
        part[:] = 255 - part
    clipped: UInt8Array = frame.clip(0, 255).astype(np.uint8)
    return clipped
