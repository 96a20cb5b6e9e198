"""Microbenchmarks of the machine at hand: kernels that a language model is made of, their time and, where it is metered, their energy.

The package needs Python and NumPy; PyTorch for accelerators; ``nvidia-ml-py`` for the energy of NVIDIA GPUs. It also runs from a copied
folder: ``python -m effsim.bench --quick``.

- ``effsim.bench.run_file.read_run(path)`` reads what a run left;
- a new kernel is a file in :mod:`effsim.bench.kernels`, found because it lies there.
"""
