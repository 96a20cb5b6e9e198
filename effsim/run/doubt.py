"""Figures of data files that state a range: each is a cause of doubt of its own, which moves a run's account from end to end."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from effsim.site.account import Use
from effsim.specs.figure import Figure
from effsim.specs.site import Site

SITE_FIGURES: Final = ("pue", "carbon_intensity", "electricity_price", "water_on_site", "water_of_grid")
ACCELERATOR_FIGURES: Final = ("purchase_price", "rental_price", "embodied_carbon")
NODE_FIGURES: Final = ("host_idle_power", "host_busy_power", "fan_power", "psu_efficiency", "purchase_price", "embodied_carbon")
PRICED: Final = {"purchase_price": "purchase price", "rental_price": "rental price", "embodied_carbon": "embodied carbon"}


@dataclass(frozen=True, slots=True)
class Shift:
    """One figure of one file, moved to an end of its range; ``kind`` is ``site``, ``accelerator`` or ``node``."""

    kind: str
    name: str
    figure: str
    value: float

    def site(self, site: Site | None) -> Site | None:
        """Return the site with the figure moved, if it is the site's."""
        return None if site is None else self._moved("site", site)

    def use(self, use: Use) -> Use:
        """Return the use with the figure moved in its accelerator or node, if it is theirs."""
        return replace(use, accelerator=self._moved("accelerator", use.accelerator), node=self._moved("node", use.node))

    def _moved(self, kind: str, spec: Any) -> Any:
        if (kind, spec.name) != (self.kind, self.name):
            return spec
        figure = getattr(spec, self.figure)
        return spec.model_copy(update={self.figure: figure.model_copy(update={"value": self.value})})


def shifts(uses: Sequence[Use], site: Site | None) -> dict[str, tuple[Shift, Shift]]:
    """Return for each figure with a range the shifts to its low and to its high end, within what can be.

    PUE stays at 1 or above, the efficiency of a power supply at 1 or below, an idle host at what a busy one draws or below.
    """
    found = {}
    for kind, spec, name, figure in _figures(uses, site):
        if figure is None or not _has_range(figure):
            continue
        low, high = (figure.value if end is None else end for end in (figure.low, figure.high))
        low = max(low, 1.0) if name == "pue" else low
        high = min(high, 1.0) if name == "psu_efficiency" else high
        if name == "host_idle_power":
            high = min(high, spec.host_busy_power.value)
        if name == "host_busy_power":
            low = max(low, spec.host_idle_power.value)
        found[f"{kind}.{spec.name}.{name}"] = (Shift(kind, spec.name, name, low), Shift(kind, spec.name, name, high))
    return found


def notes(uses: Sequence[Use], site: Site | None) -> tuple[str, ...]:
    """Return which figures are not known at all, and which are known without a range and so add nothing to an interval."""
    absent, exact = [], []
    for kind, spec, name, figure in _figures(uses, site):
        words = f"{PRICED.get(name, name.replace('_', ' '))} of {spec.name}"
        if figure is None and (kind == "site" or name in PRICED):
            absent.append(words)
        elif figure is not None and figure.value != 0.0 and not _has_range(figure):
            exact.append(words)
    said = []
    if absent:
        said.append(f"not known, so left out: {', '.join(absent)}")
    if exact:
        said.append(f"no interval from what has no range: {', '.join(exact)}")
    return tuple(said)


def _has_range(figure: Figure) -> bool:
    return any(end is not None and end != figure.value for end in (figure.low, figure.high))


def _figures(uses: Sequence[Use], site: Site | None) -> Iterator[tuple[str, Any, str, Figure | None]]:
    """Yield kind, spec, field and figure of what an account rests on, each once."""
    specs: dict[tuple[str, str], tuple[Any, tuple[str, ...]]] = {}
    if site is not None:
        specs["site", site.name] = (site, SITE_FIGURES)
    for use in uses:
        specs["accelerator", use.accelerator.name] = (use.accelerator, ACCELERATOR_FIGURES)
        specs["node", use.node.name] = (use.node, NODE_FIGURES)
    for (kind, _), (spec, names) in specs.items():
        for name in names:
            yield kind, spec, name, getattr(spec, name)
