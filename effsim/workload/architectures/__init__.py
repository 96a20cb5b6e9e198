"""One module per architecture family, each with ``lower(model, parallelism, formats...) -> OpTable``."""
