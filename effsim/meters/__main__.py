"""``python -m effsim.meters``: the commands without Typer and Rich, for bare machines."""

import sys

from effsim.meters.command import main

if __name__ == "__main__":
    sys.exit(main())
