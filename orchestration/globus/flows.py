"""Flows of the Globus Flows service: registered once, brought up to date after that."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import globus_sdk
from globus_sdk.scopes import FlowsScopes

from orchestration.config import Credentials
from orchestration.errors import OrchestrationError, UnknownName
from orchestration.globus.auth import no_retries, once_transport
from orchestration.globus.errors import translate
from orchestration.ledger.service import Document

T = TypeVar("T")

TRANSFER = "https://transfer.actions.globus.org/transfer"
COMPUTE = "https://compute.actions.globus.org/v3"
"""The action providers of Globus that the flows here use."""

WHERE = "Globus Flows"

_OURS = ("flow_owner", "flow_administrator")
"""Roles of those who may bring a flow up to date."""

_CHECKSUM = 3
"""What has the same checksum is not sent again. The SDK has words for these levels, the interface has numbers."""


class Effect(enum.StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, kw_only=True)
class FlowDefinition:
    """What is to be registered; the title is how people find it, and how it is found again if its id was lost."""

    title: str
    subtitle: str
    definition: Document
    input_schema: Document
    keywords: tuple[str, ...] = ()

    def document(self) -> Document:
        return {
            "title": self.title,
            "subtitle": self.subtitle,
            "definition": self.definition,
            "input_schema": self.input_schema,
            "keywords": list(self.keywords),
        }


@dataclass(frozen=True, kw_only=True)
class Registered:
    id: str
    effect: Effect


@dataclass(frozen=True)
class GlobusFlows:
    """The flows of this service's client."""

    credentials: Credentials
    _client: list[globus_sdk.FlowsClient] = field(default_factory=list, init=False, repr=False, compare=False)

    def publish(self, wanted: FlowDefinition, *, known: str = "") -> Registered:
        """Register a flow, or bring the one that is `known` by its id up to date; never a second one of its title.

        Raises:
            UnknownName: if several flows have that title, and none is the known one.
            OrchestrationError: what Globus says against it.
        """
        found = self._find(wanted.title, known)
        if found is None:
            made = self._ask(lambda client: client.create_flow(**self._fields(wanted)))
            return Registered(id=str(made["id"]), effect=Effect.CREATED)
        id_ = str(found["id"])
        if all(found.get(name) == value for name, value in wanted.document().items()):
            return Registered(id=id_, effect=Effect.UNCHANGED)
        self._ask(lambda client: client.update_flow(id_, **self._fields(wanted)))
        return Registered(id=id_, effect=Effect.UPDATED)

    def _find(self, title: str, known: str) -> Mapping[str, Any] | None:
        if known and (found := self._get(known)) is not None:
            return found
        same = [flow for flow in self._ask(lambda client: self._mine(client, title)) if flow["title"] == title]
        if len(same) > 1:
            raise UnknownName(
                f"{len(same)} flows are called {title!r}: {', '.join(str(flow['id']) for flow in same)}",
                where=WHERE,
                next_step="delete all but one of them, or name the right one with --flow-id",
            )
        return None if not same else self._get(str(same[0]["id"]))

    @staticmethod
    def _mine(client: globus_sdk.FlowsClient, title: str) -> list[Mapping[str, Any]]:
        """Of all pages: the search is for words, and finds titles that are much like it as well."""
        return list(client.paginated.list_flows(filter_fulltext=title, filter_roles=_OURS).items())

    def _get(self, id_: str) -> Mapping[str, Any] | None:
        try:
            found: Mapping[str, Any] = self._ask(lambda client: client.get_flow(id_).data)
        except _Missing:
            return None
        return found

    def _ask(self, ask: Callable[[globus_sdk.FlowsClient], T]) -> T:
        try:
            return ask(self._connected())
        except globus_sdk.FlowsAPIError as error:
            if error.http_status == 404:
                raise _Missing(f"there is no such flow: {error.message}", where=WHERE) from error
            raise translate(error, where=WHERE) from error
        except globus_sdk.GlobusError as error:
            raise translate(error, where=WHERE) from error

    def _connected(self) -> globus_sdk.FlowsClient:
        if not self._client:
            identifier, secret = self.credentials.globus()
            application = globus_sdk.ConfidentialAppAuthClient(
                identifier, secret.get_secret_value(), transport=once_transport(), retry_config=no_retries()
            )
            scopes = [str(FlowsScopes.manage_flows), str(FlowsScopes.view_flows)]
            authorizer = globus_sdk.ClientCredentialsAuthorizer(application, scopes)
            self._client.append(
                globus_sdk.FlowsClient(authorizer=authorizer, transport=once_transport(), retry_config=no_retries())
            )
        return self._client[0]

    @staticmethod
    def _fields(wanted: FlowDefinition) -> dict[str, Any]:
        return dict(wanted.document())


class _Missing(OrchestrationError):
    """Globus Flows knows no flow of that id."""


def reconstruction_flow(*, name: str, step: str) -> FlowDefinition:
    """Carry a scan to a facility, run one registered function on it there, and carry the results back.

    `step` is what the function does, for people.
    """
    return FlowDefinition(
        title=name,
        subtitle=f"Transfer a scan, {step}, and transfer the results back",
        keywords=("tomography", "beamline-orchestration"),
        definition={
            "Comment": f"transfer, {step}, transfer",
            "StartAt": "TransferToFacility",
            "States": {
                "TransferToFacility": _transfer("$.input.source", "$.input.facility_raw", following="Compute"),
                "Compute": {
                    "Type": "Action",
                    "ActionUrl": COMPUTE,
                    "ExceptionOnActionFailure": True,
                    "Parameters": {
                        "endpoint_id.$": "$.input.compute_endpoint_id",
                        "tasks": [
                            {"function_id.$": "$.input.compute_function_id", "kwargs.$": "$.input.compute_kwargs"}
                        ],
                    },
                    "ResultPath": "$.Compute",
                    "WaitTime": 86400,
                    "Next": "TransferFromFacility",
                },
                "TransferFromFacility": _transfer("$.input.facility_results", "$.input.destination", following=None),
            },
        },
        input_schema={
            "type": "object",
            "additionalProperties": False,
            "required": ["input"],
            "properties": {
                "input": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": [*_PLACES, "compute_endpoint_id", "compute_function_id", "compute_kwargs"],
                    "properties": {
                        **dict.fromkeys(_PLACES, _PLACE),
                        "compute_endpoint_id": {"type": "string", "format": "uuid"},
                        "compute_function_id": {"type": "string", "format": "uuid"},
                        "compute_kwargs": {"type": "object"},
                    },
                }
            },
        },
    )


_PLACES = ("source", "facility_raw", "facility_results", "destination")
_PLACE: Document = {
    "type": "object",
    "format": "globus-collection",
    "required": ["id", "path"],
    "properties": {"id": {"type": "string", "format": "uuid"}, "path": {"type": "string"}},
    "additionalProperties": False,
}


def _transfer(source: str, destination: str, *, following: str | None) -> Document:
    action: Document = {
        "Type": "Action",
        "ActionUrl": TRANSFER,
        "ExceptionOnActionFailure": True,
        "Parameters": {
            "source_endpoint.$": f"{source}.id",
            "destination_endpoint.$": f"{destination}.id",
            "DATA": [{"source_path.$": f"{source}.path", "destination_path.$": f"{destination}.path"}],
            "verify_checksum": True,
            "sync_level": _CHECKSUM,
        },
        "ResultPath": f"$.{destination.rpartition('.')[2]}_transfer",
        "WaitTime": 86400,
    }
    return action | ({"End": True} if following is None else {"Next": following})
