"""Write the 797 held-out digits as the file to upload: ``python -m examples.digits.heldout digits_heldout.npz``."""

import argparse
from pathlib import Path

import numpy as np

from examples.digits.data import digits


def write_heldout(path: Path) -> int:
    """Write ``x`` uint8 ``(797, 8, 8, 1)`` in 0..16 and ``y`` in 0..9, compressed; return the number of images."""
    images = digits()
    np.savez_compressed(path, x=images.heldout_x, y=images.heldout_y)
    return len(images.heldout_y)


def main() -> None:
    """Write the file named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, nargs="?", default=Path("digits_heldout.npz"))
    path = parser.parse_args().path
    print(f"wrote {write_heldout(path)} images to {path}")


if __name__ == "__main__":
    main()
