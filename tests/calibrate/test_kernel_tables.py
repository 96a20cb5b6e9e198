"""Tables of measured kernels: which rows count, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from effsim.calibrate import kernel_tables
from effsim.errors import CalibrationError

pytest.importorskip("pyarrow", reason="Parquet files need pyarrow")


def write(folder, name, **columns):
    rows = pd.DataFrame({"framework": "VLLM", "version": "0.24.0", "device": "NVIDIA H200", "kernel_source": "some", **columns})
    rows.to_parquet(folder / f"{name}.parquet")


def test_products_are_read_with_units_and_without_doubles(tmp_path):
    write(tmp_path, "gemm_perf", gemm_dtype=["bfloat16", "bfloat16", "fp8"], m=[1, 1, 1], n=[512] * 3, k=[1024] * 3, latency=[0.02, 0.03, 0.01])
    table = kernel_tables.read(tmp_path)["gemm"]
    assert table.rows.latency_s.tolist() == [2e-5, 1e-5]
    assert table.rows.dtype.tolist() == ["bfloat16", "fp8"]
    assert (table.version, table.device) == ("0.24.0", "NVIDIA H200")


def test_only_plain_kernels_count_and_power_comes_with_its_limit(tmp_path):
    shape = {"batch_size": [1, 1, 1], "step": [7, 7, 7], "num_heads": [32] * 3, "num_key_value_heads": [8] * 3, "head_dim": [128] * 3}
    kept = {"window_size": [0, 128, 0], "kv_cache_dtype": ["bfloat16", "bfloat16", "fp8"], "power": [400.0] * 3, "power_limit": [700.0] * 3}
    write(tmp_path, "generation_attention_perf", latency=[0.01, 0.02, 0.03], **shape, **kept)
    rows = kernel_tables.read(tmp_path)["generation_attention"].rows
    assert rows.latency_s.tolist() == [1e-5]
    assert (rows.power_w[0], rows.limit_w[0]) == (400.0, 700.0)


def test_the_newest_version_of_a_table_counts(tmp_path):
    for version, latency in (("0.9.0", 0.5), ("0.24.0", 0.25)):
        write(
            tmp_path, f"custom_allreduce_perf_vllm_{version}", allreduce_dtype=["bfloat16"] * 2, num_gpus=[2, 2], message_size=[128, 128],
            backend=["vllm_graph", "vllm_eager"], latency=[latency, 9.0],
        )  # fmt: skip
    assert kernel_tables.read(tmp_path)["custom_allreduce"].rows.latency_s.tolist() == [0.25e-3]


def test_latencies_that_crowd_at_a_floor_show_the_launch():
    """1.2 times the median of the shortest tenth: 60 us launches hide kernels of 1 to 50 us."""
    rows = pd.DataFrame({"latency_s": np.concatenate([np.full(50, 6e-5), np.geomspace(7e-5, 1e-2, 50)])})
    assert kernel_tables.host_bound_s(rows) == pytest.approx(7.2e-5)


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(CalibrationError, match="no such folder"):
        kernel_tables.read(tmp_path / "nowhere")
    with pytest.raises(CalibrationError, match="no kernel tables"):
        kernel_tables.read(tmp_path)
    (tmp_path / "gemm_perf.parquet").write_bytes(b"no parquet")
    with pytest.raises(CalibrationError, match="not a Parquet file"):
        kernel_tables.read(tmp_path)
    write(tmp_path, "gemm_perf", m=[1], n=[1], latency=[1.0])
    with pytest.raises(CalibrationError, match="lacks the columns k"):
        kernel_tables.read(tmp_path)


def test_the_package_that_is_not_installed_is_named():
    pytest.importorskip("pandas")
    try:
        import aiconfigurator_core  # noqa: F401
    except ImportError:
        with pytest.raises(CalibrationError, match="pip install aiconfigurator-core"):
            kernel_tables.installed("h100_sxm")
    else:
        with pytest.raises(CalibrationError, match="no tables of 'abacus'"):
            kernel_tables.installed("abacus")
