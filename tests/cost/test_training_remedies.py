"""What does not fit: every knob that is named, applied alone or as the pair that is named, makes it fit."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effsim.cost.training import estimate_training
from effsim.cost.training_remedies import require_fit, shown
from effsim.errors import InfeasibleError
from effsim.units import BYTES_PER_GIB

BASE = {"model": "llama-3.1-8b", "accelerator": "h100_sxm", "num_accelerators": 8, "global_batch_size": 64, "calibration": "none"}


def changes_of(remedy: str) -> tuple[dict, float]:
    """Read ``zero_stage=1 and recompute=full (61.2 GiB)``."""
    text, _, size = remedy.removesuffix(" GiB)").rpartition(" (")
    pairs = (part.split("=") for part in text.split(" and "))
    return {name: {"True": True}.get(value, value) if not value[0].isdigit() else float(value) if "." in value else int(value) for name, value in pairs}, float(
        size
    )


def error_of(arguments):
    try:
        estimate_training(**arguments)
    except InfeasibleError as error:
        return error
    return None


def refused(arguments):
    error = error_of(arguments)
    assert error is not None
    return error


@settings(max_examples=25, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "tensor_parallel": st.sampled_from([1, 2]),
            "pipeline_parallel": st.sampled_from([1, 2]),
            "micro_batch_size": st.sampled_from([1, 2, 4]),
            "sequence_length": st.sampled_from([2048, 8192, 32768]),
            "zero_stage": st.sampled_from([0, 1, 3]),
            "recompute": st.sampled_from(["none", "selective", "full"]),
            "sequence_parallel": st.booleans(),
            "accelerator": st.sampled_from(["h100_sxm", "a100_sxm_40gb"]),
            "engine": st.sampled_from(["megatron", "fsdp"]),
        }
    )
)
def test_every_knob_that_is_named_makes_it_fit_with_the_memory_that_is_named(choices):
    arguments = {**BASE, **choices}
    error = error_of(arguments)
    if error is None:
        return
    for remedy in error.remedies:
        changes, gib = changes_of(remedy)
        found = estimate_training(**{**arguments, **changes})
        assert float(found.memory.total_bytes) / BYTES_PER_GIB == pytest.approx(gib, abs=0.06)
    assert bool(error.remedies) != ("No single knob and no two of them" in str(error))


def test_knobs_that_do_not_help_are_not_named():
    """Of what optimizer state takes on one device without replicas, recomputation saves nothing."""
    error = refused({**BASE, "num_accelerators": 1, "sequence_length": 512, "micro_batch_size": 1})
    assert not [remedy for remedy in error.remedies if remedy.startswith(("recompute", "micro_batch_size", "zero_stage"))]
    assert error.constraint == "accelerator memory"


def test_where_activations_are_too_much_recomputation_is_named():
    error = refused({**BASE, "tensor_parallel": 2, "zero_stage": 3, "sequence_length": 32_768})
    assert [remedy for remedy in error.remedies if remedy.startswith("recompute=full (")]
    assert "llama-3.1-8b does not fit on h100_sxm" in str(error)
    assert "GiB short" in str(error)


def test_a_pair_is_named_where_no_knob_alone_does():
    error = refused({**BASE, "micro_batch_size": 4, "sequence_length": 8_192})
    (remedy,) = error.remedies
    assert " and " in remedy


def test_what_two_knobs_do_not_mend_is_said():
    error = refused({**BASE, "model": "llama-3.1-405b"})
    assert error.remedies == ()
    assert "No single knob and no two of them make it fit (closest: " in str(error)


def test_what_fits_passes():
    found = estimate_training(**BASE, zero_stage=3, recompute="full")
    assert found.memory.fits
    assert shown({"zero_stage": 3}) == "zero_stage=3"
    assert callable(require_fit)
