"""The records of an XPCS result in the index: they take one another's place, can be counted by, and lead back to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from publishing_room import SUBJECT, TAKEN, Bench, a_publication

from orchestration.errors import InvalidInput
from orchestration.flows.aps8idi.published import Original, Publication, original_of
from orchestration.flows.publishing import publish
from orchestration.globus.published_files import PublishedFile
from orchestration.globus.publishing import Located, Reprocessing
from orchestration.globus.search_queries import DateHistogram, Interval, MatchAny, Query, Terms
from orchestration.ledger.results import Receipt
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document, Json
from orchestration.sandbox.search.settings import INDEX

FILES = tuple(
    PublishedFile(filename=name, url=f"{SUBJECT}/{name}", length=3, sha256="00" * 32)
    for name in ("A001_results.hdf", "resources/A001_g2_corr_000_008.png")
)
RECEIPT = Receipt(
    inputs=(),
    parameters={},
    code_version="1.2.3",
    environment={},
    site="polaris",
    job="4711",
    timings={},
    quality={},
)
FACETS = (
    Terms("creators", "dc.creators.name"),
    Terms("parents", "project_metadata.parent"),
    Terms("cycles", "project_metadata.cycle"),
    DateHistogram("days", "dc.dates.date", Interval.DAY),
    Terms("qmaps", "project_metadata.reprocessing.qmap.name"),
    Terms("suffixes", "project_metadata.reprocessing.suffix"),
)


def told(**changes: Json) -> Document:
    """What ``metadata.json`` says, in short."""
    return {
        "name": "A001",
        "analysis_type": "Multitau",
        "start_time": "2026-03-01T15:00:00+00:00",
        "start_time_recorded": "2026-03-01 09:00:00",
        "organization": "Argonne National Laboratory",
        "experiment": None,
        "acquisition": {"end_time_recorded": "2026-03-01 09:01:00", "frame_time_s": 0.001},
        "fits": {"model": "single", "good": 20, "bins": [{"bin": 1, "tau_s": 0.5}]},
        **changes,
    }


def final(publication: Publication, subject: str = SUBJECT, **changes: Json) -> Any:
    def request(index: Any) -> Any:
        return publication.final(index, subject, metadata=told(**changes), files=FILES, receipt=RECEIPT)

    return request


def read(work: Bench, subject: str = SUBJECT) -> Any:
    return work.services.search.entry(work.settings.search.index(INDEX), subject=subject)


def test_a_placeholder_a_failure_and_a_result_take_one_place(work: Bench, scan: Scan) -> None:
    index, one = work.settings.search.index(INDEX), a_publication()
    publish(work, scan, one.placeholder(index, SUBJECT), what="placeholder")
    assert read(work)["status"] == {"state": "placeholder"}
    publish(work, scan, one.failed(index, SUBJECT, reason="the job failed"), what="failure")
    assert read(work)["status"] == {"state": "failed", "reason": "the job failed"}
    # As the run does that is started again.
    publish(work, scan, one.placeholder(index, SUBJECT), what="placeholder")
    publish(work, scan, final(one)(index), what="record")
    found = read(work)
    assert found["status"] == {"state": "final"}
    assert [file["filename"] for file in found["files"]] == [file.filename for file in FILES]
    assert found["dc"]["dates"] == [{"date": "2026-03-01T15:00:00Z", "dateType": "Created"}]
    metadata = found["project_metadata"]
    assert (metadata["experiment"], metadata["facility"], metadata["cycle"]) == ("foster202603", "APS", "2026-1")
    assert metadata["provenance"] == {"code_version": "1.2.3", "site": "polaris", "job": "4711"}
    assert metadata["fits"]["bins"] == [{"bin": 1, "tau_s": 0.5}]


def test_records_can_be_counted_by_what_the_portal_asks_for(work: Bench, scan: Scan) -> None:
    index, one = work.settings.search.index(INDEX), a_publication()
    again = replace(
        one,
        suffix="fine",
        reprocessing=Reprocessing(original=SUBJECT, suffix="fine", inputs={"qmap": one.qmap}, parameters={"stride": 2}),
    )
    odd: Document = {
        "start_time_recorded": "Sunday, 9 o'clock",
        "acquisition": {"end_time_recorded": "", "frame_time_s": 1.0},
    }
    publish(work, scan, final(one)(index), what="record")
    publish(work, scan, final(again, f"{SUBJECT}_fine", **odd)(index), what="record")
    publish(work, scan, a_publication(taken=None).failed(index, f"{SUBJECT}_bad", reason="no"), what="failure")
    page = work.services.search.page(index, Query(facets=FACETS))
    counted = {name: {str(bucket.value): bucket.count for bucket in one.buckets} for name, one in page.facets.items()}
    assert page.total == 3
    assert counted["creators"] == {"8-ID": 3}
    assert counted["parents"] == {"2026-1/foster202603": 3}
    assert counted["cycles"] == {"2026-1": 3}
    assert sorted(counted["days"].values()) == [1, 2]
    assert (counted["qmaps"], counted["suffixes"]) == ({"eiger.hdf": 1}, {"fine": 1})
    of_the_original = MatchAny("project_metadata.reprocessing.original.subject", (SUBJECT,))
    (found,) = work.services.search.page(index, Query(filters=(of_the_original,))).entries
    assert found.subject == f"{SUBJECT}_fine"


def test_a_published_result_leads_back_to_its_data(work: Bench, scan: Scan) -> None:
    index, one = work.settings.search.index(INDEX), a_publication()
    publish(work, scan, one.placeholder(index, SUBJECT), what="placeholder")
    with pytest.raises(InvalidInput, match="no final one, but placeholder"):
        original_of(read(work))
    publish(work, scan, final(one)(index), what="record")
    found = read(work)
    assert original_of(found) == Original(
        subject=SUBJECT,
        title="A001",
        dataset="A001",
        experiment="foster202603",
        cycle="2026-1",
        parent="2026-1/foster202603",
        suffix="",
        raw=one.raw,
        qmap=Located(name="eiger.hdf", endpoint="voyager", path="qmaps/eiger.hdf"),
        parameters=dict(one.parameters),
    )
    with pytest.raises(InvalidInput, match="of another program"):
        original_of({name: value for name, value in found.items() if name != "orchestration"})
    del found["project_metadata"]["inputs"]["raw"]["source_path"], found["dc"]["titles"]
    with pytest.raises(InvalidInput, match="does not name a title, the raw data"):
        original_of(found)


def test_a_record_of_no_known_time_is_no_record(work: Bench) -> None:
    index, one = work.settings.search.index(INDEX), a_publication(taken=None)
    with pytest.raises(InvalidInput, match="not known when this was measured"):
        one.placeholder(index, SUBJECT)
    assert final(one)(index).entry.content["dc"]["dates"][0]["date"].startswith(f"{TAKEN:%Y-%m-%d}")
