"""Transfers really happen, and go wrong in the way of the real service."""

from __future__ import annotations

import hashlib
import os
import threading
from datetime import UTC, datetime, timedelta

import pytest
from globus_sdk import TransferAPIError
from sandbox_lab import CRAWL, DESTINATION, Lab, until

MEGABYTE = 1_000_000


def in_seconds(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def test_a_file_arrives_whole_and_creates_its_folders(lab: Lab) -> None:
    content = os.urandom(3 * MEGABYTE)
    lab.write("raw/a b.h5", content)
    task = lab.ended(lab.submit(("/raw/a b.h5", "/new/folder/c.h5")))
    assert lab.arrived("new/folder/c.h5").read_bytes() == content
    assert (task["status"], task["bytes_transferred"], task["subtasks_total"]) == ("SUCCEEDED", len(content), 2)
    assert [task[key] for key in ("is_ok", "nice_status", "nice_status_details", "fatal_error")] == [None] * 4
    assert task["completion_time"] is not None
    rows = list(lab.transfer.task_successful_transfers(task["task_id"]))
    assert rows[0]["checksum"] == hashlib.md5(content).hexdigest()


def test_a_folder_arrives_but_for_what_is_filtered(lab: Lab) -> None:
    for name in ("scan/a.h5", "scan/deep/b.h5", "scan/notes.txt"):
        lab.write(name, name.encode())
    data = lab.request(("/scan/", "/copy/"))
    data.add_filter_rule("*.txt", method="exclude", type="file")
    task = lab.ended(str(lab.transfer.submit_transfer(data)["task_id"]))
    assert (task["files"], task["directories"], task["files_transferred"]) == (2, 2, 2)
    assert lab.arrived("copy/deep/b.h5").read_bytes() == b"scan/deep/b.h5"
    assert not lab.arrived("copy/notes.txt").exists()


def test_a_missing_source_stays_active_until_it_is_cancelled(lab: Lab) -> None:
    task_id = lab.submit(("/missing", "/missing"))
    task = lab.faulted(task_id, "FILE_NOT_FOUND")
    assert (task["status"], task["is_ok"], task["nice_status_short_description"]) == ("ACTIVE", False, "file not found")
    until(lambda: bool(lab.task(task_id)["faults"] > 1))
    assert (task["files"], task["subtasks_total"], task["subtasks_retrying"]) == (0, 1, 1)
    assert lab.transfer.cancel_task(task_id)["code"] == "Canceled"
    over = lab.task(task_id)
    assert (over["status"], over["fatal_error"]["code"], over["subtasks_canceled"]) == ("FAILED", "CANCELED", 1)
    errors = lab.events(task_id, filter="is_error:1")
    assert (errors[0]["code"], errors[0]["details"]) == ("CANCELED", "Canceled by the task owner")
    assert lab.transfer.cancel_task(task_id)["code"] == "TaskComplete"


def test_a_missing_source_that_appears_is_transferred(lab: Lab) -> None:
    task_id = lab.submit(("/late", "/late"))
    lab.faulted(task_id, "FILE_NOT_FOUND")
    lab.write("late", b"here")
    task = lab.ended(task_id)
    assert (task["status"], task["subtasks_succeeded"], task["subtasks_retrying"]) == ("SUCCEEDED", 2, 0)
    assert task["faults"] >= 1


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_denied_path_stays_active_too(lab: Lab, side: str) -> None:
    lab.write("secret/a", b"a")
    lab.facility.client.collections.set(getattr(lab, side), deny=["/secret/*"])
    task_id = lab.submit(("/secret/a", "/secret/a"))
    task = lab.faulted(task_id, "PERMISSION_DENIED")
    assert (task["status"], task["is_ok"]) == ("ACTIVE", False)
    lab.facility.client.collections.set(getattr(lab, side), deny=[])
    assert lab.ended(task_id)["status"] == "SUCCEEDED"


def test_a_read_only_destination_denies(lab: Lab) -> None:
    lab.write("a", b"a")
    lab.facility.client.collections.set(lab.destination, writable=False)
    lab.faulted(lab.submit(("/a", "/a")), "PERMISSION_DENIED")


def test_the_deadline_expires_a_task_that_cannot_go_on(lab: Lab) -> None:
    task_id = lab.submit(("/missing", "/missing"), deadline=in_seconds(0.5))
    task = lab.ended(task_id)
    assert (task["status"], task["fatal_error"]["code"]) == ("FAILED", "EXPIRED")
    assert task["subtasks_expired"] == 1


def test_a_new_deadline_is_taken_at_once(lab: Lab) -> None:
    task_id = lab.submit(("/missing", "/missing"))
    lab.transfer.update_task(task_id, {"DATA_TYPE": "task", "deadline": in_seconds(0.3).isoformat()})
    assert lab.ended(task_id)["fatal_error"]["code"] == "EXPIRED"


def test_a_deadline_in_the_past_is_refused(lab: Lab) -> None:
    with pytest.raises(TransferAPIError) as caught:
        lab.submit(("/a", "/a"), deadline=in_seconds(-1))
    assert caught.value.http_status == 400


def test_identical_paths_conflict_while_active(lab: Lab) -> None:
    first = lab.submit(("/missing", "/missing"))
    with pytest.raises(TransferAPIError) as caught:
        lab.submit(("/missing", "/missing"))
    assert (caught.value.http_status, caught.value.code) == (409, "Conflict")
    lab.transfer.cancel_task(first)
    assert lab.submit(("/missing", "/missing")) != first


def test_the_same_submission_twice_is_one_task(lab: Lab) -> None:
    lab.write("a", b"a")
    data = lab.request(("/a", "/a"))
    first = lab.transfer.submit_transfer(data)
    lab.ended(first["task_id"])
    second = lab.transfer.submit_transfer(data)
    assert (first.http_status, first["code"]) == (202, "Accepted")
    assert (second.http_status, second["code"], second["task_id"]) == (200, "Duplicate", first["task_id"])
    assert [effect.key for effect in lab.facility.client.effects("transfer")] == [first["submission_id"]]


def test_concurrent_submissions_of_one_id_are_one_task(lab: Lab) -> None:
    lab.write("a", b"a")
    data = lab.request(("/a", "/a"), submission_id=lab.transfer.get_submission_id()["value"])
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda: answers.append(str(lab.transfer.submit_transfer(data)["task_id"])))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert len(set(answers)) == 1
    assert len(lab.facility.client.effects("transfer")) == 1


def test_a_corrupted_copy_is_found_and_sent_again(lab: Lab) -> None:
    content = os.urandom(MEGABYTE)
    lab.write("a", content)
    lab.facility.client.corrupt(lab.destination, "/a")
    task_id = lab.submit(("/a", "/a"))
    task = lab.ended(task_id)
    assert (task["status"], task["faults"], task["bytes_transferred"]) == ("SUCCEEDED", 1, len(content))
    assert "VERIFY_CHECKSUM" in [event["code"] for event in lab.events(task_id, filter="is_error:1")]
    assert lab.arrived("a").read_bytes() == content


def test_without_verification_a_corrupted_copy_is_silently_wrong(lab: Lab) -> None:
    lab.write("a", b"right")
    lab.facility.client.corrupt(lab.destination, "/a")
    task = lab.ended(lab.submit(("/a", "/a"), verify_checksum=False))
    assert (task["status"], task["faults"]) == ("SUCCEEDED", 0)
    assert lab.arrived("a").read_bytes() != b"right"
    assert next(iter(lab.transfer.task_successful_transfers(task["task_id"])))["checksum"] is None


def test_a_wrong_external_checksum_ends_the_task(lab: Lab) -> None:
    lab.write("a", b"a")
    data = lab.request()
    data.add_item("/a", "/a", external_checksum="0" * 32, checksum_algorithm="MD5")
    task = lab.ended(str(lab.transfer.submit_transfer(data)["task_id"]))
    assert task["fatal_error"]["code"] == "EXTERNAL_CHECKSUM_MISMATCH"


def test_sync_by_checksum_skips_an_equal_file_only(lab: Lab) -> None:
    lab.write("same", b"1234")
    lab.write("other", b"1234")
    lab.write("same", b"1234", collection=DESTINATION)
    lab.write("other", b"4321", collection=DESTINATION)
    task = lab.ended(lab.submit(("/same", "/same"), ("/other", "/other"), sync_level=3))
    assert (task["files_skipped"], task["files_transferred"], task["bytes_transferred"]) == (1, 1, 4)
    assert lab.arrived("other").read_bytes() == b"1234"


def test_sync_by_size_cannot_tell_equal_sizes_apart(lab: Lab) -> None:
    lab.write("a", b"1234")
    lab.write("a", b"4321", collection=DESTINATION)
    assert lab.ended(lab.submit(("/a", "/a"), sync_level=1))["files_skipped"] == 1
    assert lab.arrived("a").read_bytes() == b"4321"


def test_a_paused_collection_holds_its_tasks(lab: Lab) -> None:
    lab.write("a", b"a")
    lab.facility.client.collections.set(lab.source, paused="Maintenance until noon")
    task_id = lab.submit(("/a", "/a"))
    task = lab.faulted(task_id, "PAUSED_BY_ADMIN")
    assert (task["status"], task["is_paused"], task["is_ok"]) == ("ACTIVE", True, False)
    rules = lab.transfer.task_pause_info(task_id)["pause_rules"]
    assert rules[0]["message"] == "Maintenance until noon"
    lab.facility.client.collections.set(lab.source, paused=False)
    assert lab.ended(task_id)["status"] == "SUCCEEDED"
    assert {"PAUSED", "UNPAUSED"} <= {event["code"] for event in lab.events(task_id)}


def test_a_paused_task_can_be_cancelled(lab: Lab) -> None:
    lab.write("a", b"a")
    lab.facility.client.collections.set(lab.source, paused=True)
    task_id = lab.submit(("/a", "/a"))
    assert lab.transfer.cancel_task(task_id)["code"] == "Canceled"


def test_expired_credentials_make_a_task_inactive(lab: Lab) -> None:
    lab.write("a", b"a")
    lab.facility.client.collections.set(lab.source, expired=True)
    task_id = lab.submit(("/a", "/a"))
    until(lambda: bool(lab.task(task_id)["status"] == "INACTIVE"))
    lab.facility.client.collections.set(lab.source, expired=False)
    assert lab.ended(task_id)["status"] == "SUCCEEDED"


@pytest.mark.parametrize(("full", "code"), [(True, "NO_SPACE_LEFT"), ("quota", "QUOTA_EXCEEDED")])
def test_a_full_destination_is_tried_again(lab: Lab, *, full: bool | str, code: str) -> None:
    lab.write("a", b"a")
    lab.facility.client.collections.set(lab.destination, full=full)
    task_id = lab.submit(("/a", "/a"))
    assert lab.faulted(task_id, code)["status"] == "ACTIVE"
    lab.facility.client.collections.set(lab.destination, full=False)
    assert lab.ended(task_id)["status"] == "SUCCEEDED"


def test_a_quota_can_be_made_fatal(lab: Lab) -> None:
    lab.write("a", b"a")
    lab.facility.client.collections.set(lab.destination, full="quota")
    task = lab.ended(lab.submit(("/a", "/a"), fail_on_quota_errors=True))
    assert (task["status"], task["fatal_error"]["code"]) == ("FAILED", "QUOTA_EXCEEDED")


def test_a_source_that_grows_during_the_copy_is_noticed(lab: Lab) -> None:
    place = lab.write("growing", os.urandom(MEGABYTE))
    lab.facility.client.collections.set(lab.source, bandwidth=CRAWL)
    task_id = lab.submit(("/growing", "/growing"))
    until(lambda: bool(lab.task(task_id)["bytes_transferred"] > 0))
    with place.open("ab") as file:
        file.write(b"more")
    lab.facility.client.collections.set(lab.source, bandwidth=0)
    assert lab.ended(task_id)["status"] == "SUCCEEDED"
    assert "FILE_SIZE_CHANGED" in {event["code"] for event in lab.events(task_id)}
    assert lab.arrived("growing").read_bytes() == place.read_bytes()


def test_a_limited_collection_is_slow_and_a_cancel_leaves_nothing(lab: Lab) -> None:
    lab.write("big", bytes(MEGABYTE))
    lab.facility.client.collections.set(lab.destination, bandwidth=CRAWL)
    task_id = lab.submit(("/big", "/big"))
    until(lambda: bool(lab.task(task_id)["bytes_transferred"] > 0))
    assert lab.transfer.cancel_task(task_id)["code"] == "Canceled"
    assert lab.task(task_id)["bytes_transferred"] == 0
    assert list(lab.facility.root(DESTINATION).iterdir()) == []


def test_skipped_source_errors_are_listed(lab: Lab) -> None:
    lab.write("a", b"a")
    task = lab.ended(lab.submit(("/a", "/a"), ("/missing", "/m"), skip_source_errors=True))
    assert (task["status"], task["subtasks_skipped_errors"], task["files_transferred"]) == ("SUCCEEDED", 1, 1)
    skipped = list(lab.transfer.task_skipped_errors(task["task_id"]))
    assert [(row["source_path"], row["error_code"]) for row in skipped] == [("/missing", "FILE_NOT_FOUND")]


def test_a_folder_without_recursion_ends_the_task(lab: Lab) -> None:
    lab.write("folder/a", b"a")
    data = lab.request()
    data.add_item("/folder", "/folder", recursive=False)
    task = lab.ended(str(lab.transfer.submit_transfer(data)["task_id"]))
    assert task["fatal_error"]["code"] == "IS_A_DIRECTORY"


def test_successful_transfers_are_refused_while_active(lab: Lab) -> None:
    task_id = lab.submit(("/missing", "/missing"))
    with pytest.raises(TransferAPIError) as caught:
        list(lab.transfer.task_successful_transfers(task_id))
    assert (caught.value.http_status, caught.value.code) == (400, "ClientError.BadRequest")


def test_a_disconnected_endpoint_is_waited_for(lab: Lab) -> None:
    lab.write("a", b"a")
    lab.facility.client.collections.set(lab.source, connected=False)
    task_id = lab.submit(("/a", "/a"))
    lab.faulted(task_id, "GC_NOT_CONNECTED")
    lab.facility.client.collections.set(lab.source, connected=True)
    assert lab.ended(task_id)["status"] == "SUCCEEDED"


def test_deletes_remove_files_and_folders(lab: Lab) -> None:
    lab.write("a", b"a", collection=DESTINATION)
    lab.write("folder/b", b"b", collection=DESTINATION)
    task = lab.ended(lab.delete("/a", "/folder", recursive=True))
    assert (task["status"], task["type"], task["destination_endpoint_id"]) == ("SUCCEEDED", "DELETE", None)
    assert list(lab.facility.root(DESTINATION).iterdir()) == []
    assert [effect.paths for effect in lab.facility.client.effects("removed")] == [("/a",), ("/folder",)]


def test_deleting_a_missing_path_fails_at_once(lab: Lab) -> None:
    task = lab.ended(lab.delete("/missing"))
    assert (task["status"], task["subtasks_failed"]) == ("FAILED", 1)
    assert task["fatal_error"] == {"code": "FILE_NOT_FOUND", "description": "file not found"}


def test_deleting_a_missing_path_can_be_ignored(lab: Lab) -> None:
    assert lab.ended(lab.delete("/missing", ignore_missing=True))["status"] == "SUCCEEDED"
    assert lab.facility.client.effects("removed") == []


def test_tasks_are_found_by_status_label_and_type(lab: Lab) -> None:
    lab.write("a", b"a")
    done = lab.submit(("/a", "/a"), label="scan 20240101_1")
    lab.ended(done)
    stuck = lab.submit(("/missing", "/missing"), label="scan 20240101_2")
    removed = lab.delete("/a", label="prune")
    lab.ended(removed)

    def found(**filters: str) -> set[str]:
        return {str(row["task_id"]) for row in lab.transfer.task_list(filter=dict(filters))}

    assert found(status="ACTIVE") == {stuck}
    assert found(status="SUCCEEDED", type="TRANSFER") == {done}
    assert found(label="scan 20240101_1") == {done}
    assert found(label="~scan*") == {done, stuck}
    assert found(type="DELETE") == {removed}


def test_the_task_list_has_pages(lab: Lab) -> None:
    tasks = [lab.delete(f"/{number}") for number in range(7)]
    rows = lab.transfer.paginated.task_list(limit=3).items()
    assert {row["task_id"] for row in rows} == set(tasks)
    page = lab.transfer.task_list(limit=3, offset=6)
    assert (page["total"], page["length"], len(page["DATA"])) == (7, 1, 1)


def test_an_unknown_task_is_not_found(lab: Lab) -> None:
    with pytest.raises(TransferAPIError) as caught:
        lab.task("11111111-1111-1111-1111-111111111111")
    assert (caught.value.http_status, caught.value.code) == (404, "ClientError.NotFound")


def test_links_below_a_folder_are_not_carried(lab: Lab) -> None:
    place = lab.write("scan/a", b"a")
    (place.parent / "link").symlink_to(place)
    task = lab.ended(lab.submit(("/scan/", "/scan/")))
    assert (task["status"], task["files"], task["symlinks"]) == ("SUCCEEDED", 1, 1)
    assert not lab.arrived("scan/link").exists()


@pytest.mark.parametrize("name", ["é" * 120, "$(touch x); 'q' \"d\" & #%?", "-rf", " lead and trail "])
def test_any_name_is_carried_whole(lab: Lab, name: str) -> None:
    lab.write(f"scan/{name}", b"a")
    assert lab.ended(lab.submit((f"/scan/{name}", f"/copy/{name}")))["status"] == "SUCCEEDED"
    assert lab.arrived(f"copy/{name}").read_bytes() == b"a"
    removed = lab.ended(lab.delete(f"/copy/{name}"))
    assert removed["status"] == "SUCCEEDED"
    assert list(lab.arrived("copy").iterdir()) == []


def test_an_empty_file_arrives(lab: Lab) -> None:
    lab.write("empty", b"")
    assert lab.ended(lab.submit(("/empty", "/empty")))["status"] == "SUCCEEDED"
    assert lab.arrived("empty").read_bytes() == b""


def test_the_root_of_a_collection_cannot_be_deleted(lab: Lab) -> None:
    lab.write("a", b"a", collection=DESTINATION)
    assert lab.ended(lab.delete("/", recursive=True))["fatal_error"]["code"] == "PERMISSION_DENIED"
    assert lab.arrived("a").exists()


def test_many_arrived_files_are_listed_page_by_page(lab: Lab) -> None:
    for number in range(130):
        lab.write(f"scan/{number}", b"a")
    task_id = lab.submit(("/scan/", "/scan/"))
    lab.ended(task_id)
    assert len(lab.transfer.task_successful_transfers(task_id)["DATA"]) == 100
    rows = lab.transfer.paginated.task_successful_transfers(task_id).items()
    assert {row["source_path"] for row in rows} == {f"/scan/{number}" for number in range(130)}
