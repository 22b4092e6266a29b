"""Every code that Globus is known to use means something to a person."""

from __future__ import annotations

import json

import globus_sdk
import pytest
import requests

from orchestration.errors import (
    AccessDenied,
    Cancelled,
    ChecksumMismatch,
    ConfigError,
    DeadlinePassed,
    EndpointRefused,
    NoSpace,
    OperationFailed,
    OrchestrationError,
    ServiceUnavailable,
    SourceChanged,
    SourceMissing,
    TransferConflict,
    TransferFailed,
)
from orchestration.globus.errors import MEANINGS, Patience, fault, meaning, translate

EXPECTED: dict[str, type[OperationFailed]] = {
    "FILE_NOT_FOUND": SourceMissing,
    "PERMISSION_DENIED": AccessDenied,
    "VERIFY_CHECKSUM": ChecksumMismatch,
    "EXTERNAL_CHECKSUM_MISMATCH": ChecksumMismatch,
    "FILE_SIZE_CHANGED": SourceChanged,
    "NO_SPACE_LEFT": NoSpace,
    "QUOTA_EXCEEDED": NoSpace,
    "IS_A_DIRECTORY": EndpointRefused,
    "NOT_A_DIRECTORY": EndpointRefused,
    "INVALID_PATH_NAME": EndpointRefused,
    "AMBIGUOUS_PATH": EndpointRefused,
    "AUTH": EndpointRefused,
    "CONNECTION_RESET": TransferFailed,
    "CONNECT_FAILED": TransferFailed,
    "ENDPOINT_ERROR": TransferFailed,
    "ENDPOINT_TOO_BUSY": TransferFailed,
    "GC_NOT_CONNECTED": TransferFailed,
    "GC_PAUSED": EndpointRefused,
    "PAUSED": EndpointRefused,
    "TIMEOUT": TransferFailed,
    "UNKNOWN": TransferFailed,
    "SKIPPED_ERRORS": TransferFailed,
    "CANCELED": Cancelled,
    "EXPIRED": DeadlinePassed,
}
HARMLESS = {"STARTED", "PROGRESS", "SUCCEEDED", "UNPAUSED", "OK", "Queued"}


@pytest.mark.parametrize("code", sorted(EXPECTED))
def test_every_code_becomes_a_typed_error_that_says_what_and_what_next(code: str) -> None:
    error = fault(code, details="Endpoint: disk (id)\nFile: /a/b\n", where="task 1", subject="transfer of b")
    assert type(error) is EXPECTED[code]
    assert error.where == "disk (id); task 1"
    assert "/a/b" in error.what
    assert error.next_step


def test_no_code_is_left_without_a_meaning() -> None:
    assert set(MEANINGS) - {"PAUSED_BY_ADMIN"} == set(EXPECTED) | HARMLESS
    assert {code for code, found in MEANINGS.items() if found.patience is Patience.FINE} == HARMLESS


def test_an_unheard_of_code_is_waited_for_and_named() -> None:
    assert meaning("BRAND_NEW").patience is Patience.SOME
    assert "BRAND_NEW" in fault("BRAND_NEW", details="", where="", subject="it").sentence


@pytest.mark.parametrize(
    ("status", "code", "message", "kind"),
    [
        (400, "ClientError.BadRequest", "bad", EndpointRefused),
        (401, "AuthenticationFailed", "no token", ConfigError),
        (403, "ConsentRequired", "Missing required data_access consent", EndpointRefused),
        (403, "EndpointPermissionDenied", "Denied by endpoint", AccessDenied),
        (403, "PermissionDenied", "no", AccessDenied),
        (403, "Other", "no", AccessDenied),
        (404, "NotFound", "Path not found, Error (list)", SourceMissing),
        (404, "ClientError.NotFound", "No task found with id 'x'", SourceMissing),
        (404, "EndpointNotFound", "No such endpoint", EndpointRefused),
        (409, "Conflict", "identical paths", TransferConflict),
        (429, "ClientError.TooManyRequests", "slow down", ServiceUnavailable),
        (502, "ExternalError.DirListingFailed.GCDisconnected", "not connected", ServiceUnavailable),
        (502, "ExternalError.DirListingFailed.NotDirectory", "a file", EndpointRefused),
        (502, "ExternalError.MkdirFailed.Exists", "exists", EndpointRefused),
        (502, "EndpointError", "broken", ServiceUnavailable),
        (503, "ServiceUnavailable", "later", ServiceUnavailable),
        (500, "InternalError", "bug", ServiceUnavailable),
        (520, "Error", "a gateway's own", ServiceUnavailable),
        (408, "Error", "too slow", ServiceUnavailable),
        (403, "", "Request blocked", ServiceUnavailable),
        (404, "", "no such page", ServiceUnavailable),
    ],
)
def test_every_refusal_of_the_api_becomes_an_error_of_ours(
    status: int, code: str, message: str, kind: type[OrchestrationError]
) -> None:
    answer = requests.Response()
    answer.status_code = status
    answer.headers["Content-Type"] = "application/json"
    answer.headers["Retry-After"] = "3"
    answer._content = json.dumps({"code": code, "message": message, "request_id": "r", "resource": "/"}).encode()
    answer.request = requests.Request("GET", "http://localhost/").prepare()

    error = translate(globus_sdk.TransferAPIError(answer), where="here")

    assert type(error) is kind
    assert error.next_step
    if isinstance(error, ServiceUnavailable):
        assert error.retry_after == 3


def test_no_answer_at_all_is_a_service_that_is_unavailable() -> None:
    error = globus_sdk.GlobusConnectionError("refused", requests.ConnectionError())
    assert type(translate(error, where="here")) is ServiceUnavailable
    assert type(translate(globus_sdk.GlobusSDKUsageError("wrong"), where="here")) is EndpointRefused
