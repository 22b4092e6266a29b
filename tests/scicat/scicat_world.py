"""What SciCat's own client library says that its server takes, and who talks to the one of the sandbox."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from scicat_sdk_py.models.create_attachment_v3_dto import CreateAttachmentV3Dto
from scicat_sdk_py.models.create_dataset_orig_datablock_dto import CreateDatasetOrigDatablockDto
from scicat_sdk_py.models.create_derived_dataset_obsolete_dto import CreateDerivedDatasetObsoleteDto
from scicat_sdk_py.models.create_raw_dataset_obsolete_dto import CreateRawDatasetObsoleteDto

from orchestration.config import ScicatSettings
from orchestration.ledger import Ledger
from orchestration.ledger.operation import Operation
from orchestration.paths import RelativePath
from orchestration.policy import Place, Zone
from orchestration.sandbox.testing import RunningFacility
from orchestration.scicat import Attachment, DataFile, IngestRequest, RawDataset, ScicatClient

PICTURE = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n a picture").decode()
WRITTEN = datetime(2026, 3, 1, 9, 4, 5, 678901, tzinfo=UTC)

CATALOGUE = Place("scicat", Zone.EXTERNAL)

MODELS: dict[str, type[BaseModel]] = {
    "raw": CreateRawDatasetObsoleteDto,
    "derived": CreateDerivedDatasetObsoleteDto,
    "block": CreateDatasetOrigDatablockDto,
    "attachment": CreateAttachmentV3Dto,
}


def small_record() -> RawDataset:
    return RawDataset(
        name="20260301_090405_bone",
        owner="A. User",
        principal_investigator="A. User",
        contact_email="a.user@example.org",
        owner_group="ALS-01234",
        access_groups=("8.3.2",),
        creation_location="ALS 8.3.2",
        source_folder="/data/raw/ALS-01234/",
        creation_time=WRITTEN,
        description="bone",
        keywords=("bone",),
        proposal_id="ALS-01234",
        scientific_metadata={"/measurement/instrument/detector/pixel_size": {"value": 0.65, "unit": "µm"}},
    )


def small_request() -> IngestRequest:
    return IngestRequest(
        identity="scan-1/raw",
        record=small_record(),
        files=(DataFile(path="bone.h5", size=1234, time=WRITTEN, checksum="ab" * 32),),
        attachments=(Attachment(thumbnail=PICTURE, caption="raw image"),),
    )


def ingest_operation(ledger: Ledger, request: IngestRequest) -> Operation[IngestRequest]:
    scan = ledger.scans.register(beamline="bl832", path=RelativePath("raw/ALS-01234/bone.h5"), fingerprint="1:2")
    return Operation(scan=scan, step="catalogue raw", request=request, destination=CATALOGUE, deadline=60)


def connect(facility: RunningFacility, settings: ScicatSettings, *, password: str = "") -> ScicatClient:
    environment = facility.environment()
    user, secret = environment["SCICAT_INGEST_USER"], SecretStr(password or environment["SCICAT_INGEST_PASSWORD"])
    return ScicatClient(settings.require_api_url(), lambda: (user, secret))


def problems(kind: str, body: dict[str, Any]) -> list[str]:
    """Missing and mistyped fields, and keys at any level that the server would refuse."""
    model = MODELS[kind]
    try:
        model.model_validate(body)
    except ValidationError as error:
        return [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return list(_unknown(model, body, ""))


def _unknown(model: type[BaseModel], body: dict[str, Any], where: str) -> list[str]:
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    found = [f"{where}{key}: should not exist" for key in body if key not in fields]
    for key, value in body.items():
        inner = _model(fields[key].annotation) if key in fields else None
        if inner is not None:
            for item in value if isinstance(value, list) else [value]:
                found += _unknown(inner, item, f"{where}{key}.")
    return found


def _model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model(part))), None)
