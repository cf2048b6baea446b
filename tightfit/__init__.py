"""Makes a neural network fit a device.

``Client`` talks to a tightfit service, ``load`` runs a packed checkpoint. Both are imported on first use, so that a
client needs no torch and ``load`` needs no HTTP.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compress.checkpoint import load
    from service.client import Client

    __version__: str

__all__ = ["Client", "__version__", "load"]

_HOMES = {"Client": "service.client", "load": "compress.checkpoint"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("tightfit")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
