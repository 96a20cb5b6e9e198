"""From the joules of accelerators to the bill of a site.

``effsim.site("france")`` is public, like ``effsim.accelerator("h100_sxm")``; importing any module of this package binds the
name ``effsim.site`` to the package. So the package can be called.
"""

import sys
from types import ModuleType
from typing import Any

from effsim.specs.loading import site as _load
from effsim.specs.site import Site


class _CallablePackage(ModuleType):
    def __call__(self, name: str | Site | dict[str, Any]) -> Site:
        """Return a site; arguments and errors as for :func:`effsim.specs.loading.site`."""
        return _load(name)


sys.modules[__name__].__class__ = _CallablePackage
