"""The errors that a user can cause; each message says where, what was given, what is allowed, what to do.

The command line prints these in one line and exits with code 2; any other exception is a bug and keeps
its traceback.
"""


class EffSimError(Exception):
    """Base of every error that EffSim raises on purpose."""


class SpecError(EffSimError):
    """A specification, scenario or argument is malformed or out of range."""


class UnknownNameError(SpecError):
    """A name is in no catalog; the message carries the nearest valid names."""


class InfeasibleError(EffSimError):
    """The request is well formed, but physics or a stated limit forbids it.

    Args:
        message: The sentence shown to the user.
        constraint: The binding constraint, e.g. ``"accelerator memory"``.
        remedies: What would lift it, best first.
    """

    def __init__(self, message: str, constraint: str, remedies: tuple[str, ...] = ()) -> None:
        """Keep the parts apart so that reports can list them in columns."""
        self.constraint = constraint
        self.remedies = remedies
        hint = f" What would lift it: {'; '.join(remedies)}." if remedies else ""
        super().__init__(f"{message}{hint}")


class MeterUnavailableError(EffSimError):
    """A power meter is missing or not permitted; the message holds the remedy."""


class CalibrationError(EffSimError):
    """A calibration cannot be read, or does not match what it is used for."""


class MissingExtraError(EffSimError):
    """An optional dependency is absent; the message says what to install."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        """Name the package, the extra that brings it and what it was wanted for."""
        super().__init__(f'{purpose} needs the package {package}: pip install "effsim[{extra}]"')


def shown(value: object, limit: int = 80) -> str:
    """Return a value as messages show it: quoted, and cut where it is long.

    >>> shown("700 Wat"), shown("x" * 100, limit=8)
    ("'700 Wat'", "'xxxx...")
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # e.g. an integer of more digits than Python prints
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
