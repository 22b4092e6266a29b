"""What services of the API answer while the machine is in maintenance."""

from __future__ import annotations

from starlette.responses import JSONResponse

from orchestration.ledger.service import Document
from orchestration.sandbox.superfacility.answers import Refusal
from orchestration.sandbox.superfacility.knobs import Board, Maintenance, Service


def down(board: Board, service: Service, shape: Document) -> JSONResponse | None:
    """The answer of a service that is in maintenance; None where it is not.

    `shape` is what its answers consist of besides status and error, without content. Raises: Refusal.
    """
    knobs = board.now
    told: Document = {"status": "ERROR", "error": knobs.maintenance_text}
    if knobs.maintenance is Maintenance.NONE or service not in knobs.maintenance_services:
        return None
    match knobs.maintenance:
        case Maintenance.UNAVAILABLE:
            raise Refusal(503, knobs.maintenance_text)
        case Maintenance.ERROR:
            return JSONResponse(told | shape)
        case Maintenance.NULL:
            return JSONResponse(told | {name: None if value == [] else value for name, value in shape.items()})
