"""EffSim plans the energy of large language models: time, power, energy, carbon and cost, before anything is bought or run."""
