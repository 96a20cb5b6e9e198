import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.cost.memory import ServingMemory, cache_bytes, max_batch, require_batch, require_weights
from effsim.errors import InfeasibleError
from effsim.workload.operations import CacheLayer

GIB = 2.0**30
PLAIN, WINDOWED, STATE = CacheLayer(1_000.0), CacheLayer(1_000.0, max_tokens=512), CacheLayer(bytes_per_sequence=4_096.0)
ROOMY = ServingMemory(weights_bytes=10 * GIB, reserve_bytes=2 * GIB, usable_bytes=72 * GIB, device_bytes=80 * GIB)


def test_what_weights_and_reserve_leave():
    assert ROOMY.cache_bytes == 60 * GIB


def test_windows_cap_and_states_do_not_grow():
    """1,000 tokens: 1,000 · 1,000 + 512 · 1,000 + 4,096."""
    assert cache_bytes((PLAIN, WINDOWED, STATE), 1_000) == 1_000_000 + 512_000 + 4_096
    assert cache_bytes((STATE,), 10**6) == 4_096


@given(st.floats(1.0, 1e6), st.integers(1, 8))
def test_the_largest_batch_fills_the_cache(context, ranks):
    layers = (PLAIN, WINDOWED, STATE)[: 1 + ranks % 3]
    fits = float(max_batch(ROOMY, layers, context))
    assert fits * cache_bytes(layers, context) == pytest.approx(ROOMY.cache_bytes)
    require_batch(ROOMY, layers, fits * (1 - 1e-9), context)
    with pytest.raises(InfeasibleError):
        require_batch(ROOMY, layers, fits * (1 + 1e-6), context)


def test_without_a_cache_any_batch_fits():
    assert np.isinf(max_batch(ROOMY, (), 100.0))


def test_a_batch_that_does_not_fit_names_constraint_size_and_remedies():
    """2^20 tokens of 1,000 bytes are 0.977 GiB a sequence: 61 fit into 60 GiB."""
    with pytest.raises(
        InfeasibleError, match=r"KV cache of 62 sequences with 1,048,576 tokens each needs 60\.5 GiB.*60\.0 GiB are left: 0\.5 GiB short"
    ) as caught:
        require_batch(ROOMY, (PLAIN,), 62.0, 2.0**20)
    assert caught.value.constraint == "KV cache memory"
    assert caught.value.remedies[0] == "a batch of at most 61"
    assert re.search("kv_precision", str(caught.value))


def test_weights_that_do_not_fit_name_how_many_devices_would_hold_them():
    """140 GiB against 70 usable after the reserve: two devices hold them to the byte."""
    small = ServingMemory(140 * GIB, 2 * GIB, 72 * GIB, 80 * GIB)
    with pytest.raises(InfeasibleError, match=r"m does not fit on d: weights 140\.0 GiB.*70\.0 GiB short") as caught:
        require_weights(small, "m", "d", 1)
    assert caught.value.constraint == "accelerator memory"
    assert caught.value.remedies[0].startswith("at least 2 accelerators")
    require_weights(ROOMY, "m", "d", 1)
