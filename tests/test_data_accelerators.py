"""Every accelerator of the catalog: it loads, its rates are ordered, its names lead to it, and it agrees with the published figures."""

import json
import os
from pathlib import Path

import pytest

from effsim import catalog
from effsim.errors import UnknownNameError
from effsim.specs.accelerator import Accelerator
from effsim.specs.figure import figures
from effsim.specs.loading import accelerator

NAMES = sorted(catalog.files("accelerators"))

REQUIRED = """
v100_sxm_32gb t4 a10g a30 a40 a100_sxm_40gb a100_sxm_80gb a100_pcie_40gb a100_pcie_80gb l4 l40s rtx_3090 rtx_4090 rtx_5090
rtx_pro_6000_server h20 h100_sxm h100_pcie h100_nvl h200_sxm gh200 b200_sxm b300_sxm gb200 gb300
mi250x mi300x mi325x mi355x gaudi2 gaudi3 arc_b60
tpu_v3 tpu_v4 tpu_v5e tpu_v5p tpu_v6e tpu_v7 trainium1 trainium2 inferentia2
m1 m1_pro m1_max m1_ultra m2 m2_pro m2_max m2_ultra m3 m3_pro m3_max_40c m3_ultra m4 m4_pro m4_max_32c m4_max_40c a17_pro a18_pro
snapdragon_8_gen3 snapdragon_8_elite tensor_g4 dimensity_9300
jetson_orin_nano_8gb jetson_orin_nano_super jetson_orin_nx_16gb jetson_agx_orin_64gb jetson_thor raspberry_pi_5
epyc_9654 xeon_8480_plus graviton4 photonic_concept
""".split()  # noqa: SIM905 -- a list of 70 quoted names would hide what is missing

ALIASES = {
    "NVIDIA H100 80GB HBM3": "h100_sxm",
    "NVIDIA H100 PCIe": "h100_pcie",
    "NVIDIA H100 NVL": "h100_nvl",
    "NVIDIA H200": "h200_sxm",
    "NVIDIA H20": "h20",
    "NVIDIA GH200 480GB": "gh200",
    "NVIDIA B200": "b200_sxm",
    "NVIDIA B300 SXM6 AC": "b300_sxm",
    "NVIDIA GB200": "gb200",
    "NVIDIA GB300": "gb300",
    "NVIDIA A100-SXM4-80GB": "a100_sxm_80gb",
    "NVIDIA A100-SXM4-40GB": "a100_sxm_40gb",
    "NVIDIA A100 80GB PCIe": "a100_pcie_80gb",
    "NVIDIA A100-PCIE-40GB": "a100_pcie_40gb",
    "Tesla V100-SXM2-32GB": "v100_sxm_32gb",
    "Tesla T4": "t4",
    "NVIDIA L40S": "l40s",
    "NVIDIA GeForce RTX 4090": "rtx_4090",
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": "rtx_pro_6000_server",
    "AMD Instinct MI300X": "mi300x",
    "Apple M4 Max": "m4_max_40c",
    "TPU v5 lite": "tpu_v5e",
    "TPU v5": "tpu_v5p",
    "h100": "h100_sxm",
    "a100": "a100_sxm_80gb",
    "a100_sxm": "a100_sxm_80gb",
    "a100_pcie": "a100_pcie_80gb",
    "h200": "h200_sxm",
    "b200": "b200_sxm",
    "b60": "arc_b60",
    "v5p": "tpu_v5p",
    "trillium": "tpu_v6e",
}

# Slow to fast: a narrower format is never slower on the same device. int8 is apart, some chips gave it up for fp4.
ORDER = ("fp32", "tf32", "bf16", "fp8", "fp6", "fp4")


@pytest.fixture(params=NAMES)
def spec(request: pytest.FixtureRequest) -> Accelerator:
    return accelerator(request.param)


def test_catalog_has_every_required_key() -> None:
    assert set(REQUIRED) <= set(NAMES)


def test_aliases_are_unique() -> None:
    assert len(catalog.aliases("accelerators")) > len(NAMES)  # building the index raises on a clash


@pytest.mark.parametrize(("alias", "key"), ALIASES.items())
def test_alias_leads_to_key(alias: str, key: str) -> None:
    assert accelerator(alias).name == key


def test_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'h100"):
        accelerator("h100_smx")


@pytest.mark.parametrize("name", NAMES)
def test_key_is_the_file_stem(name: str) -> None:
    assert accelerator(name).name == name


def test_narrower_formats_are_not_slower(spec: Accelerator) -> None:
    rates = [spec.peak[dtype].value for dtype in ORDER if dtype in spec.peak]
    assert rates == sorted(rates)


def test_sparse_is_dense_to_twice_dense(spec: Accelerator) -> None:
    for dtype, figure in spec.sparse_peak.items():
        assert spec.peak[dtype].value <= figure.value <= 2.2 * spec.peak[dtype].value


def test_ridge_point_is_plausible(spec: Accelerator) -> None:
    for dtype, figure in spec.peak.items():
        ridge_flop_per_byte = figure.value / spec.memory_bandwidth.value
        assert 1.0 <= ridge_flop_per_byte <= (4000.0 if dtype == "fp4" else 3000.0), dtype  # fp4 on Jetson Thor: 3791


def test_vector_rate_is_given(spec: Accelerator) -> None:
    assert "fp32" in spec.peak
    assert spec.peak_for("bf16") is not None


def test_power_figures_are_ordered(spec: Accelerator) -> None:
    assert spec.idle_power is not None
    assert spec.idle_power.value <= 0.5 * spec.tdp.value
    if spec.min_power_limit is not None:
        assert spec.idle_power.value < spec.min_power_limit.value < spec.tdp.value
    if spec.max_power_limit is not None:
        assert spec.tdp.value <= spec.max_power_limit.value


def test_assumed_figures_say_why_or_how_far(spec: Accelerator) -> None:
    for path, figure in figures(spec):
        if figure.kind == "assumed":
            assert figure.note or (figure.low is not None and figure.high is not None), path


def test_every_source_is_cited(spec: Accelerator) -> None:
    assert {figure.source for _, figure in figures(spec)} == set(spec.sources)


def test_node_and_network_exist(spec: Accelerator) -> None:
    assert spec.default_node is None or spec.default_node in catalog.files("nodes")
    assert spec.scale_up is None or spec.scale_up.network in catalog.files("networks")


@pytest.mark.parametrize("name", NAMES)
def test_memory_is_shared_where_there_is_one_memory(name: str) -> None:
    spec = accelerator(name)
    assert spec.memory_is_shared == (spec.device_class in {"apple_silicon", "phone", "edge", "cpu"})


def test_hypothetical_part_is_all_assumed_with_ranges() -> None:
    spec = accelerator("photonic_concept")
    assert spec.status == "hypothetical"
    for path, figure in figures(spec):
        assert figure.kind == "assumed", path
        assert figure.low is not None, path
        assert figure.high is not None, path
        assert figure.low < figure.value < figure.high, path


RECORDS = {
    "H100_SXM": "h100_sxm", "H200_SXM": "h200_sxm", "B200": "b200_sxm", "GB200": "gb200", "GB300": "gb300", "H100_PCIe": "h100_pcie",
    "L40S": "l40s", "A100_PCIe": "a100_pcie_80gb", "MI300X": "mi300x", "MI325X": "mi325x", "MI355X": "mi355x", "MI250X": "mi250x",
    "Gaudi2": "gaudi2", "TPU_v4": "tpu_v4", "TPU_v5e": "tpu_v5e", "TPU_v5p": "tpu_v5p", "TPU_v6e": "tpu_v6e", "TPU_v7x": "tpu_v7",
    "Trainium2": "trainium2", "aic_a30": "a30", "aic_b60": "arc_b60", "aic_b300_sxm": "b300_sxm", "aic_a100_sxm": "a100_sxm_80gb",
    "aic_l4": "l4", "aic_rtx_pro_6000_server": "rtx_pro_6000_server",
}  # fmt: skip
NOT_COMPARED = {("GB300", "int8_dense_tops"), ("arc_b60", "fp8_dense_tflops")}  # sources differ; no such units
SCALE_UP_PORTS = 21 / 24  # of Gaudi stay inside a node; the table counts all


@pytest.mark.parametrize(("record", "name"), RECORDS.items())
def test_agrees_with_published_tables(record: str, name: str) -> None:
    folder = os.environ.get(catalog.DATA_VARIABLE)
    if not folder or not (Path(folder) / "accelerator_specs.json").is_file():
        pytest.skip(f"{catalog.DATA_VARIABLE} does not name a folder with accelerator_specs.json")
    measured = next(r["measured"] for r in json.loads((Path(folder) / "accelerator_specs.json").read_text()) if r["id"] == record)
    spec = accelerator(name)
    for field, published in measured.items():
        dtype = field.split("_")[0]
        if field.endswith(("dense_tflops", "dense_tops")) and not {(record, field), (name, field)} & NOT_COMPARED:
            assert spec.peak[dtype].value == pytest.approx(published * 1e12, rel=0.01), field
        elif field == "memory_bandwidth_tb_s":
            assert spec.memory_bandwidth.value == pytest.approx(published * 1e12, rel=0.04)
        elif field == "memory_gb":
            assert 0.93 * published * 1e9 <= spec.memory.value <= 1.01 * published * 2**30
        elif field == "memory_gib":
            assert spec.memory.value == pytest.approx(published * 2**30, rel=0.07)  # less ECC on the L4
        elif field == "tdp_w":
            assert spec.tdp.value == pytest.approx(published)
        elif field == "scale_up_unidirectional_gb_s":
            assert spec.scale_up is not None
            ports = SCALE_UP_PORTS if spec.scale_up.network == "gaudi_roce" else 1.0
            assert spec.scale_up.bandwidth.value == pytest.approx(ports * published * 1e9)
