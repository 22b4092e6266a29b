"""What is told of a correlation: its receipts in the ledger, and what the pictures' program cannot know by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from orchestration.flows.aps8idi.payload import Payload
from orchestration.ledger.copy import CopyRecord
from orchestration.ledger.perform import Outcome
from orchestration.ledger.results import Receipt
from orchestration.ledger.service import Document, Json

DISTRIBUTION = "beamline-orchestration"

_QUALITY = ("method", "occupancy", "frames", "detector", "checks", "peak_memory_bytes")
"""What a receipt says of the result itself."""


def correlation_receipt(content: Mapping[str, Any], outcome: Outcome, *, raw: CopyRecord | None, site: str) -> Receipt:
    """Of a correlation; `content` is the receipt that its program wrote."""
    return Receipt(
        inputs=(*([_copy(raw)] if raw is not None else []), *map(_input, content.get("inputs", []))),
        parameters=dict(content.get("parameters", {})),
        code_version=version(DISTRIBUTION),
        environment=dict(content.get("versions", {})),
        site=site,
        job=outcome.record.handle or "",
        timings=dict(content.get("seconds", {})),
        quality={name: content[name] for name in _QUALITY if name in content},
    )


def pictures_receipt(outcome: Outcome, *, result: Document, files: Sequence[Json], site: str) -> Receipt:
    """Of the pictures of one result."""
    return Receipt(
        inputs=(result,),
        parameters={},
        code_version=version(DISTRIBUTION),
        environment={},
        site=site,
        job=outcome.record.handle or "",
        timings={},
        quality={"files": len(files)},
    )


def extra(payload: Payload, receipt: Receipt | None) -> Document:
    """What is said beside what stands in the result: whence it came, and by which program (its `receipt`)."""
    deployment = payload.deployment
    raw: list[Json] = [deployment.to_posix(payload.raw)]
    qmap: list[Json] = [deployment.qmap_to_posix(payload.qmap)]
    texts: Document = {
        "organization": deployment.organization,
        "facility": deployment.facility,
        "experiment": payload.found_experiment,
        "cycle": payload.found_cycle,
        "time_zone": deployment.time_zone,
    }
    said: Document = {name: text for name, text in texts.items() if text}
    return {
        **said,
        "source_files": {"raw": raw, "qmap": qmap},
        "tools": [] if receipt is None else [_correlator(receipt)],
    }


def _correlator(receipt: Receipt) -> Document:
    return {
        "name": "orchestration.science xpcs correlate",
        "tool_version": receipt.code_version,
        "execution_time_seconds": sum(float(str(each)) for each in receipt.timings.values()),
        "device": "cpu",
    }


def _copy(raw: CopyRecord) -> Document:
    return {
        "dataset": raw.dataset,
        "endpoint": raw.endpoint,
        "path": raw.path.text,
        "size": raw.size,
        "checksum": raw.manifest[0].checksum if len(raw.manifest) == 1 else None,
    }


def _input(told: Mapping[str, Any]) -> Document:
    return {
        "dataset": "file",
        "endpoint": "",
        "path": str(told.get("path", "")),
        "size": told.get("bytes"),
        "checksum": f"sha256:{told['sha256']}" if told.get("sha256") else None,
    }
