"""A real PostgreSQL for tests."""

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running_postgresql() -> Iterator[str]:
    """Give the URL of a server that ends with the block.

    Its folder is not pytest's: another run of pytest closes that one to the user as whom the server runs under root.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of XDG_RUNTIME_DIR, on import
        import pgserver

        server = pgserver.get_server(Path(tempfile.mkdtemp(prefix="tightfit-postgresql-")), cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
