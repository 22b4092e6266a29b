"""Which fields SciCat knows, which it needs, and of what type each is."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import clock, documents
from orchestration.sandbox.scicat.answers import Problem


class Kind(enum.Enum):
    """Types of fields: name and wording of the constraint that a wrong value breaks."""

    TEXT = ("isString", "must be a string")
    EMAIL = ("isEmail", "must be an email")
    TIME = ("isDateString", "must be a valid ISO 8601 date string")
    NUMBER = ("isNumber", "must be a number conforming to the specified constraints")
    FLAG = ("isBoolean", "must be a boolean value")
    OBJECT = ("isObject", "must be an object")
    TEXTS = ("isArray", "must be an array")
    OBJECTS = ("isInstance", "must be an array of objects")

    def accepts(self, value: Json) -> bool:
        match self:
            case Kind.TEXT:
                return isinstance(value, str)
            case Kind.EMAIL:
                return isinstance(value, str) and 0 < value.find("@") < len(value) - 1
            case Kind.TIME:
                return isinstance(value, str) and _is_time(value)
            case Kind.NUMBER:
                return isinstance(value, int | float) and not isinstance(value, bool)
            case Kind.FLAG:
                return isinstance(value, bool)
            case Kind.OBJECT:
                return isinstance(value, dict)
            case Kind.TEXTS:
                return isinstance(value, list) and all(isinstance(item, str) for item in value)
            case Kind.OBJECTS:
                return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _is_time(text: str) -> bool:
    try:
        clock.parse(text)
    except ValueError:
        return False
    return True


Fields = Mapping[str, Kind]


def _fields(**kinds: str) -> dict[str, Kind]:
    return {name: kind for kind, names in ((Kind[key], text) for key, text in kinds.items()) for name in names.split()}


_COMMON = _fields(
    TEXT="ownerGroup instrumentGroup owner orcidOfOwner sourceFolder sourceFolderHost validationStatus description "
    "datasetName classification license scientificMetadataSchema comment proposalId runNumber pid version type",
    EMAIL="ownerEmail contactEmail",
    TIME="creationTime",
    NUMBER="size packedSize numberOfFiles numberOfFilesArchived dataQualityMetrics",
    FLAG="isPublished scientificMetadataValid",
    OBJECT="datasetlifecycle scientificMetadata",
    TEXTS="accessGroups keywords sharedWith",
    OBJECTS="techniques relationships",
)
_PROCESSING = _fields(TEXT="investigator jobLogData", TEXTS="inputDatasets usedSoftware", OBJECT="jobParameters")
RAW: Fields = MappingProxyType(
    _COMMON
    | _PROCESSING
    | _fields(TEXT="principalInvestigator creationLocation dataFormat sampleId instrumentId", TIME="startTime endTime")
)
DERIVED: Fields = MappingProxyType(_COMMON | _PROCESSING)
BLOCK: Fields = MappingProxyType(_fields(NUMBER="size", TEXT="chkAlg", OBJECTS="dataFileList", FLAG="isPublished"))
ARCHIVED: Fields = MappingProxyType(
    _fields(NUMBER="size packedSize", TEXT="archiveId chkAlg version", OBJECTS="dataFileList")
)
FILE: Fields = MappingProxyType(
    _fields(TEXT="path chk uid gid perm type", NUMBER="size", TIME="time", OBJECT="metadata")
)
ATTACHMENT: Fields = MappingProxyType(
    _fields(TEXT="ownerGroup instrumentGroup id datasetId proposalId sampleId thumbnail caption", TEXTS="accessGroups")
)
TECHNIQUE: Fields = MappingProxyType(_fields(TEXT="pid name"))

_ALWAYS = ("type", "ownerGroup", "owner", "contactEmail", "sourceFolder", "creationTime", "datasetName")
REQUIRED = MappingProxyType(
    {
        "raw": (*_ALWAYS, "principalInvestigator", "creationLocation"),
        "derived": (*_ALWAYS, "investigator", "inputDatasets", "usedSoftware"),
    }
)


def check(document: Document, fields: Fields, required: tuple[str, ...] = (), *, prefix: str = "") -> list[Problem]:
    """All that is wrong with a document, unknown fields first."""
    unknown = [Problem(prefix + name, "whitelistValidation", "should not exist") for name in document.keys() - fields]
    given = {name: value for name, value in document.items() if name in fields and value is not None}
    missing = [name for name in required if name not in given]
    wrong = [name for name, value in given.items() if not fields[name].accepts(value)]
    return unknown + [Problem(prefix + name, *fields[name].value) for name in (*missing, *wrong)]


def check_dataset(document: Document) -> list[Problem]:
    """What v3 finds wrong with a new dataset."""
    kind = documents.text(document, "type")
    if kind not in REQUIRED:
        return [Problem("type", "isEnum", "must be one of the following values: raw, derived")]
    problems = check(document, RAW if kind == "raw" else DERIVED, REQUIRED[kind])
    for technique in documents.objects(document, "techniques"):
        problems += check(technique, TECHNIQUE, ("pid", "name"), prefix="techniques.")
    return problems


def check_changes(document: Document, kind: str) -> list[Problem]:
    """What is wrong with the changes of a PATCH: neither pid nor type can change."""
    fields = RAW if kind == "raw" else DERIVED
    return check(document, {name: one for name, one in fields.items() if name not in {"pid", "type"}})


def check_block(document: Document) -> list[Problem]:
    problems = check(document, BLOCK, ("size", "dataFileList"))
    for file in documents.objects(document, "dataFileList"):
        problems += check(file, FILE, ("path", "size", "time"), prefix="dataFileList.")
    return problems


def check_archived(document: Document) -> list[Problem]:
    problems = check(document, ARCHIVED, ("archiveId", "size", "packedSize", "version", "dataFileList"))
    for file in documents.objects(document, "dataFileList"):
        problems += check(file, FILE, ("path", "size", "time"), prefix="dataFileList.")
    return problems


def check_archived_changes(document: Document) -> list[Problem]:
    return check(document, ARCHIVED)


def check_attachment(document: Document) -> list[Problem]:
    return check(document, ATTACHMENT, ("caption", "ownerGroup"))
