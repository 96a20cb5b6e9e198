import pytest

from effsim.errors import SpecError
from effsim.workload.precision import PRECISIONS, base_format, cache_precision, format_on, kv_bytes, normalize, sparse_format

H100 = frozenset({"fp32", "tf32", "bf16", "fp16", "fp8", "int8", "bf16:2:4", "fp8:2:4"})
A100 = frozenset({"fp32", "tf32", "bf16", "fp16", "int8"})


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("fp32", 32),
        ("bf16", 16),
        ("fp16", 16),
        ("fp8", 8 + 32 / 128**2),  # an fp32 scale per 128 x 128 block
        ("int4", 4 + 20 / 128),  # a 16-bit scale and a 4-bit zero per 128
        ("mxfp8", 8 + 8 / 32),
        ("mxfp4", 4 + 8 / 32),  # OCP Microscaling: a shared 8-bit exponent per 32
        ("nvfp4", 4 + 8 / 16),  # an fp8 scale per 16
    ],
)
def test_bits_of_a_stored_weight(name, bits):
    assert format_on(name, H100).weight_bytes * 8 == pytest.approx(bits, rel=1e-12)


@pytest.mark.parametrize(("given", "name"), [("BF16", "bf16"), ("half", "fp16"), (" float32 ", "fp32"), ("w4a16", "int4"), ("fp4", "nvfp4")])
def test_other_names(given, name):
    assert normalize(given) == name


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(SpecError, match=r"unknown 'bf61'.*bf16.*allowed: fp32"):
        normalize("bf61")


@pytest.mark.parametrize("given", [8, None, ["bf16"], b"bf16"])
def test_what_is_no_name_is_refused(given):
    with pytest.raises(SpecError, match=r"precision: expected a name, got .*; allowed: fp32"):
        normalize(given)


@pytest.mark.parametrize(("name", "dtypes", "compute"), [("fp8", A100, "bf16"), ("nvfp4", H100, "bf16"), ("mxfp4", frozenset({"fp16", "fp32"}), "fp16")])
def test_units_that_cannot_take_an_operand_convert_it(name, dtypes, compute):
    """The weights stay narrow in memory; activations are 16 bits wide; the conversion costs vector work."""
    native, found = format_on(name, {"fp8", "fp4"}), format_on(name, dtypes)
    assert found.weight_bytes == native.weight_bytes
    assert (found.compute, found.activation_bytes) == (compute, 2.0)
    assert found.dequantize_flop > 0.0 == native.dequantize_flop


def test_int4_is_weight_only_everywhere():
    found = format_on("int4", {"int4", *H100})
    assert (found.compute, found.activation_bytes) == ("bf16", 2.0)
    assert found.dequantize_flop > 0.0


GGUF = ("q8_0", "q6_k", "q4_k_m", "q4_0")


@pytest.mark.parametrize("name", [name for name in PRECISIONS if name not in GGUF])
def test_what_a_quantised_model_leaves_alone_is_16_bits_wide(name):
    base = base_format(name)
    assert base.weight_bytes == (4.0 if name in {"fp32", "tf32"} else 2.0)
    assert not base.is_quantized
    assert kv_bytes(name) == {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "mxfp8": 1, "int8": 1}.get(name, 0.5)


def test_a_gguf_file_quantises_the_head_too_and_its_cache_has_16_bits():
    """llama-2-7b: the files of llama.cpp have 3.56 GiB (q4_0), 6.67 GiB (q8_0), 12.55 GiB (f16) for 6.74 billion weights."""
    head = 32_000 * 4_096
    for name, file_gib in (("q4_0", 3.56), ("q8_0", 6.67), ("fp16", 12.55)):
        layers = 6_738_415_616 - 2 * head
        size = layers * format_on(name, H100).weight_bytes + head * (base_format(name).weight_bytes + format_on(name, H100).weight_bytes)
        assert size / 2**30 == pytest.approx(file_gib, rel=0.01)
        assert cache_precision(name) == ("fp16" if name == "fp16" else "bf16")


def test_q4_k_m_has_the_bits_that_its_files_show():
    """Meta-Llama-3-8B-Q4_K_M.gguf has 4.92 GB: 4.9 bits per weight with the head."""
    head = 128_256 * 4_096
    size = (8_030_261_248 - 2 * head) * format_on("q4_k_m", H100).weight_bytes + head * (base_format("q4_k_m").weight_bytes + 144 / 256)
    assert size == pytest.approx(4.92e9, rel=0.01)


def test_two_of_four_keeps_half_the_values_and_two_bits_for_each():
    """Four bf16 weights: two values of 2 bytes and 2 x 2 bits of position: 4.5 bytes instead of 8."""
    sparse = sparse_format(format_on("bf16", H100), "2:4", H100)
    assert 4 * sparse.weight_bytes == 4.5
    assert sparse.compute == "bf16:2:4"


@pytest.mark.parametrize("sparsity", ["none", "unstructured"])
def test_zeros_without_structure_change_nothing(sparsity):
    assert sparse_format(format_on("fp8", H100), sparsity, H100) == format_on("fp8", H100)


@pytest.mark.parametrize(("name", "dtypes"), [("bf16", A100), ("int4", H100)])
def test_two_of_four_needs_units_for_it(name, dtypes):
    with pytest.raises(SpecError, match="no 2:4 units for bf16"):
        sparse_format(format_on(name, dtypes), "2:4", dtypes)


def test_an_unknown_sparsity_is_answered_with_the_nearest():
    with pytest.raises(SpecError, match=r"unknown 'unstructred'.*unstructured"):
        sparse_format(format_on("bf16", H100), "unstructred", H100)
