"""One module per group of architecture families; each maps ``model_type`` names to readers in its ``FAMILIES``."""
