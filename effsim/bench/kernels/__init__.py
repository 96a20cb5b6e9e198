"""One kernel per file, found because it lies here.

A kernel module has ``cases(device, quick) -> list[Case]``, the most telling first, and ``prepare(case, device) -> Work``, which
allocates the operands. What a device cannot do raises, and the runner notes the reason.
"""
