"""Reads the JSON object that ends a demo, and fails if the demo did not show what it must."""

from __future__ import annotations

import json
import sys

TAU_PERCENT = 5.0
CONTRAST_PERCENT = 5.0
BASELINE = 0.002


def complaints(summary: dict[str, object]) -> list[str]:
    """What is wrong with the outcome of a demo; empty if nothing is."""
    found = [] if summary["state"] == "completed" else [f"state is {summary['state']}"]
    return found + (_of_xpcs(summary) if "correlation" in summary else _of_tomography(summary))


def _of_tomography(summary: dict[str, object]) -> list[str]:
    reconstruction, catalogue = summary["reconstruction"], summary["catalogue"]
    if not isinstance(reconstruction, dict) or not isinstance(catalogue, dict):
        return ["reconstruction and catalogue must be objects"]
    found = []
    if not reconstruction["relative_l2"] < 0.15:
        found.append(f"relative L2 error is {reconstruction['relative_l2']}")
    if not abs(reconstruction["center_error_px"]) < 0.25:
        found.append(f"the center of rotation is off by {reconstruction['center_error_px']} pixels")
    if (catalogue["raw"], catalogue["derived"]) != (1, 2):
        found.append(f"the catalogue holds {catalogue}")
    if not summary["prunes_scheduled"]:
        found.append("no deletion is scheduled")
    return found


def _of_xpcs(summary: dict[str, object]) -> list[str]:
    correlation, records = summary["correlation"], summary["records"]
    if not isinstance(correlation, dict) or not isinstance(records, list):
        return ["correlation must be an object, and records a list"]
    limits = {"tau_error_percent": TAU_PERCENT, "contrast_error_percent": CONTRAST_PERCENT, "baseline_error": BASELINE}
    found = [
        f"{name} is {correlation[name]}" for name, limit in limits.items() if not _within(correlation[name], limit)
    ]
    found += [
        f"the record of {each['title']} is {each['state'] or 'not there'}" for each in records if not _final(each)
    ]
    if len({each["subject"] for each in records}) < 2:
        found.append("there are not two records")
    if not correlation["pictures"]:
        found.append("there are no pictures")
    return found


def _within(value: object, limit: float) -> bool:
    return isinstance(value, int | float) and value < limit


def _final(record: dict[str, object]) -> bool:
    return record["state"] == "final"


def main() -> int:
    summary = json.load(sys.stdin)
    print(json.dumps(summary, indent=2))
    wrong = complaints(summary)
    for complaint in wrong:
        print(f"demo: {complaint}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
