"""Recordings that other programs made: one file per format, found because it lies in this folder; each has ``recognises`` and ``parse``."""
