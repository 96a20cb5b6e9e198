"""Kernels made up by the cost model itself, with known coefficients, must give them back."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from effsim.calibrate.kernel_fit import calibration_document, fit, lowered, predicted
from effsim.calibrate.kernel_tables import KEYS, KernelTable
from effsim.cost.collectives import Fabric, Level
from effsim.cost.device import combine
from effsim.errors import CalibrationError
from effsim.specs import loading
from effsim.specs.calibration import Calibration

H200 = loading.accelerator("h200_sxm")
FABRIC = Fabric(8, Level(1e-6, 450e9, in_network_reduction=True), None)
PRIOR = combine(tuple(loading.calibration(f"prior_datacenter_gpu{suffix}") for suffix in ("", "_vllm")), "h200_sxm")
TRUE = dataclasses.replace(
    PRIOR.median, gemm_efficiency=0.7, memory_efficiency=0.85, gemm_kernel_s=5e-6, attention_memory_efficiency=0.8, link_efficiency=0.5, busy_power=0.3
)
SHAPES = {
    "gemm": [(m, n, k) for m in (1, 64, 256, 1024, 4096) for n in (2048, 8192) for k in (4096, 16384)],
    "generation_attention": [(b, s, 32, 8, 128) for b in (1, 16, 128) for s in (255, 2047)],
    "context_attention": [(b, s, 32, 8, 128) for b in (1, 8) for s in (512, 4096)],
    "custom_allreduce": [(n, s) for n in (2, 8) for s in (128, 65_536, 4_194_304)],
    "moe": [(t, 2048, 768, 8, 128, 1, 1) for t in (1, 16, 128, 1024)],
}


def tables(*, power=True):
    """Return tables whose latencies and powers are those of the cost model with the true coefficients."""
    found = {}
    for kind, shapes in SHAPES.items():
        rows = pd.DataFrame(shapes, columns=list(KEYS[kind]), dtype=float).assign(latency_s=1e-5, dtype="bfloat16")
        if power:
            rows = rows.assign(power_w=1.0, limit_w=700.0)
        table = KernelTable(kind, rows, "1.0", "made up")
        filled = []
        for one in lowered(table, H200, FABRIC):
            latency_s, power_w = predicted(one, TRUE)
            filled.append(pd.DataFrame({"latency_s": latency_s, "power_w": power_w}))
        filled = pd.concat(filled, ignore_index=True)
        rows = rows.assign(latency_s=filled.latency_s.to_numpy(), **({"power_w": filled.power_w.to_numpy()} if power else {}))
        found[kind] = KernelTable(kind, rows, "1.0", "made up")
    return found


@pytest.fixture(scope="module")
def fitted():
    measured = [one for table in tables().values() for one in lowered(table, H200, FABRIC)]
    return fit(measured, PRIOR)


def test_true_coefficients_are_found_again(fitted):
    found, errors = fitted
    for name in ("gemm_efficiency", "memory_efficiency", "gemm_kernel_s", "attention_memory_efficiency", "link_efficiency"):
        assert abs(np.log(found.median[name] / getattr(TRUE, name))) < 2.0 * found.log_sd[name], name
        assert found.log_sd[name] < 0.8 * PRIOR.log_sd[name], name
    assert max(errors[kind] for kind in SHAPES) < 5.0


def test_power_moves_the_coefficients_of_power(fitted):
    found, errors = fitted
    assert errors["power of gemm"] < 10.0
    assert found.log_sd["compute_power"] < 0.9 * PRIOR.log_sd["compute_power"]


def test_what_the_rows_do_not_tell_is_named_and_left_out():
    found_tables = tables(power=False)
    measured = [one for table in found_tables.values() for one in lowered(table, H200, FABRIC)]
    found, errors = fit(measured, PRIOR)
    assert not [name for name in errors if name.startswith("power")]
    silent = {name for name in found.coefficients if found.log_sd[name] >= 0.9 * PRIOR.log_sd[name]}
    assert "quantized_gemm_factor" in silent  # no 8-bit rows
    document = calibration_document(found, errors, "made_up", H200, found_tables)
    assert not silent & set(document["coefficients"])
    assert all(name in document["note"] for name in silent)
    kept = Calibration.model_validate(document)
    assert np.linalg.eigvalsh(np.array(kept.correlation)).min() > 0.0


def test_a_grouped_product_reads_the_experts_that_are_touched():
    """16 tokens x 8 of 128 experts, dealt evenly, touch all 128; 1 token touches 8: weights in that ratio."""
    (one,) = lowered(tables(power=False)["moe"], H200, FABRIC)
    costs = one.costs(PRIOR.median)
    read = costs.table.read.sum(axis=1)
    first, second = (max(read[row] for row in range(len(read)) if one.owner[row] == place) for place in (0, 1))
    assert second / first == pytest.approx(16.0, rel=0.02)


def test_nothing_measured_is_refused():
    with pytest.raises(CalibrationError, match="nothing to fit"):
        fit([], PRIOR)
