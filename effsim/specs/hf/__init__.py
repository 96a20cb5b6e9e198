"""Hugging Face config.json to :class:`~effsim.specs.model.Transformer`; what is not known is refused by name, never guessed."""

from effsim.specs.hf.importer import from_hf_config, read_hf_folder

__all__ = ["from_hf_config", "read_hf_folder"]
