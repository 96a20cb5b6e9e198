"""Run files whose truth is known: the benchmark's own cases on an accelerator, timed by the cost model with chosen coefficients and noise."""

import dataclasses

import numpy as np

from effsim.bench.kernels import copy, decode_attention, elementwise, gemm, grouped_gemm, idle, launch, power_levels, prefill_attention, read, transformer
from effsim.bench.run_file import Row, Run
from effsim.calibrate.bench_rows import predictor, readings
from effsim.calibrate.run_file import start_of
from effsim.cost.collectives import Fabric
from effsim.cost.device import COEFFICIENTS
from effsim.specs import loading

ALONE = Fabric(1, None, None)


class Gpu:
    """What the kernels' lists of cases ask of a device."""

    large = True
    native = "bf16"
    dtypes = ("fp32", "tf32", "bf16", "fp16", "fp8", "int8")

    class facts:  # noqa: N801
        count = 1


def cases():
    kernels = (idle, copy, read, gemm, grouped_gemm, prefill_attention, decode_attention, elementwise, launch, transformer, power_levels)
    return [case for kernel in kernels for case in kernel.cases(Gpu, False)]


def blank_run(model="NVIDIA H100 80GB HBM3", **changes):
    device = {"name": "cuda:0", "library": "torch", "kind": "cuda", "model": model, "cache_bytes": 50 * 2**20, "compute_units": 132, "count": 1}
    rows = tuple(
        Row(case.kind, case.dtype, dict(case.shape), case.flop, case.bytes, case.duty_ratio, implementation="torch", launch="graph", buffers=16, time_s=1e-3)
        for case in cases()
    )
    given = {"status": "complete", "settings": {"name": "default"}, "machine": {}, "device": device, "libraries": {"torch": "2.9.0", "driver": "580.65"}}
    return Run("0.1.0", "2026-11-23T10:00:00+00:00", "2026-11-23T10:08:00+00:00", meter=(), rows=rows, **{**given, **changes})


def drawn(prior, rng, names):
    """Return coefficients drawn from the prior, shares below 1."""
    values = {name: getattr(prior.median, name) * np.exp(prior.log_sd[name] * rng.normal()) for name in names}
    return dataclasses.replace(
        prior.median, **{name: min(value, 0.97) if name.endswith(("_efficiency", "_softness")) else value for name, value in values.items()}
    )


def measured(truth, rng, noise=0.04, *, metered=True, accelerator="h100_sxm", run=None):
    """Return the run of a machine with these coefficients: log-normal noise on times, half as much on powers."""
    acc = loading.accelerator(accelerator)
    run = run or blank_run()
    window = dataclasses.replace(run, rows=tuple(_windowed(row, 1e-3) for row in run.rows))
    rows = {row.key: row for row in run.rows}
    found = readings(dataclasses.replace(window, rows=tuple(dataclasses.replace(row, power_w=1.0) for row in window.rows)), acc)
    each = (*found.fitted, *found.checks)
    time_s, _ = predictor(each, acc, ALONE)(truth)
    timed = [dataclasses.replace(one, row=_windowed(one.row, t)) for one, t in zip(each, np.nan_to_num(time_s, nan=1.0), strict=True)]
    _, power_w = predictor(timed, acc, ALONE)(truth)
    for one, t, watts in zip(timed, time_s, power_w, strict=True):
        factor = np.exp(noise * rng.normal())
        known = {"time_s": t * factor, "time_low_s": t * factor * 0.99, "time_high_s": t * factor * 1.01, "confidence": 0.95, "samples": 20}
        times = known if np.isfinite(t) and one.row.duty_ratio > 0.0 else {"time_s": None}
        power = {"power_w": watts * np.exp(0.5 * noise * rng.normal()), "energy_j": 1.0} if metered else {"power_w": None}
        window_of = {"window_s": one.row.window_s, "window_calls": one.row.window_calls} if metered else {}
        rows[one.row.key] = dataclasses.replace(rows[one.row.key], **times, **power, **window_of)
    kept = tuple(row for row in rows.values() if metered or row.duty_ratio == 1.0)
    return dataclasses.replace(run, rows=kept)


def _windowed(row, time_s):
    calls = 0 if row.duty_ratio == 0.0 else max(1, round(2.5 * row.duty_ratio / time_s))
    return dataclasses.replace(row, window_s=2.5 if calls == 0 else calls * time_s / row.duty_ratio, window_calls=calls)


def prior_of(accelerator="h100_sxm", engine=None):
    return start_of(loading.accelerator(accelerator), engine)[0]


__all__ = ["ALONE", "COEFFICIENTS", "blank_run", "drawn", "measured", "prior_of"]
