"""What a flow publishes is what the index then says, whatever was there before and wherever a run was killed."""

from __future__ import annotations

import pytest
from publishing_room import SUBJECT, Bench, Shown, a_scan, saying, stored, wait_until

from orchestration.errors import CatalogueRefused, Embargoed, ExportControlled
from orchestration.flows.orphans import look_after_orphans
from orchestration.flows.publishing import publish, withdraw
from orchestration.flows.requests import request_of
from orchestration.globus.search_entries import WithdrawRequest
from orchestration.ledger import Ledger
from orchestration.ledger.adopt import Fate
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document
from orchestration.sandbox.search.settings import INDEX
from orchestration.sandbox.trials.kills import Kill, kinds
from orchestration.sandbox.trials.nursery import Nursery

SAY = "publishing_room:say"


def test_the_last_that_was_asked_for_is_there_however_often_that_changed(work: Bench, scan: Scan, index: Shown) -> None:
    steps = []
    for title in ("soon", "soon", "here", "soon", "soon", "here"):
        steps.append(publish(work, scan, saying(title), what="record").record.step)
        assert index.titles == [title]
    first = f"publish record in {INDEX}"
    assert steps == [first, first, f"{first} [1]", f"{first} [2]", f"{first} [2]", f"{first} [3]"]
    assert index.ingests == 4


def test_what_was_withdrawn_is_published_and_withdrawn_again(work: Bench, scan: Scan, index: Shown) -> None:
    request = WithdrawRequest(index=work.settings.search.index(INDEX), subject=SUBJECT)
    for _ in range(2):
        publish(work, scan, saying("here"), what="record")
        assert index.titles == ["here"]
        withdraw(work, scan, request, what="record")
        assert withdraw(work, scan, request, what="record").already_done
        assert index.titles == []


def test_nothing_of_an_export_controlled_scan_is_sent(work: Bench, ledger: Ledger, index: Shown) -> None:
    secret = a_scan(ledger, export_controlled=True)
    with pytest.raises(ExportControlled, match="outside the beamline"):
        publish(work, secret, saying("secret"), what="record")
    assert (index.ingests, ledger.operations.of_scan(secret.id)) == (0, [])


def test_under_embargo_nothing_is_sent_that_everybody_would_see(
    work: Bench, ledger: Ledger, scan: Scan, index: Shown
) -> None:
    ledger.scans.learn(scan.id, {"embargo_until": "2999-01-01"})
    with pytest.raises(Embargoed, match="2999-01-01"):
        publish(work, scan, saying("too early"), what="record")
    assert (index.ingests, ledger.operations.of_scan(scan.id)) == (0, [])
    ledger.scans.learn(scan.id, {"embargo_until": "2026-01-01"})
    publish(work, scan, saying("in time"), what="record")
    assert index.titles == ["in time"]


def test_what_is_published_before_a_scan_came_under_embargo_is_not_changed_any_more_and_can_be_withdrawn(
    work: Bench, ledger: Ledger, scan: Scan, index: Shown
) -> None:
    publish(work, scan, saying("early"), what="record")
    ledger.scans.learn(scan.id, {"embargo_until": "2999-01-01"})
    with pytest.raises(Embargoed):
        publish(work, scan, saying("late"), what="record")
    assert index.titles == ["early"]
    withdraw(work, scan, WithdrawRequest(index=work.settings.search.index(INDEX), subject=SUBJECT), what="record")
    assert index.titles == []


def test_a_run_that_was_killed_anywhere_takes_up_its_step(nursery: Nursery, ledger: Ledger, index: Shown) -> None:
    undisturbed = nursery.run(SAY, {"ledger_url": ledger.url, "title": "undisturbed"})
    assert undisturbed.value == f"publish record in {INDEX}"
    kills = [kill for kill in kinds(undisturbed.boundaries) if not kill.at.startswith("in-wait")]
    kills.append(Kill(at=f"in-wait of {undisturbed.value}"))  # which one reaches that has to wait
    for told, kill in enumerate(kills, start=1):
        step = f"publish record in {INDEX} [{told}]"
        arguments: Document = {"ledger_url": ledger.url, "title": str(kill)}
        here = Kill(at=kill.at.replace(f"publish record in {INDEX}", step))
        index.hold()
        assert nursery.run(SAY, arguments, kill=here).killed
        index.hold(held=False)
        assert nursery.run(SAY, arguments).value == step
        assert (index.titles, index.ingests) == ([str(kill)], told + 1), kill


def test_what_a_dead_run_left_in_doubt_does_not_pass_for_what_is_there(
    work: Bench, ledger: Ledger, scan: Scan, nursery: Nursery, index: Shown
) -> None:
    publish(work, scan, saying("first"), what="record")
    index.hold()
    killed = Kill(at=f"after-submit of publish record in {INDEX} [1]")
    assert nursery.run(SAY, {"ledger_url": ledger.url, "title": "second"}, kill=killed).killed
    child = nursery.start(SAY, {"ledger_url": ledger.url, "title": "first"})
    wait_until(lambda: index.ingests == 3)
    index.hold(held=False)
    assert child.wait().value == f"publish record in {INDEX} [2]"
    assert index.titles == ["first"]


def test_what_a_dead_run_left_open_is_ended_without_its_request(
    work: Bench, ledger: Ledger, nursery: Nursery, index: Shown
) -> None:
    scan = a_scan(ledger)
    for at, title in (("in-wait", "told"), ("before-submit", "not told")):
        step = f"publish record in {INDEX}" + (" [1]" if at == "before-submit" else "")
        index.hold()
        assert nursery.run(SAY, {"ledger_url": ledger.url, "title": title}, kill=Kill(at=f"{at} of {step}")).killed
        index.hold(held=False)
        wait_until(lambda: index.titles == ["told"])
    fates = {line["step"]: line["fate"] for line in look_after_orphans(work) if isinstance(line, dict)}
    assert fates == {
        f"publish record in {INDEX}": Fate.ENDED.value,
        f"publish record in {INDEX} [1]": Fate.NEVER_BEGAN.value,
    }
    assert index.titles == ["told"]
    assert publish(work, scan, saying("told"), what="record").record.step == f"publish record in {INDEX} [2]"


def test_what_another_run_has_replaced_since_is_not_waited_for_for_ever(
    work: Bench, ledger: Ledger, scan: Scan, nursery: Nursery, index: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = Kill(at=f"in-wait of publish record in {INDEX}")
    index.hold()
    assert nursery.run(SAY, {"ledger_url": ledger.url, "title": "early"}, kill=killed).killed
    index.hold(held=False)
    publish(work, scan, saying("late"), what="record")
    monkeypatch.setattr("orchestration.globus.search._SURELY_SHOWN_SECONDS", 0.0)
    assert len(look_after_orphans(work)) == 1
    early, late = ledger.operations.of_scan(scan.id)
    assert isinstance(early.error, CatalogueRefused)
    assert "something else is there now" in early.error.what
    assert publish(work, scan, saying("late"), what="record").record == late


def test_requests_come_back_as_far_as_they_are_needed(work: Bench, ledger: Ledger, scan: Scan) -> None:
    asked = saying("here")
    done = publish(work, scan, asked, what="record").record
    back = request_of(done, work.settings)
    assert back is not None
    assert stored(back.document()) == stored(asked.document())
    request = WithdrawRequest(index=asked.index, subject=SUBJECT)
    assert request_of(withdraw(work, scan, request, what="record").record, work.settings) == request
    gone = work.settings.model_copy(update={"search": type(work.settings.search)()})
    assert request_of(done, gone) is None
