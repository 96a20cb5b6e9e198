"""What benchmarks run on: NumPy on the CPU, and whatever PyTorch drives."""
