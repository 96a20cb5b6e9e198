"""Parameters of the vision towers that come with multimodal models; only counted, never lowered.

``d`` is the tower's hidden size, ``i`` its intermediate size, ``t`` the hidden size of the text model.
"""

from collections.abc import Callable
from typing import Final

from effsim.errors import shown
from effsim.specs.hf.fields import Fields


def _linear(inputs: int, outputs: int, *, bias: bool = True) -> int:
    return inputs * outputs + (outputs if bias else 0)


def encoder_layer(hidden: int, intermediate: int) -> int:
    """Return one layer of a plain vision transformer: four projections (d, d), two matrices (d, i), two layer norms, all with bias.

    >>> encoder_layer(1152, 4304)
    15239504
    """
    return 4 * _linear(hidden, hidden) + _linear(hidden, intermediate) + _linear(intermediate, hidden) + 4 * hidden


def qwen_vl(vision: Fields, text_hidden: int, _top: Fields) -> int:
    """Qwen3-VL and Qwen3.5: patches as a 3-D convolution, learned positions, one merger to the text model and one more per deepstack level."""
    hidden = vision.integer("hidden_size")
    patch = vision.integer("in_channels") * vision.integer("temporal_patch_size") * vision.integer("patch_size") ** 2
    wide = hidden * vision.integer("spatial_merge_size") ** 2
    out = vision.integer("out_hidden_size")
    if out != text_hidden:
        raise vision.refuse(f"out_hidden_size {out} beside a text model of {text_hidden}")
    merge = _linear(wide, wide) + _linear(wide, out)
    deepstack = len(vision.entries("deepstack_visual_indexes"))
    layers = vision.integer("depth") * encoder_layer(hidden, vision.integer("intermediate_size"))
    return _linear(patch, hidden) + vision.integer("num_position_embeddings") * hidden + layers + merge + 2 * hidden + deepstack * (merge + 2 * wide)


def moonvit(vision: Fields, text_hidden: int, _top: Fields) -> int:
    """Kimi K2.5: patches with learned positions, a final norm, a projector of two layers over merged patches."""
    hidden = vision.integer("vt_hidden_size", "hidden_size")
    merge = vision.entries("merge_kernel_size")
    if len(merge) != 2 or not all(isinstance(side, int) for side in merge):  # noqa: PLR2004 -- two directions
        raise vision.refuse(f"merge_kernel_size = {shown(merge)}")
    vision.choice("mm_projector_type", allowed={"patchmerger": "patchmerger"}, default="patchmerger")
    wide = hidden * merge[0] * merge[1]
    patches = _linear(3 * vision.integer("patch_size") ** 2, hidden)
    positions = vision.integer("init_pos_emb_height", "pos_emb_height") * vision.integer("init_pos_emb_width", "pos_emb_width") * hidden
    layers = vision.integer("vt_num_hidden_layers", "num_hidden_layers") * encoder_layer(hidden, vision.integer("vt_intermediate_size", "intermediate_size"))
    return patches + positions + layers + 4 * hidden + _linear(wide, wide) + _linear(wide, text_hidden)


def gemma4(vision: Fields, text_hidden: int, _top: Fields) -> int:
    """Gemma 4: two position tables, gated layers with four norms and head norms, output scale and shift, one projection (d, t)."""
    hidden = vision.integer("hidden_size")
    heads = vision.integer("num_attention_heads") * vision.integer("head_dim")
    keys = vision.integer("num_key_value_heads") * vision.integer("head_dim")
    layer = 2 * hidden * (heads + keys) + 2 * vision.integer("head_dim") + 4 * hidden + 3 * hidden * vision.integer("intermediate_size")
    patches = 3 * vision.integer("patch_size") ** 2 * hidden
    positions = 2 * vision.integer("position_embedding_size") * hidden
    standard = 2 * hidden if vision.flag("standardize") else 0
    return patches + positions + vision.integer("num_hidden_layers") * layer + standard + hidden * text_hidden


def siglip(vision: Fields, text_hidden: int, _top: Fields) -> int:
    """Gemma 3: SigLIP with learned positions and a final norm; a norm and one projection (d, t).

    The pooling head, where there is one, is one more layer with one norm (2 d) and a probe (d) in place of two norms (4 d).
    """
    vision = vision.with_defaults({"num_channels": 3, "num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 3072, "patch_size": 16})
    hidden, patch = vision.integer("hidden_size"), vision.integer("patch_size")
    positions = (vision.integer("image_size") // patch) ** 2 * hidden
    layers = vision.integer("num_hidden_layers") * encoder_layer(hidden, vision.integer("intermediate_size"))
    if vision.flag("vision_use_head", default=True):
        layers += encoder_layer(hidden, vision.integer("intermediate_size")) - hidden
    return _linear(vision.integer("num_channels") * patch**2, hidden) + positions + layers + 2 * hidden + hidden + hidden * text_hidden


def minimax_m3(vision: Fields, text_hidden: int, top: Fields) -> int:
    """MiniMax-M3: patches without bias, a norm first, a projector of two layers per patch and two per merged patch."""
    hidden = vision.integer("hidden_size")
    compression = vision.part("img_token_compression_config")
    if compression is None:
        raise vision.refuse("a vision tower without img_token_compression_config")
    patch = vision.integer("num_channels") * compression.integer("temporal_patch_size") * vision.integer("patch_size") ** 2
    merged = text_hidden * compression.integer("spatial_merge_size") ** 2
    projected = top.integer("projector_hidden_size")
    layers = vision.integer("num_hidden_layers") * encoder_layer(hidden, vision.integer("intermediate_size"))
    projector = _linear(hidden, projected) + _linear(projected, text_hidden) + _linear(merged, projected) + _linear(projected, text_hidden)
    return patch * hidden + 2 * hidden + layers + projector


def llama4(vision: Fields, text_hidden: int, _top: Fields) -> int:
    """Llama 4: class and learned positions, norms before and after, pixel shuffle with two matrices, one projection (o, t)."""
    hidden, patch = vision.integer("hidden_size"), vision.integer("patch_size")
    patches = (vision.integer("image_size") // patch) ** 2 + 1
    shuffle = vision.get("pixel_shuffle_ratio")
    if shuffle != 0.5:  # noqa: PLR2004 -- the one ratio released
        raise vision.refuse(f"pixel_shuffle_ratio = {shown(shuffle)}")
    out = vision.integer("projector_output_dim")
    adapter = vision.integer("intermediate_size") * vision.integer("projector_input_dim") + out * out
    layers = vision.integer("num_hidden_layers") * encoder_layer(hidden, vision.integer("intermediate_size"))
    stem = vision.integer("num_channels") * patch**2 * hidden + hidden + patches * hidden + 4 * hidden
    return stem + layers + adapter + vision.integer("vision_output_dim") * text_hidden


TOWERS: Final[dict[str, Callable[[Fields, int, Fields], int]]] = {
    "qwen3_vl": qwen_vl,
    "qwen3_vl_moe": qwen_vl,
    "qwen3_5": qwen_vl,
    "qwen3_5_moe": qwen_vl,
    "kimi_k25": moonvit,
    "gemma4": gemma4,
    "gemma3": siglip,
    "minimax_m3_vl": minimax_m3,
    "llama4": llama4,
}
"""``model_type`` of a multimodal config -> parameters of its tower and projector."""
