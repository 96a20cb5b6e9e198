"""Experiments that measure on this machine and stand beside the prediction."""
