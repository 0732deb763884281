"""Asks the driver whether there is a CUDA device; importing torch for that takes seconds."""

import ctypes

_SUCCESS = 0


def has_cuda() -> bool:
    """Whether the driver offers this process a device; CUDA_VISIBLE_DEVICES is respected."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    if driver.cuInit(0) != _SUCCESS or driver.cuDeviceGetCount(ctypes.byref(count)) != _SUCCESS:
        return False
    return count.value > 0
