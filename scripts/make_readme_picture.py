"""Puts three orthogonal slices of a demo side by side: ``python scripts/make_readme_picture.py <folder of pictures>``.

The folder is the one that `beamline show demo` names: ``rec<scan>.preview``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

OUT = Path(__file__).resolve().parents[1] / "docs" / "images" / "demo-slices.png"
SLICES = ("slice_xy.png", "slice_xz.png", "slice_yz.png")
HEIGHT = 400
GAP = 8
GREYS = 128
"""Levels; fewer than 256, which nobody sees, make a file of half the size."""


def side_by_side(folder: Path) -> Image.Image:
    slices = [Image.open(folder / name).convert("L") for name in SLICES]
    scaled = [
        each.resize((round(each.width * HEIGHT / each.height), HEIGHT), Image.Resampling.LANCZOS) for each in slices
    ]
    picture = Image.new("L", (sum(each.width for each in scaled) + GAP * (len(scaled) - 1), HEIGHT), color=255)
    left = 0
    for each in scaled:
        picture.paste(each, (left, 0))
        left += each.width + GAP
    return picture


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    OUT.parent.mkdir(parents=True, exist_ok=True)
    side_by_side(Path(sys.argv[1])).quantize(GREYS).save(OUT, optimize=True)
    print(f"{OUT}: {OUT.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
