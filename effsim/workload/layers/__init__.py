"""One module per layer type: from its shapes to operations."""
