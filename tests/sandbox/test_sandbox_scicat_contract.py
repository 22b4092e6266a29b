"""Fields and answers agree with the models that SciCat generates from its own backend."""

from __future__ import annotations

from typing import Any

import pytest
from scicat_lab import ATTACHMENT, BLOCK, DERIVED, PID, RAW, Person, at

from orchestration.sandbox.scicat import fields


@pytest.fixture(scope="module")
def models() -> Any:
    """Imported where needed only: it takes seconds."""
    return pytest.importorskip("scicat_sdk_py")


def names(model: Any, *, required: bool = False) -> set[str]:
    rows = model.model_fields.items()
    return {field.alias or name for name, field in rows if field.is_required() or not required}


def test_the_stand_in_knows_the_fields_of_every_model(models: Any) -> None:
    assert fields.RAW.keys() == names(models.CreateRawDatasetObsoleteDto)
    assert fields.DERIVED.keys() == names(models.CreateDerivedDatasetObsoleteDto)
    assert fields.BLOCK.keys() == names(models.CreateDatasetOrigDatablockDto)
    assert fields.FILE.keys() == names(models.DataFile)
    assert fields.ATTACHMENT.keys() == names(models.CreateAttachmentV3Dto)
    assert fields.TECHNIQUE.keys() == names(models.TechniqueClass)


def test_the_stand_in_requires_what_every_model_requires(models: Any) -> None:
    assert set(fields.REQUIRED["raw"]) == names(models.CreateRawDatasetObsoleteDto, required=True)
    assert set(fields.REQUIRED["derived"]) == names(models.CreateDerivedDatasetObsoleteDto, required=True)
    problems = {problem.field for problem in fields.check_block({})}
    assert problems == names(models.CreateDatasetOrigDatablockDto, required=True)
    problems = {problem.field for problem in fields.check_attachment({})}
    assert problems == names(models.CreateAttachmentV3Dto, required=True)


def test_payloads_of_the_tests_are_what_the_models_accept(models: Any) -> None:
    models.CreateRawDatasetObsoleteDto.from_dict(RAW)
    models.CreateDerivedDatasetObsoleteDto.from_dict(DERIVED)
    models.CreateDatasetOrigDatablockDto.from_dict(BLOCK)
    models.CreateAttachmentV3Dto.from_dict(ATTACHMENT)


def test_answers_parse_as_the_models_of_answers(models: Any, ingestor: Person) -> None:
    http = ingestor.http
    answer = ingestor.post("/datasets", RAW).json()
    assert models.OutputDatasetObsoleteDto.from_dict(answer).pid == PID
    models.OutputDatasetObsoleteDto.from_dict(ingestor.post("/datasets", DERIVED).json())
    models.OrigDatablock.from_dict(ingestor.post(at(PID, "origdatablocks"), BLOCK).json())
    models.OutputAttachmentV3Dto.from_dict(ingestor.post(at(PID, "attachments"), ATTACHMENT).json())
    v4 = http.get(str(http.base_url).replace("v3", "v4") + at(PID).removeprefix("/")).json()
    assert models.OutputDatasetDto.from_dict(v4).principal_investigators == ["Ada"]
    login = http.post("/auth/login", json={"username": "ada", "password": "a"}).json()
    assert models.ReturnedAuthLoginDto.from_dict(login).user.username == "ada"
    assert models.ReturnedUserDto.from_dict(ingestor.get("/users/my/self").json()).email
