"""Which mapping reads which source."""

from pathlib import Path
from typing import Final

from effsim.validate.training import bridge, maxtext, megatron, mlperf, pytorch
from effsim.validate.training.case import THROUGHPUT_FILE, Case, Mapper, case, read

FAMILIES: Final[dict[str, tuple[str, Mapper]]] = {
    "megatron_sc21": ("megatron_sc21_t1_", megatron.sc21_table_1),
    "megatron_sc21_175b": ("megatron_sc21_t2_", megatron.sc21_table_2),
    "megatron_core_h100": ("mcore_h100_weak_", megatron.core_weak_scaling),
    "megatron_core_llama_fp8": ("mcore_llama_fp8_", megatron.core_llama_fp8),
    "megatron_bridge": ("mbridge_", bridge.performance_summary),
    "nemo_long_sequence": ("nemo_longseq_", bridge.long_sequence),
    "mosaicml_mpt": ("mpt_", pytorch.mosaic_mpt),
    "torchtitan": ("torchtitan_", pytorch.torchtitan),
    "maxtext_h100": ("maxtext_a3_", maxtext.a3),
    "maxtext_tpu": ("maxtext_v", maxtext.published),
    "tpu_recipes": ("tpurecipe_", maxtext.tpu_recipe),
    "mlperf": ("mlperf_ttt_", mlperf.throughput),
}
"""Family to the beginning of its records' ids, and its mapping."""


def cases(path: Path | str | None = None) -> list[Case]:
    """Return every training record as a case; other kinds of record (matrix products alone) are left out.

    Args:
        path: ``training_throughput.json`` or its folder; None: looked up in the folders of ``EFFSIM_DATA``.

    Raises:
        SpecError: The file is not there, or malformed.
    """
    found = []
    for record in read(THROUGHPUT_FILE, path):
        for family, (prefix, mapper) in FAMILIES.items():
            if str(record["id"]).startswith(prefix):
                chosen = maxtext.mixtral if str(record["id"]).endswith("_mixtral8x7b") else mapper
                found.append(case(record, family, chosen))
                break
    return found
