"""The version: the only place where it stands; the changelog's top entry is tested equal to it."""

__version__ = "0.1.0"
