"""Meters of this machine: one file each, found because it lies in this folder; each has a class ``Live``."""
