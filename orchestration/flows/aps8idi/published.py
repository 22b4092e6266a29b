"""The record of one XPCS result in a search index: while it is awaited, when it is there, and if there will be none.

A field of an index keeps the type of the first value that it was given: what is in several of these records is made in
one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orchestration.config import SearchIndex
from orchestration.errors import InvalidInput
from orchestration.globus.published_files import PublishedFile
from orchestration.globus.publishing import Located, Record, RecordState, Reprocessing, clean
from orchestration.globus.search_entries import PublishRequest, mark_of
from orchestration.ledger.results import Receipt
from orchestration.ledger.service import Document, Json

if TYPE_CHECKING:
    from orchestration.config.xpcs import XpcsDeployment

TECHNIQUE = "XPCS"

_AS_RECORDED = ("start_time_recorded",), ("acquisition", "end_time_recorded")
"""Texts of files, of any form: an index that takes the first for a date refuses all that are none."""


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What is known of a dataset from the beginning."""

    deployment: XpcsDeployment
    title: str
    dataset: str
    experiment: str
    """As `cycle`, `parent` and `suffix`, empty if there is none."""
    cycle: str
    raw: Located
    qmap: Located
    parent: str
    """The folder with this dataset and its like."""
    parameters: Mapping[str, Json]
    taken: datetime | None
    """When it was measured, or else when its file was written."""
    suffix: str = ""
    reprocessing: Reprocessing | None = None
    visible_to: tuple[str, ...] = ()
    """Those of the index, if empty."""

    def placeholder(self, index: SearchIndex, subject: str) -> PublishRequest:
        return self._request(index, subject, RecordState.PLACEHOLDER)

    def final(
        self,
        index: SearchIndex,
        subject: str,
        *,
        metadata: Mapping[str, Json],
        files: Sequence[PublishedFile],
        receipt: Receipt | None = None,
    ) -> PublishRequest:
        """`metadata` is what ``metadata.json`` has as ``project_metadata``."""
        told = {**metadata, **({} if receipt is None else {"provenance": _provenance(receipt)})}
        return self._request(index, subject, RecordState.FINAL, told=told, files=tuple(files))

    def failed(self, index: SearchIndex, subject: str, *, reason: str) -> PublishRequest:
        """Dated today if it failed before it was known when it was measured."""
        if self.taken is None:
            return replace(self, taken=datetime.now(UTC)).failed(index, subject, reason=reason)
        return self._request(index, subject, RecordState.FAILED, reason=reason)

    def _request(
        self,
        index: SearchIndex,
        subject: str,
        state: RecordState,
        *,
        reason: str = "",
        told: Mapping[str, Json] | None = None,
        files: tuple[PublishedFile, ...] = (),
    ) -> PublishRequest:
        told = told or {}
        record = Record(
            title=self.title,
            created=self._created(told),
            state=state,
            reason=reason,
            subjects=(TECHNIQUE,),
            files=files,
            project_metadata={**_readable(told), **self._known()},
            reprocessing=self.reprocessing,
        )
        return record.request(index, subject=subject, visible_to=self.visible_to)

    def _known(self) -> Document:
        texts = {
            "dataset": self.dataset,
            "experiment": self.experiment,
            "cycle": self.cycle,
            "parent": self.parent,
            "suffix": self.suffix,
            "organization": self.deployment.organization,
            "facility": self.deployment.facility,
            "beamline": self.deployment.beamline,
        }
        return {
            **{name: text for name, text in texts.items() if text},
            "inputs": {"raw": self.raw.document(), "qmap": self.qmap.document()},
            "parameters": clean(self.parameters),
        }

    def _created(self, told: Mapping[str, Json]) -> datetime:
        """As the result tells it, which has read the file."""
        started = told.get("start_time")
        moment = datetime.fromisoformat(started) if isinstance(started, str) else self.taken
        if moment is None:
            raise InvalidInput(
                "it is not known when this was measured",
                where=self.title,
                next_step="give the time of the raw file where the metadata has none",
            )
        return moment


@dataclass(frozen=True, kw_only=True)
class Original:
    """What is needed of a published record to make its result again."""

    subject: str
    title: str
    dataset: str
    experiment: str
    """As `cycle`, `parent` and `suffix`, empty if there is none."""
    cycle: str
    parent: str
    suffix: str
    raw: Located
    qmap: Located
    parameters: Document


def original_of(content: Mapping[str, Json]) -> Original:
    """From the content of an entry, as it is read back.

    Raises:
        InvalidInput: if this service did not write it, or there is no result of it, or something is missing.
    """
    title, subject = _text(content, "dc.titles.title"), _text(content, "dc.identifiers.identifier")
    where = subject or title or "published record"
    if not mark_of(content):
        raise InvalidInput("this record is of another program, which says other things", where=where)
    state = _text(content, "status.state")
    if state != RecordState.FINAL:
        raise InvalidInput(
            f"this record is no final one, but {state or 'of no state'}",
            where=where,
            next_step="wait for its result, or start the flow of its dataset again",
        )
    dataset = _text(content, "project_metadata.dataset")
    raw, qmap = (_located(content, f"project_metadata.inputs.{role}") for role in ("raw", "qmap"))
    needed = {"its subject": subject, "a title": title, "the dataset": dataset, "the raw data": raw, "the qmap": qmap}
    if raw is None or qmap is None or not all(needed.values()):
        missing = ", ".join(name for name, value in needed.items() if not value)
        raise InvalidInput(f"this record does not name {missing}", where=where)
    others = {name: _text(content, f"project_metadata.{name}") for name in ("experiment", "cycle", "parent", "suffix")}
    parameters = _at(content, "project_metadata.parameters")
    return Original(
        subject=subject,
        title=title,
        dataset=dataset,
        raw=raw,
        qmap=qmap,
        parameters=parameters if isinstance(parameters, dict) else {},
        **others,
    )


def _readable(told: Mapping[str, Json]) -> Document:
    """What the result tells, with `_AS_RECORDED` in quotes: then they are taken for texts, whatever they say."""
    readable = dict(told)
    for *sections, name in _AS_RECORDED:
        holder = readable
        for section in sections:
            inner = holder.get(section)
            holder[section] = holder = dict(inner) if isinstance(inner, dict) else {}
        if isinstance(text := holder.get(name), str):
            holder[name] = f'"{text}"'
    return readable


def _provenance(receipt: Receipt) -> Document:
    return {"code_version": receipt.code_version, "site": receipt.site, "job": receipt.job}


def _located(content: Mapping[str, Json], path: str) -> Located | None:
    name, endpoint, lies_at = (_text(content, f"{path}.{key}") for key in ("name", "source_endpoint", "source_path"))
    return Located(name=name, endpoint=endpoint, path=lies_at) if name and endpoint and lies_at else None


def _text(content: Mapping[str, Json], path: str) -> str:
    found = _at(content, path)
    return found if isinstance(found, str) else ""


def _at(content: Mapping[str, Json], path: str) -> Json:
    """The value at a path with dots, of the first item where it leads through a list; None if nothing is there."""
    found: Json = dict(content)
    for part in path.split("."):
        if isinstance(found, list):
            found = found[0] if found else None
        found = found.get(part) if isinstance(found, dict) else None
    return found
