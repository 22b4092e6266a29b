"""What the search index says of a correlation: that it is to come, that it is there, or why there is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from orchestration.config import SearchIndex
from orchestration.config.xpcs import XpcsDeployment
from orchestration.errors import Embargoed, NotTheOwner, OrchestrationError, PolicyRefused, SourceMissing
from orchestration.flows.aps8idi.payload import Payload
from orchestration.flows.aps8idi.published import Publication
from orchestration.flows.publishing import publish
from orchestration.flows.work import Work
from orchestration.globus.published_files import MIME_TYPES, UNKNOWN_TYPE, PublishedFile, Shelf
from orchestration.globus.publishing import Located
from orchestration.globus.search_entries import EVERYBODY, PublishRequest
from orchestration.ledger.results import Receipt
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Json
from orchestration.paths import RelativePath
from orchestration.policy import BeamlineRules, embargo


@dataclass
class Announcement:
    """The record of one payload. Its subject is the address of the folder with all that is made."""

    work: Work
    scan: Scan
    payload: Payload
    index: SearchIndex
    shelf: Shelf
    found: bool = False
    """Whether there is such a dataset: if not, nothing has failed but somebody's pen."""
    over: bool = False
    """Whether the result is published: what fails after that does not make it untrue."""

    @property
    def subject(self) -> str:
        return self.shelf.url(self.payload.result_folder)

    def placeholder(self, taken: datetime) -> None:
        """Nothing is said yet of what may prove to be somebody's by its result alone."""
        request = self._publication(taken).placeholder(self.index, self.subject)
        try:
            self._publish(request, what="placeholder")
        except NotTheOwner as refusal:
            if self._owner() is not None:
                raise
            self.work.logger.warning("not published (placeholder): %s", refusal.what)

    def final(
        self,
        taken: datetime,
        *,
        metadata: Mapping[str, Json],
        files: Sequence[Mapping[str, Json]],
        receipt: Receipt,
    ) -> None:
        listed = tuple(sorted(self._file(each) for each in files))
        publication = self._publication(taken)
        request = publication.final(self.index, self.subject, metadata=metadata, files=listed, receipt=receipt)
        self._publish(request, what="record")
        self.over = True

    def failed(self, error: OrchestrationError) -> None:
        """Say why there is no result. What keeps that from being said is logged, as the failure itself is raised."""
        if self.over or (not self.found and isinstance(error, SourceMissing)):
            return
        publication = self._publication(moment(self.scan.registered_at))
        request = publication.failed(self.index, self.subject, reason=error.sentence)
        try:
            self._publish(request, what="failure")
        except OrchestrationError as silence:
            self.work.logger.error("the search index does not say that %s failed: %s", self.payload.dataset, silence)

    def _owner(self) -> str | None:
        return self.work.settings.proposal(self.scan.beamline, self.scan.path.text, self.scan.facts)

    def _publish(self, request: PublishRequest, *, what: str) -> None:
        """A scan may come under embargo on the way: it is carried on with, and what everybody would see is left out."""
        try:
            publish(self.work, self.scan, request, what=what)
        except Embargoed as refusal:
            self.work.logger.warning("not published (%s): %s", what, refusal.what)

    def _publication(self, taken: datetime) -> Publication:
        payload, deployment = self.payload, self.payload.deployment
        group = payload.options.group
        return Publication(
            deployment=deployment,
            title=payload.dataset + (f" {payload.suffix}" if payload.suffix else ""),
            dataset=payload.dataset,
            experiment=payload.found_experiment,
            cycle=payload.found_cycle,
            raw=Located(name=payload.raw.name, endpoint=deployment.source, path=payload.raw.text),
            qmap=Located(name=payload.qmap.name, endpoint=deployment.qmap_endpoint, path=payload.qmap.text),
            parent=payload.parent,
            parameters=payload.options.science,
            suffix=payload.suffix,
            reprocessing=payload.reprocessing,
            visible_to=(*self.index.visible_to, f"urn:globus:groups:id:{group}") if group else (),
            taken=taken,
        )

    def _file(self, listed: Mapping[str, Json]) -> PublishedFile:
        name = str(listed["name"])
        path: RelativePath = self.payload.result_folder / name
        return PublishedFile(
            filename=name,
            url=self.shelf.url(path),
            https_url=self.shelf.https_url(path),
            mime_type=MIME_TYPES.get(path.pure.suffix.lower(), UNKNOWN_TYPE),
            length=int(str(listed["size"])),
            sha256=str(listed["sha256"]),
        )


def withheld(work: Work, scan: Scan, payload: Payload) -> Payload:
    """The payload as it may be carried out now: without a record that everybody would see of a scan under embargo, and
    without copies for the readers of that.
    """
    name = payload.deployment.index
    if name is None or payload.options.skip_publish:
        return payload
    rules = work.settings.rules.get(scan.beamline, BeamlineRules())
    standing = embargo(scan.facts, scan.registered_at, rules)
    readers = work.settings.search.index(name).visible_to
    if standing is None or work.ledger.now() >= standing.until or EVERYBODY.isdisjoint(readers):
        return payload
    work.logger.warning("under embargo (%s): nothing is published", standing.why)
    return payload.unpublished()


@contextmanager
def announcing(work: Work, scan: Scan, payload: Payload) -> Iterator[Announcement | None]:
    """None where nothing is published. What ends in an error is said to have failed, with its reason."""
    announcement = _announcement(work, scan, payload)
    try:
        yield announcement
    except PolicyRefused:
        raise  # not even that may be told
    except OrchestrationError as error:
        if announcement is not None:
            announcement.failed(error)
        raise
    except Exception as error:
        if announcement is not None:
            announcement.failed(OrchestrationError(f"an error nobody planned for: {error!r}", where=work.run_id))
        raise


def _announcement(work: Work, scan: Scan, payload: Payload) -> Announcement | None:
    deployment = payload.deployment
    if payload.options.skip_publish or deployment.index is None:
        return None
    if scan.export_controlled:
        work.logger.warning("export-controlled: nothing is published")
        return None
    index = work.settings.search.index(deployment.index)
    shelf = Shelf.of(index, work.settings.endpoint(shelf_of(index, deployment)))
    return Announcement(work=work, scan=scan, payload=payload, index=index, shelf=shelf)


def shelf_of(index: SearchIndex, deployment: XpcsDeployment) -> str:
    """The endpoint whose files the record leads to: where the results return if the index has none of its own."""
    return index.endpoint or deployment.result_endpoint


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
