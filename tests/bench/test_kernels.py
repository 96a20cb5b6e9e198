"""Every file in the folder of kernels keeps the contract, on NumPy and, where it is installed, PyTorch."""

import dataclasses
import importlib.util
import itertools

import numpy as np
import pytest

from effsim.bench.case import NAMES, kernel
from effsim.bench.devices.base import ITEM_BYTES
from effsim.bench.devices.numpy_device import NumpyDevice
from effsim.bench.devices.torch_device import TorchDevice
from effsim.bench.kernels import decode_attention, gemm, grouped_gemm, prefill_attention, transformer
from effsim.bench.measure import DEFAULT, QUICK, measure
from effsim.bench.plan import plan
from effsim.errors import SpecError
from tests.bench.fakes import TINY, Accelerator, instruments

NUMBERS = {
    "gemm": {"m", "n", "k"},
    "gemm_duty": {"m", "n", "k"},
    "grouped_gemm": {"tokens", "experts", "top_k", "n", "k", "touched_experts", "fullest_expert"},
    "prefill_attention": {"batch", "context", "heads", "kv_heads", "head_dim"},
    "decode_attention": {"batch", "context", "heads", "kv_heads", "head_dim", "method"},
    "transformer_decode": {"batch", "context", "layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocabulary"},
    "all_reduce": {"elements", "devices"},
}
"""What a calibration reads; a change here is a change of the file's schema."""


def devices():
    found = [NumpyDevice(), *([TorchDevice("cpu")] if importlib.util.find_spec("torch") else [])]
    for device in found:
        device.facts = dataclasses.replace(device.facts, cache_bytes=0)  # one set of operands: quick to make
    return found


SMALL = [
    pytest.param(device, name, case, id=f"{device.facts.library} {case.key}")
    for device in devices()
    for name in NAMES
    for case in kernel(name).cases(device, quick=True)
    if case.bytes < 1e7
]


@pytest.mark.parametrize(("device", "name", "case"), SMALL)
def test_what_is_planned_runs_and_is_timed(device, name, case):
    work = kernel(name).prepare(case, device)
    assert work.implementation
    if case.duty_ratio:
        row = measure(case, work, instruments(device), TINY)
        assert row.time_s > 0.0
        assert row.key == case.key
        assert row.buffers == work.buffers


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("device", [NumpyDevice(), Accelerator(), Accelerator(count=8)], ids=["cpu", "gpu", "8 gpus"])
def test_cases_are_told_apart_and_count_their_work(device, quick):
    for name in NAMES:
        cases = kernel(name).cases(device, quick)
        keys = [case.key for case in cases]
        assert len(set(keys)) == len(keys)
        assert cases or name == "all_reduce"
        for case in cases:
            assert case.kind == "idle" or case.bytes > 0.0
            assert set(case.shape) >= NUMBERS.get(case.kind, set())
            assert not case.dtype or case.dtype in ITEM_BYTES


@pytest.mark.parametrize(("settings", "most_s"), [(QUICK, 120.0), (DEFAULT, 480.0)])
def test_a_metered_run_of_an_accelerator_fits_its_promise(settings, most_s):
    planned = plan(Accelerator(), settings)
    each_s = settings.warmup_s + settings.timing_s + settings.window_s + 0.3
    assert len(planned) * each_s < settings.limit_s < most_s


def test_the_most_telling_cases_come_first():
    planned = plan(Accelerator(), DEFAULT)
    assert planned[0].kernel == "idle"
    kernels = [entry.kernel for entry in itertools.islice(planned, len(NAMES) - 1)]
    assert len(set(kernels)) == len(NAMES) - 1  # all but all_reduce once, before any twice


def test_power_limits_are_measured_on_few_cases_and_last():
    planned = plan(Accelerator(), DEFAULT.__class__(power_limits_w=(400.0, 500.0)))
    limits = [entry.case.power_limit_w for entry in planned]
    first = limits.index(400.0)
    assert set(limits[:first]) == {None}
    assert limits[first:] == sorted(limits[first:])
    assert len(limits[first:]) == 12
    assert len({entry.case.key for entry in planned}) == len(planned)


def test_an_unknown_kernel_is_named():
    with pytest.raises(SpecError, match="no kernel is called 'gem'; choose from all_reduce"):
        plan(NumpyDevice(), DEFAULT.__class__(only=("gem",)))


def test_counts_by_hand():
    product = gemm.case((2, 3, 5), "bf16")
    assert (product.flop, product.bytes) == (60.0, 2.0 * (10 + 15 + 6))
    assert gemm.case((32, 3, 5), "int8").bytes == 32 * 5 + 15 + 4 * 96  # results of 32 bits
    decode = decode_attention.case((2, 10, 4, 1, 8), "bf16")
    assert decode.flop == 2 * 2 * (2 * 4 * 10 * 8)  # q k^T and p v
    assert decode.bytes == 2 * (2 * 2 * 10 * 8) + 2 * (2 * 2 * 4 * 8)  # the cache, queries and results
    prefill = prefill_attention.case((1, 3, 1, 1, 2), "fp32")
    assert prefill.flop == 4 * 2 * 6  # 1 + 2 + 3 keys


def test_routing_touches_what_it_says():
    case = grouped_gemm.case((16, 8, 2, 4, 4), "bf16")
    rows = grouped_gemm.routed(16, 8, 2)
    assert sum(rows) == 32
    assert case.whole("fullest_expert") == max(rows)
    assert case.whole("touched_experts") == sum(count > 0 for count in rows)
    assert max(rows) <= 16  # a token picks an expert once
    few = grouped_gemm.case((2, 64, 2, 4, 8), "bf16")
    touched = few.whole("touched_experts")
    assert 2 <= touched <= 4
    assert few.bytes == 2 * (4 * 8 + touched * 8 * 4 + 4 * 4)  # of the other experts nothing is read
    assert few.held_bytes == 2 * (4 * (8 + 4) + 64 * 8 * 4)


def test_the_small_transformer_counts_the_weights_that_it_has():
    sizes = transformer.Sizes(2, 32, 4, 2, 8, 64, 128)
    model = transformer._Model(sizes, NumpyDevice(), "fp32")
    held = sum(matrix.size for layer in model.layers for matrix in layer.values()) + model.logits.size
    assert held == sizes.weights


def test_decoding_with_a_cache_gives_what_the_whole_prompt_gives(monkeypatch):
    monkeypatch.setattr(transformer._Model, "_next", lambda self, hidden: hidden[:, -1])
    device, sizes = NumpyDevice(), transformer.Sizes(2, 32, 4, 2, 8, 64, 128)
    model = transformer._Model(sizes, device, "fp32")
    prompt = device.random((3, 6, 32), "fp32")
    cache = [tuple(device.zeros((3, 2, 6, 8), "fp32") for _ in range(2)) for _ in range(2)]
    hidden = prompt
    for layer, (keys, values) in zip(model.layers, cache, strict=True):
        query, key, value = model._heads(hidden, layer)
        keys[:], values[:] = key, value
        hidden = model._rest(hidden, device.attention(query, key, value, causal=True), layer)
    for keys, values in cache:
        keys[:, :, -1:] = 0.0
        values[:, :, -1:] = 0.0
    np.testing.assert_allclose(model.decode(prompt[:, -1:], cache), model.prefill(prompt), rtol=1e-4, atol=1e-5)
