"""``python -m service.cli`` is ``tightfit``."""

from service.cli.main import main

main()
