"""Storage: sizes by hand, what a job sees of a shared system, and steps that wait for their data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import effsim
from effsim import catalog
from effsim.cost.storage import Loading, access, checkpoint_bytes, copy_to_host_s, exposed_loading_s
from effsim.errors import SpecError, UnknownNameError
from effsim.specs import loading
from effsim.specs.figure import figures

STORAGES = sorted(catalog.files("storage"))
STEP = {"num_accelerators": 8, "global_batch_size": 64, "sequence_length": 4096, "calibration": "none"}


def test_a_checkpoint_of_gpt_3():
    size = checkpoint_bytes(175e9, 12.0)  # 2 bytes of weight, 12 of Adam's state
    assert size == 175e9 * 14.0
    assert copy_to_host_s(size, 1024, 32e9) == pytest.approx(0.0748, rel=1e-3)


@pytest.mark.parametrize("name", STORAGES)
def test_every_file_loads_and_states_ranges(name):
    spec = loading.storage(name)
    assert spec.name == name
    assert [path for path, figure in figures(spec) if figure.kind == "assumed" and (figure.low is None or figure.high is None)] == []
    assert spec.read_bandwidth is None or spec.node_read_bandwidth.value <= spec.read_bandwidth.value


def test_the_shared_system_of_llama_3():
    whole, half = access("tectonic_llama3", 3072.0), access("tectonic_llama3", 1536.0)
    assert whole.read_bytes_per_s == 2e12
    assert half.standing_w == pytest.approx(whole.standing_w / 2) == pytest.approx(7500 * 315.0 / 2)
    assert access("tectonic_llama3", 10.0).read_bytes_per_s == 10 * 12.5e9
    assert access("tectonic_llama3", 10.0, readers=2.0).read_bytes_per_s == 2 * 12.5e9


def test_units_grow_with_the_cluster():
    assert access("parallel_flash", 320.0).read_bytes_per_s == 10 * 40e9
    assert access("parallel_flash", 2.0).read_bytes_per_s == 2 * 8e9


def test_disks_inside_nodes_are_the_hosts():
    found = access("local_nvme", 4.0)
    assert (found.read_bytes_per_s, found.energy_per_byte_j, found.standing_w) == (4 * 50e9, 0.0, 0.0)


@given(nodes=st.floats(0.125, 5000.0), more=st.floats(1.0, 3.0), name=st.sampled_from(STORAGES))
def test_more_nodes_never_see_less(nodes, more, name):
    few, many = access(name, nodes), access(name, nodes * more)
    assert many.read_bytes_per_s >= few.read_bytes_per_s > 0.0
    assert many.write_bytes_per_s >= few.write_bytes_per_s > 0.0
    assert many.standing_w >= few.standing_w >= 0.0


@given(data=st.floats(1.0, 1e15), step=st.floats(1e-3, 1e3), rate=st.floats(1e6, 1e13), share=st.floats(0.0, 1.0))
def test_what_is_not_hidden_is_waited_for(data, step, rate, share):
    waited = float(exposed_loading_s(data, step, rate, share))
    assert max(data / rate - step, 0.0) <= waited * (1 + 1e-12) <= data / rate * (1 + 1e-12)


def test_a_step_of_text_does_not_wait():
    step = effsim.estimate_training("llama-2-7b", "a100_sxm_80gb", **STEP)
    found = access("parallel_flash", 1.0, 8.0)
    assert step.loading_s == 0.0
    expected_j = 64 * 4096 * 4 * found.energy_per_byte_j + found.standing_w * step.step_time_s
    assert step.storage_energy_j_per_step == pytest.approx(expected_j)
    assert step.checkpoint_bytes == pytest.approx(6_738_415_616 * 14.0)


def test_a_slow_file_server_sets_the_pace_of_samples_with_pictures():
    text = effsim.estimate_training("llama-2-7b", "a100_sxm_80gb", **STEP)
    bound = effsim.estimate_training("llama-2-7b", "a100_sxm_80gb", **STEP, storage="file_server_10g", data_bytes_per_token=1e5)
    assert bound.step_time_s == pytest.approx(64 * 4096 * 1e5 / 1.1e9)  # all of it is reading: one node reads 1.1 GB/s
    assert bound.loading_s == pytest.approx(bound.step_time_s - text.step_time_s)
    assert bound.mfu < text.mfu
    alone = effsim.estimate_training("llama-2-7b", "a100_sxm_80gb", **STEP, storage="file_server_10g", prefetch_ratio=0.0)
    assert alone.loading_s == pytest.approx(64 * 4096 * 4.0 / 1.1e9)


@pytest.mark.parametrize("bad", [{"bytes_per_token": 0.0}, {"bytes_per_token": True}, {"prefetch_ratio": 1.5}, {"prefetch_ratio": -0.1}])
def test_bad_numbers_are_refused(bad):
    with pytest.raises(SpecError, match=next(iter(bad))):
        Loading(**bad)


def test_an_unknown_storage_has_neighbours():
    with pytest.raises(UnknownNameError, match="did you mean 'parallel_flash'"):
        access("paralel_flash", 1.0)


def test_half_a_shared_system_is_refused():
    rate = {"value": "1 GB/s", "kind": "assumed", "source": "s"}
    given = {"name": "x", "node_read_bandwidth": rate, "node_write_bandwidth": rate, "read_bandwidth": rate, "sources": {"s": {"title": "one", "date": "2026"}}}
    with pytest.raises(SpecError, match="shared storage states all of"):
        loading.storage(given)
