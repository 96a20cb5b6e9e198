"""Checkpoints and data: sizes by hand, bad rates."""

import pytest

import effsim
from effsim.cost.storage import Storage, checkpoint_bytes, data_rate_bytes_per_s, transfer_energy_j, write_time_s
from effsim.errors import SpecError


def test_a_checkpoint_of_gpt_3():
    size = checkpoint_bytes(175e9, 12.0)  # 2 bytes of weight, 12 of Adam's state
    assert size == 175e9 * 14.0
    assert write_time_s(size, Storage(write_bytes_per_s=273e9)) == pytest.approx(8.974, rel=1e-3)
    assert transfer_energy_j(size, Storage(energy_per_byte_j=2e-7)) == pytest.approx(490e3)


def test_data_are_a_trickle():
    assert data_rate_bytes_per_s(10e6) == 40e6


@pytest.mark.parametrize("bad", [{"write_bytes_per_s": 0.0}, {"read_bytes_per_s": -1.0}, {"energy_per_byte_j": -1.0}])
def test_rates_must_be_positive(bad):
    with pytest.raises(SpecError, match="storage: rates must be positive"):
        Storage(**bad)


def test_a_step_reads_its_tokens():
    step = effsim.estimate_training("llama-2-7b", "a100_sxm_80gb", num_accelerators=8, global_batch_size=64, sequence_length=4096, calibration="none")
    assert step.storage_energy_j_per_step == pytest.approx(64 * 4096 * 4 * Storage().energy_per_byte_j)
    assert step.checkpoint_bytes == pytest.approx(6_738_415_616 * 14.0)
