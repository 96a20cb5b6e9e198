"""Anything at all is either read or refused with an :class:`EffSimError`, never another exception, and soon."""

# ruff: noqa: E501, PT017 -- tables have one line per case; a test holds for either outcome

from pathlib import Path

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from effsim import catalog
from effsim.documents import parse_yaml, read_yaml
from effsim.errors import EffSimError, SpecError
from effsim.specs.loading import accelerator
from effsim.specs.models import model
from effsim.specs.scenario import load_scenario
from effsim.units import UNITS, parse_quantity

ROOT = Path(__file__).parent.parent
ACCELERATOR, SCENARIO = ((ROOT / "tests" / "data" / f"sound_{kind}.yaml").read_text(encoding="utf-8") for kind in ("accelerator", "scenario"))
MODEL = read_yaml(catalog.files("models")["mixtral-8x7b"])
HF_CONFIG = {
    "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336,
    "max_position_embeddings": 32768, "num_attention_heads": 32, "num_experts_per_tok": 2, "num_hidden_layers": 32, "num_key_value_heads": 8,
    "num_local_experts": 8, "rms_norm_eps": 1e-05, "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "vocab_size": 32000,
}  # fmt: skip
LOADERS = {"accelerator": accelerator, "scenario": load_scenario, "model": model}

fragments = st.sampled_from(
    [
        *"{}[]:,&*!|>%@`#'\"\\\n\t-? ", "- ", ": ", "\n  ", "<<: ", "*a", "&a ", "!!int ", "!!python/name:os", "---\n", "...\n", "1e400", ".nan", "0x1g", "\x85", "\ufeff", "~",
        "name", "fleet", "2001-01-01", "12:30:45", "700 W", "yes", "null", "é", "\U0001f600", "=", "0o8", "1_0", "!!binary x", "!!timestamp x", "!!set ", "!!omap ", "!!float x",
    ]
)  # fmt: skip


@given(st.text(max_size=60) | st.lists(fragments, max_size=25).map("".join))
@example("!!int x")
@example("!!float x")
@example("!!timestamp x")
@example("!!binary é")
@example("? {a: 1}\n: 2")
@example("a: !!bool maybe")
@example("a: 2001-99-99")
@example("a: 1:99:99")
@example("=")
@example("a: =")
@example("<<: [1]")
@example("!!map [1]")
@example("!!seq {a: 1}")
@example("!!str {a: 1}")
@example("a: &a {b: *a}")
@example("a: !!omap [1]")
@example("a: !!pairs [[1]]")
@example("?")
@example("a: 0b")
@example("a: 0x_")
@example("a: +_")
@example("a: 9" + "9" * 5000)
def test_any_text_parses_or_is_refused(text):
    try:
        document = parse_yaml(text, "note")
    except SpecError as error:
        assert str(error).startswith("note")
    else:
        assert all(isinstance(key, str) for key in document)


@given(
    st.sampled_from(sorted(UNITS)),
    st.text(max_size=20) | st.from_regex(r"\A[-+]?[0-9._]{0,6}(e[0-9]{1,3})? ?[A-Za-z/%µ$]{0,6}\Z") | st.floats() | st.integers() | st.booleans() | st.none(),
)
@example("1", "0_")
def test_any_quantity_is_finite_or_refused(dimension, given_value):
    try:
        assert abs(parse_quantity(given_value, dimension)) < float("inf")
    except SpecError as error:
        assert "expected a" in str(error)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "700 W", "1e400", "../x", "fixed", "h100_sxm", "é" * 3000, "\0"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["kind", "name", "set", "tokens", "0", "x.y"]) | scalars, inner, max_size=3),
    max_leaves=6,
)


def places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


def put(document: object, path: tuple[str | int, ...], value: object) -> object:
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(document, dict):
        return {**document, step: put(document.get(step), rest, value)}
    assert isinstance(document, list)
    return [put(child, rest, value) if index == step else child for index, child in enumerate(document)]


PLACES = places(yaml.safe_load(SCENARIO))
ACCELERATOR_PLACES = places(yaml.safe_load(ACCELERATOR))


@given(st.sampled_from(PLACES[1:]), values)
def test_any_value_anywhere_in_a_scenario_is_accepted_or_refused(path, value):
    document = put(yaml.safe_load(SCENARIO), path, value)
    assert isinstance(document, dict)
    refused_or_sound("scenario", document)


@given(st.sampled_from(PLACES[1:]), st.text(min_size=1, max_size=8), values)
def test_any_field_anywhere_in_a_scenario_is_accepted_or_refused(path, name, value):
    document = put(yaml.safe_load(SCENARIO), path, {name: value})
    assert isinstance(document, dict)
    refused_or_sound("scenario", document)


@given(st.sampled_from(ACCELERATOR_PLACES[1:]), values)
def test_any_value_anywhere_in_a_specification_is_accepted_or_refused(path, value):
    document = put(yaml.safe_load(ACCELERATOR), path, value)
    assert isinstance(document, dict)
    refused_or_sound("accelerator", document)


@given(st.sampled_from(places(MODEL)[1:]), values)
def test_any_value_anywhere_in_a_model_is_accepted_or_refused(path, value):
    refused_or_sound("model", put(MODEL, path, value))


@given(st.sampled_from(sorted(HF_CONFIG)), values | st.integers(-1, 10))
def test_any_value_in_a_hugging_face_config_is_accepted_or_refused(field, value):
    refused_or_sound("model", {**HF_CONFIG, field: value})


def refused_or_sound(kind: str, document: dict[str, object]) -> None:
    try:
        LOADERS[kind](document)
    except EffSimError as error:
        assert len(str(error)) < 1000
        assert "\n" not in str(error)


@given(st.integers(0, len(SCENARIO) - 1), st.integers(0, 40), st.lists(fragments, max_size=4).map("".join))
def test_any_damage_to_a_scenario_file_is_accepted_or_refused(tmp_path_factory, at, length, inserted):
    path = tmp_path_factory.getbasetemp() / "damaged.yaml"
    path.write_text(SCENARIO[:at] + inserted + SCENARIO[at + length :], encoding="utf-8", newline="")
    try:
        load_scenario(str(path))
    except EffSimError as error:
        assert "damaged.yaml" in str(error)
