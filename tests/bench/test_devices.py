"""The operations of a device against NumPy written out, and how many operands keep a cache cold."""

import dataclasses
import importlib.util

import numpy as np
import pytest

from effsim.bench.command import open_device
from effsim.bench.devices.numpy_device import NumpyDevice
from effsim.bench.devices.torch_device import TorchDevice
from effsim.bench.machine import blas_threads, cache_bytes, libraries, machine, usable_cores
from effsim.errors import MissingExtraError, SpecError

WITH_TORCH = importlib.util.find_spec("torch") is not None
DEVICES = [NumpyDevice()] + ([TorchDevice("cpu")] if WITH_TORCH else [])
IDS = [device.facts.library for device in DEVICES]


def array(value):
    return value if isinstance(value, np.ndarray) else value.float().numpy()


def reference_attention(query, key, value, causal):
    repeat = query.shape[1] // key.shape[1]
    key, value = (np.repeat(part, repeat, axis=1).astype(float) for part in (key, value))
    scores = np.einsum("bhqd,bhkd->bhqk", query.astype(float), key) / np.sqrt(query.shape[-1])
    if causal:
        scores = np.where(np.tril(np.ones(scores.shape[-2:])), scores, -np.inf)
    shares = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    return np.einsum("bhqk,bhkd->bhqd", shares, value)


@pytest.mark.parametrize("device", DEVICES, ids=IDS)
@pytest.mark.parametrize(("queries", "causal"), [(5, True), (1, False), (5, False)])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention(device, queries, causal, kv_heads):
    query = device.random((2, 4, queries, 8), "fp32")
    key, value = (device.random((2, kv_heads, 5, 8), "fp32") for _ in range(2))
    expected = reference_attention(array(query), array(key), array(value), causal)
    np.testing.assert_allclose(array(device.attention(query, key, value, causal=causal)), expected, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES, ids=IDS)
def test_elementwise(device):
    left, right, out = device.random((3, 16), "fp32"), device.random((3, 16), "fp32"), device.zeros((3, 16), "fp32")
    a, b = array(left).astype(float), array(right).astype(float)
    np.testing.assert_allclose(array(device.gated(left, right)), a / (1.0 + np.exp(-a)) * b, rtol=1e-4, atol=1e-6)
    expected = a / np.sqrt((a * a).mean(-1, keepdims=True) + 1e-6) * b[0]
    np.testing.assert_allclose(array(device.normalized(left, right[0])), expected, rtol=1e-4, atol=1e-6)
    device.add(left, right, out)
    np.testing.assert_allclose(array(out), a + b, rtol=1e-5, atol=1e-6)
    device.copy(out, left)
    assert (array(out) == array(left)).all()
    assert float(device.maximum(left)) == array(left).max()


@pytest.mark.parametrize("device", DEVICES, ids=IDS)
def test_operands_are_random(device):
    sample = array(device.random((4096,), "fp32"))
    assert abs(sample.mean()) < 0.1
    assert sample.std() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("device", DEVICES, ids=IDS)
def test_groups_without_rows_are_fine(device):
    call, _ = device.grouped_gemm([3, 0, 5], (8, 4), "fp32")
    call()


@pytest.mark.parametrize("moved_bytes", [1e3, 1e6, 1e8, 1e11])
def test_operands_take_turns_until_a_cache_is_cold(moved_bytes):
    device = NumpyDevice()
    device.facts = dataclasses.replace(device.facts, cache_bytes=50_000_000)
    count = device.buffers(moved_bytes)
    assert 1 <= count <= 16
    assert count == 16 or count * moved_bytes >= 8 * 50_000_000
    device.facts = dataclasses.replace(device.facts, cache_bytes=0)
    assert device.buffers(moved_bytes) == 1


def test_numpy_has_no_collective_and_no_flex_attention():
    with pytest.raises(NotImplementedError, match="no all-reduce"):
        NumpyDevice().all_reduce(16, "fp32", 2)
    with pytest.raises(NotImplementedError, match="no flex attention"):
        NumpyDevice().flex_attention()


@pytest.mark.parametrize(
    ("name", "library", "message"),
    [("cuda", "numpy", "NumPy runs on the cpu only"), ("auto", "jax", "--library: 'jax' is none; choose from auto, numpy, torch")],
)
def test_devices_that_are_not_there_are_named(name, library, message):
    with pytest.raises(SpecError, match=message):
        open_device(name, library)


@pytest.mark.skipif(WITH_TORCH, reason="PyTorch is installed")
def test_pytorch_is_asked_for_by_name():
    with pytest.raises(MissingExtraError, match=r"pip install \"effsim\[bench\]\""):
        open_device("cuda", "torch")


@pytest.mark.skipif(not WITH_TORCH, reason="PyTorch is not installed")
@pytest.mark.parametrize("name", ["cuda:99", "cuda:x", "tpu"])
def test_pytorch_says_what_it_sees(name):
    with pytest.raises(SpecError, match=f"--device: {name}: PyTorch .* does not see it; choose from .*cpu"):
        open_device(name, "torch")


def test_the_machine_is_described_without_its_name():
    found = machine()
    assert found["processor"]
    assert found["cores"] == usable_cores() >= 1
    assert found["memory_bytes"] > 2**28
    assert libraries("numpy")["numpy"] == np.__version__


def test_the_last_level_cache_counts(tmp_path):
    for index, (size, kind) in enumerate([("32K", "Data"), ("64M", "Instruction"), ("1024K", "Unified"), ("8M", "Unified")]):
        folder = tmp_path / "cpu0" / "cache" / f"index{index}"
        folder.mkdir(parents=True)
        (folder / "size").write_text(f"{size}\n")
        (folder / "type").write_text(f"{kind}\n")
    assert cache_bytes(tmp_path) == 8 * 2**20


def test_fewer_threads_are_believed():
    assert blas_threads({"OMP_NUM_THREADS": "1"}) == 1
    assert blas_threads({"OMP_NUM_THREADS": "99999", "MKL_NUM_THREADS": "none"}) == usable_cores()
