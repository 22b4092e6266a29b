"""Reads the JSON object that ends the demo, and fails if the demo did not show what it must."""

from __future__ import annotations

import json
import sys


def complaints(summary: dict[str, object]) -> list[str]:
    """What is wrong with the outcome of the demo; empty if nothing is."""
    reconstruction, catalogue = summary["reconstruction"], summary["catalogue"]
    if not isinstance(reconstruction, dict) or not isinstance(catalogue, dict):
        return ["reconstruction and catalogue must be objects"]
    found = []
    if summary["state"] != "completed":
        found.append(f"state is {summary['state']}")
    if not reconstruction["relative_l2"] < 0.15:
        found.append(f"relative L2 error is {reconstruction['relative_l2']}")
    if not abs(reconstruction["center_error_px"]) < 0.25:
        found.append(f"the center of rotation is off by {reconstruction['center_error_px']} pixels")
    if (catalogue["raw"], catalogue["derived"]) != (1, 2):
        found.append(f"the catalogue holds {catalogue}")
    if not summary["prunes_scheduled"]:
        found.append("no deletion is scheduled")
    return found


def main() -> int:
    summary = json.load(sys.stdin)
    print(json.dumps(summary, indent=2))
    wrong = complaints(summary)
    for complaint in wrong:
        print(f"demo: {complaint}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
