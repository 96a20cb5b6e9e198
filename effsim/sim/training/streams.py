"""Random numbers by name: what one cause of failures draws does not shift what another draws."""

import zlib

import numpy as np


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the generator of a cause; the same seed and name always give the same numbers.

    >>> a, b = stream(1, "node failures"), stream(1, "switch failures")
    >>> a.random() == stream(1, "node failures").random(), a.random() == b.random()
    (True, False)
    """
    return np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(name.encode())]))
