"""The fields of a Hugging Face config.json, read one by one; what looks architectural and is not read is refused."""

import re
from typing import Any, Final

from effsim.errors import SpecError, shown

_ARCHITECTURAL: Final = re.compile(
    r"rank|dim|head|expert|layer|latent|window|chunk|bias|hidden|intermediate|ffn|mlp|attn|attention|conv|ssm|mamba|state"
    r"|index|compress|ratio|gat|hc_|residual|norm|recurr|kv|block|shared|sparse|dense|embed|moe|linear|ngram|loop|cross|engram"
)
_HARMLESS: Final = re.compile(
    r"eps(ilon)?$|dropout|_token|token_id|^rope|rotary|_rope|rope_|mrope|initializer|init_|_init$|^use_cache|^gradient|output_router|output_hidden"
    r"|output_attentions|_coef$|aux_loss|routed_scaling|router_scaling|scoring_func|norm_topk|topk_method|topk_group|n_group$|expert_group|grouped_topk"
    r"|moe_renormalize|router_activation|router_dtype|^_|_implementation$|dtype|softcap|logit|_scale$|multiplier|scalar|^max_|length|mtp|nextn"
    r"|chunk_size$|time_step|mamba_kernels|rescale|residual_in_fp32|num_logits|ep_size|seq_aux|pretraining_tp|swiglu|cross_attention|tf_legacy|torchscript"
    r"|problem_type|is_decoder|is_encoder|^add_cross|labels?$|label2id|classifier|^task|prefix|^tie_|transformers_version|architectures|auto_map|temperature"
    r"|quantization_config|^mamba_hidden_act$|shared_expert_overlap|value_scale|clip_qkv|low_cpu|use_bidirectional|torch|hidden_act|activation_function"
    r"|cache_implementation|sliding_window_size|embd_pdrop|attn_pdrop|resid_pdrop|slow_but_exact|masked_softmax|summary|alibi|apply_query_key_layer_scaling"
    r"|attention_softmax_in_fp32|skip_bias_add|bias_dropout_fusion|init_config|gelu|remove_invalid|vision|image|audio|video|mm_|attn_temperature|floor_scale|^original_max|^scale_attn|^reorder_and_upcast"
)


MAX_LAYERS: Final = 10_000
MAX_NUMBER: Final = 10**12


class Fields:
    """Typed access to a config, which remembers what was read.

    Args:
        document: The parsed config.json, or one of its parts such as ``text_config``.
        where: Names the config in messages.
    """

    def __init__(self, document: dict[str, Any], where: str) -> None:
        """Start with nothing read."""
        self.document = document
        self.where = where
        self.seen: set[str] = set()

    def with_defaults(self, defaults: dict[str, Any]) -> "Fields":
        """Return the config with what the architecture's own config class fills in; what was read is remembered by both."""
        copy = Fields({**defaults, **{key: value for key, value in self.document.items() if value is not None}}, self.where)
        copy.seen = self.seen
        return copy

    def refuse(self, part: str) -> SpecError:
        """Return the error that names what is not supported."""
        return SpecError(f"{self.where}: not supported: {part}")

    def get(self, *keys: str) -> Any:
        """Return the first of several spellings that is given and not null, else None."""
        self.seen.update(keys)
        return next((self.document[key] for key in keys if self.document.get(key) is not None), None)

    def integer(self, *keys: str) -> int:
        """Return a whole number of at least 1 that must be there."""
        value = self.optional(*keys)
        if not value:
            raise SpecError(f"{self.where}: {keys[0]} {'is missing' if value is None else 'must be at least 1'}")
        return value

    def optional(self, *keys: str) -> int | None:
        """Return a whole number of at least 0, or None where absent."""
        value = self.get(*keys)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_NUMBER:
            raise SpecError(f"{self.where}: {keys[0]} must be a whole number from 0 to {MAX_NUMBER:,}, got {str(value)[:60]!r}")
        return value

    def layers(self, *keys: str) -> int:
        """Return how many layers there are.

        Raises:
            SpecError: Missing, or more than :data:`MAX_LAYERS`.
        """
        value = self.integer(*(keys or ("num_hidden_layers",)))
        if value > MAX_LAYERS:
            raise SpecError(f"{self.where}: {value:,} layers; at most {MAX_LAYERS:,} are read")
        return value

    def entries(self, key: str) -> list[Any]:
        """Return a list of any length, empty where absent."""
        value = self.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise SpecError(f"{self.where}: {key} must be a list, got {str(value)[:60]!r}")
        return value

    def flag(self, *keys: str, default: bool = False) -> bool:
        """Return a switch, or the architecture's own default where absent."""
        value = self.get(*keys)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise SpecError(f"{self.where}: {keys[0]} must be true or false, got {str(value)[:60]!r}")
        return value

    def choice(self, *keys: str, allowed: dict[str, str], default: str | None = None) -> str:
        """Return what a text stands for.

        Raises:
            SpecError: Another text; it is named as not supported.
        """
        value = self.get(*keys)
        value = default if value is None else value
        if value is None:
            raise SpecError(f"{self.where}: {keys[0]} is missing")
        if not isinstance(value, str) or value not in allowed:
            raise self.refuse(f"{keys[0]} = {shown(value)} (known: {', '.join(allowed)})")
        return allowed[value]

    def per_layer(self, key: str, layers: int) -> list[Any] | None:
        """Return a list with one entry per layer (entries beyond, of prediction heads, are dropped), or None where absent."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) < layers:
            raise SpecError(f"{self.where}: {key} must be a list of at least {layers} entries, one per layer")
        return value[:layers]

    def part(self, key: str) -> "Fields | None":
        """Return a nested config, or None where absent."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise SpecError(f"{self.where}: {key} must be a mapping, got {str(value)[:60]!r}")
        return Fields(value, f"{self.where}: {key}")

    def needs_off(self, *keys: str) -> None:
        """Refuse switches and counts that would change the architecture unless they are absent, null, false or 0."""
        for key in keys:
            value = self.get(key)
            if value:
                raise self.refuse(f"{key} = {_short(value)}")

    def skip(self, *keys: str) -> None:
        """Mark fields that repeat others or do not matter to this family."""
        self.seen.update(keys)

    def check_all_read(self) -> None:
        """Refuse what looks like architecture and was not read.

        Raises:
            SpecError: Names the fields with their values.
        """
        left = [
            f"{key} = {_short(value)}"
            for key, value in self.document.items()
            if key not in self.seen and _is_set(value) and _ARCHITECTURAL.search(key) and not _HARMLESS.search(key)
        ]
        if left:
            raise self.refuse(f"{', '.join(left[:4])}{f' and {len(left) - 4} more fields' if len(left) > 4 else ''}")  # noqa: PLR2004 -- message width


def _is_set(value: Any) -> bool:
    return value not in (None, False, 0) and value not in ([], {}, "")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."  # noqa: PLR2004 -- message width
