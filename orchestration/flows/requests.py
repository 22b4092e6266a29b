"""Requests back from the ledger, for those who look after operations that they did not ask for themselves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TypeAlias

from orchestration.config import Settings
from orchestration.errors import InvalidInput
from orchestration.flows.runs import RunRequest
from orchestration.globus.search_entries import Published, WithdrawRequest
from orchestration.jobs import JobSpec
from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.service import Document, Request
from orchestration.transfers import DeleteRequest, RenameRequest, TransferRequest

logger = logging.getLogger(__name__)

_Parse: TypeAlias = Callable[[Document, Settings], Request]

_PARSERS: Mapping[str, _Parse] = {
    **dict.fromkeys(("globus.transfer", "local.transfer"), lambda document, settings: _transfer(document, settings)),
    **dict.fromkeys(("globus.delete", "local.delete"), lambda document, settings: _delete(document, settings)),
    **dict.fromkeys(("globus.rename", "local.rename"), lambda document, settings: _rename(document, settings)),
    "globus.publish": lambda document, settings: Published.parse(document, settings.search.indexes.values()),
    "globus.withdraw": lambda document, settings: WithdrawRequest.parse(document, settings.search.indexes.values()),
    **dict.fromkeys(("prefect.run", "prefect.schedule"), lambda document, _: RunRequest.parse(document)),
    **dict.fromkeys(
        ("local.jobs", "nersc.jobs", "iri.jobs", "globus.compute"), lambda document, _: JobSpec.parse(document)
    ),
}
"""By kind of service, which is its name without the site (``nersc.jobs@perlmutter``)."""


def request_of(record: OperationRecord, settings: Settings) -> Request | None:
    """What was asked of the service, or enough of it to see what came of that; None for services that never need it
    back, and where it cannot be known (any more), since the settings lack an endpoint or index that it names: the run
    that asked has to look for itself.
    """
    parse = _PARSERS.get(record.service.partition("@")[0])
    try:
        return None if parse is None else parse(record.request, settings)
    except InvalidInput as error:
        logger.warning("%s (%s) cannot be read back: %s", record.step, record.key, error)
        return None


def _transfer(document: Document, settings: Settings) -> TransferRequest:
    return TransferRequest.parse(document, settings.endpoints.values())


def _delete(document: Document, settings: Settings) -> DeleteRequest:
    return DeleteRequest.parse(document, settings.endpoints.values())


def _rename(document: Document, settings: Settings) -> RenameRequest:
    return RenameRequest.parse(document, settings.endpoints.values())
