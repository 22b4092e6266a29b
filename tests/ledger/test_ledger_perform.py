"""`perform`, alone with a service that answers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from ledger_world import ELSEWHERE, HERE, QUICK, Books, Errand, attempts_of, errand

from orchestration.errors import ExportControlled, InvalidInput, JobFailed, UnknownName
from orchestration.ledger import Ledger, attempt
from orchestration.ledger.boundary import Boundary, listening
from orchestration.ledger.operation import Operation, OperationState
from orchestration.ledger.owner import Owner
from orchestration.ledger.perform import perform
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document, Progress, Status
from orchestration.policy import Effect, Permitted


def test_it_is_done_once_and_the_history_says_how(ledger: Ledger, scan: Scan, books: Books) -> None:
    operation = errand(scan, polls=2)

    outcome = perform(ledger, operation, books, run_id="r1", schedule=QUICK)

    assert not outcome.already_done
    assert outcome.evidence == {"handle": books.started()[0]}
    assert outcome.record.state is OperationState.SUCCEEDED
    assert (outcome.record.run_id, outcome.record.destination) == ("r1", "here")
    assert outcome.record.owner is None
    assert outcome.record.seconds is not None
    assert outcome.record.seconds > 0
    assert attempts_of(operation, books) == [1]
    history = ledger.operations.history(operation.key)
    assert [event.event for event in history] == [
        "planned",
        "claimed",
        "reserved",
        "permitted",
        "submitted",
        "succeeded",
    ]
    assert [event.at for event in history] == sorted(event.at for event in history)


def test_what_is_done_is_returned_without_asking(ledger: Ledger, scan: Scan, books: Books) -> None:
    first = perform(ledger, errand(scan), books, schedule=QUICK)
    books.asked.clear()

    second = perform(ledger, errand(scan), books, schedule=QUICK)

    assert second.already_done
    assert second.evidence == first.evidence
    assert books.asked == []


def test_a_new_version_of_the_file_is_a_new_operation(ledger: Ledger, scan: Scan, books: Books) -> None:
    perform(ledger, errand(scan), books, schedule=QUICK)
    rewritten = ledger.scans.register(beamline="bl832", path=scan.path, fingerprint="3:4")

    assert not perform(ledger, errand(rewritten), books, schedule=QUICK).already_done
    assert len(books.started()) == 2


def test_a_failure_raises_the_error_of_the_service(ledger: Ledger, scan: Scan, books: Books) -> None:
    operation = errand(scan, fails="the oven is cold")

    with pytest.raises(JobFailed, match="the oven is cold") as caught:
        perform(ledger, operation, books, schedule=QUICK)

    kept = ledger.operations.get(operation.key)
    assert kept.state is OperationState.FAILED
    assert isinstance(kept.error, JobFailed)
    assert kept.error.cause == caught.value.cause == "Planted"
    assert kept.error.sentence == caught.value.sentence


def test_after_a_failure_a_later_call_makes_a_new_attempt_with_a_new_token(
    ledger: Ledger, scan: Scan, books: Books
) -> None:
    operation = errand(scan, fails="once more")
    tokens = set()
    for _ in range(2):
        with pytest.raises(JobFailed):
            perform(ledger, operation, books, schedule=QUICK)
        tokens.add(ledger.operations.get(operation.key).token)

    assert len(tokens) == 2
    assert attempts_of(operation, books) == [1, 1]
    assert ledger.operations.get(operation.key).attempt == 2


def test_an_error_that_the_service_raises_is_its_answer(ledger: Ledger, scan: Scan, tmp_path: Path) -> None:
    class Rude(Books):
        def submit(self, permitted: Permitted[Errand], token: str) -> str:
            raise InvalidInput("no such oven")

    operation = errand(scan)
    with pytest.raises(InvalidInput, match="no such oven"):
        perform(ledger, operation, Rude(tmp_path / "rude"), schedule=QUICK)
    assert ledger.operations.get(operation.key).state is OperationState.FAILED


def test_a_defect_of_an_adapter_leaves_the_operation_open_and_unclaimed(
    ledger: Ledger, scan: Scan, books: Books, tmp_path: Path
) -> None:
    class Broken(Books):
        def poll(self, request: Errand, handle: str) -> Status:
            raise KeyError("a defect")

    operation = errand(scan)
    with pytest.raises(KeyError):
        perform(ledger, operation, Broken(books.root), schedule=QUICK)
    left = ledger.operations.get(operation.key)
    assert (left.state, left.owner) == (OperationState.RUNNING, None)

    perform(ledger, operation, books, schedule=QUICK)
    assert attempts_of(operation, books) == [1]


@pytest.mark.parametrize(("seconds", "times"), [(0.0, 5), (3600.0, 1)])
def test_progress_is_heard_in_full_and_written_now_and_then(
    ledger: Ledger, scan: Scan, books: Books, monkeypatch: pytest.MonkeyPatch, seconds: float, times: int
) -> None:
    written: list[Document] = []
    progressed = ledger.operations.progressed

    def write(key: str, owner: Owner, progress: Document) -> None:
        written.append(progress)
        progressed(key, owner, progress)

    monkeypatch.setattr(ledger.operations, "progressed", write)
    monkeypatch.setattr(attempt, "PROGRESS_WRITE_SECONDS", seconds)
    heard: list[int | None] = []

    perform(
        ledger,
        errand(scan, polls=5),
        books,
        schedule=QUICK,
        on_progress=lambda step, progress: heard.append(progress.files_done),
    )

    assert heard == list(range(5))
    assert len(written) == times
    assert ledger.operations.get(errand(scan, polls=5).key).progress == written[-1]


def test_a_listener_that_breaks_fails_nothing(
    ledger: Ledger, scan: Scan, books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(step: str, progress: Progress) -> None:
        raise RuntimeError("the page is away")

    perform(ledger, errand(scan, polls=1), books, schedule=QUICK, on_progress=broken)
    assert "the progress could not be shown" in caplog.text


def test_export_controlled_data_goes_nowhere_else_and_nothing_is_asked(
    ledger: Ledger, books: Books, scan: Scan
) -> None:
    secret = ledger.scans.register(beamline="bl832", path=scan.path, export_controlled=True)
    operation = errand(secret, place=ELSEWHERE)

    with pytest.raises(ExportControlled):
        perform(ledger, operation, books)

    assert books.asked == []
    assert ledger.operations.of_scan(scan.id) == []
    perform(ledger, errand(secret, place=HERE), books, schedule=QUICK)


def test_export_control_is_sticky(ledger: Ledger, books: Books, scan: Scan) -> None:
    """A flow that read the scan before somebody flagged it, and one that registers it again without the flag."""
    ledger.scans.register(beamline="bl832", path=scan.path, export_controlled=True)
    again = ledger.scans.register(beamline="bl832", path=scan.path, export_controlled=False)
    assert again.export_controlled
    for known in (scan, again):
        with pytest.raises(ExportControlled):
            perform(ledger, errand(known, place=ELSEWHERE), books)
    assert books.asked == []


def test_a_flag_that_only_the_caller_has_counts(ledger: Ledger, books: Books, scan: Scan) -> None:
    with pytest.raises(ExportControlled):
        perform(ledger, errand(dataclasses.replace(scan, export_controlled=True), place=ELSEWHERE), books)
    assert books.asked == []


def test_a_flag_set_while_the_service_was_away_stops_the_submission(ledger: Ledger, books: Books, scan: Scan) -> None:
    books.refuse = 1
    books.before["submit"] = lambda: ledger.scans.register(beamline="bl832", path=scan.path, export_controlled=True)
    with pytest.raises(ExportControlled):
        perform(ledger, errand(scan, place=ELSEWHERE), books)
    assert books.started() == []


def test_what_one_service_does_is_not_asked_of_another(
    ledger: Ledger, scan: Scan, books: Books, tmp_path: Path
) -> None:
    class Broken(Books):
        def poll(self, request: Errand, handle: str) -> Status:
            raise KeyError("a defect")

    other = Books(tmp_path / "other", name="test.other")
    with pytest.raises(KeyError):
        perform(ledger, errand(scan), Broken(books.root), schedule=QUICK)
    with pytest.raises(InvalidInput, match=r"going on at test\.books"):
        perform(ledger, errand(scan), other, schedule=QUICK)
    assert other.asked == []


def test_what_failed_at_one_service_may_be_asked_of_another(
    ledger: Ledger, scan: Scan, books: Books, tmp_path: Path
) -> None:
    operation = errand(scan, fails="cold")
    with pytest.raises(JobFailed):
        perform(ledger, operation, books, schedule=QUICK)
    with pytest.raises(JobFailed):
        perform(ledger, operation, Books(tmp_path / "other", name="test.other"), schedule=QUICK)
    assert ledger.operations.get(operation.key).service == "test.other"


def test_a_scan_that_is_not_registered_is_refused(ledger: Ledger, scan: Scan, books: Books) -> None:
    with pytest.raises(UnknownName, match="not registered"):
        perform(ledger, errand(dataclasses.replace(scan, id="stranger")), books)


@dataclasses.dataclass(frozen=True)
class Odd:
    value: object
    effect: Effect = Effect.COMPUTE

    def document(self) -> Document:
        return {"value": self.value}  # type: ignore[dict-item]


@pytest.mark.parametrize("value", [float("nan"), object(), "\ud800"])
def test_a_request_without_a_json_form_is_an_invalid_request(scan: Scan, value: object) -> None:
    operation = Operation(scan=scan, step="odd", request=Odd(value), destination=HERE, deadline=1)
    with pytest.raises(InvalidInput, match="no JSON form"):
        _ = operation.key


def test_the_key_is_the_same_for_equal_requests(scan: Scan) -> None:
    def key(value: object) -> str:
        return Operation(scan=scan, step="odd", request=Odd(value), destination=HERE, deadline=1).key

    assert key({"a": 1, "b": [1, "µ"]}) == key({"b": [1, "µ"], "a": 1})
    assert key({"a": 1}) != key({"a": "1"})


def test_evidence_may_hold_what_is_no_json(ledger: Ledger, scan: Scan, books: Books) -> None:
    operation = errand(scan)
    owner = Owner.here()
    ledger.operations.take(operation, owner, service="s", redo=True)
    ledger.operations.succeeded(
        operation.key, owner, {"error": float("inf"), "text": "\ud800 µm \0", "n": [float("nan")]}
    )
    kept = ledger.operations.get(operation.key).evidence
    assert kept is not None
    assert (kept["error"], kept["n"]) == (None, [None])
    assert str(kept["text"]).endswith("µm \0")


def test_an_instant_operation_costs_four_commits_and_a_known_one_none(ledger: Ledger, scan: Scan, books: Books) -> None:
    """A commit waits for the disk: these four are the whole price, about 10 ms."""
    commits: list[str] = []

    def count(boundary: Boundary, subject: str) -> None:
        if boundary is Boundary.BEFORE_WRITE:
            commits.append(subject)

    with listening(count):
        perform(ledger, errand(scan), books, schedule=QUICK)
        assert commits == ["operations"] * 4
        perform(ledger, errand(scan), books, schedule=QUICK)
        assert commits == ["operations"] * 5  # a transaction that changes nothing costs no wait
