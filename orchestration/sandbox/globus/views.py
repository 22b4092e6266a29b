"""Tasks, collections and files as Globus describes them."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from datetime import UTC, datetime
from pathlib import Path

from orchestration.ledger.service import Document
from orchestration.sandbox import clock
from orchestration.sandbox.globus import codes
from orchestration.sandbox.globus.collections import Collection, Collections
from orchestration.sandbox.globus.tasks import Task


def task_view(task: Task, collections: Collections) -> Document:
    """The task document. Of an ended task only `fatal_error` says why; nice_status and is_ok are null."""
    with task.lock:
        return {
            "DATA_TYPE": "task",
            "task_id": task.id,
            "type": task.kind,
            "status": task.status.value,
            "label": task.label or None,
            "owner_id": task.owner,
            "username": "u_" + task.owner.replace("-", "")[:26],
            "request_time": clock.stamp(task.requested),
            "completion_time": clock.stamp(task.completed) if task.completed else None,
            "deadline": clock.stamp(task.deadline),
            "command": "API 0.10",
            "canceled_by_admin": None,
            "canceled_by_admin_message": None,
            "history_deleted": False,
            **_ends(task, collections),
            **_options(task),
            **_health(task, collections),
            **_numbers(task),
        }


def _ends(task: Task, collections: Collections) -> Document:
    source = collections.get(task.source)
    document: Document = {
        "source_endpoint": f"sandbox#{source.id}",
        "source_endpoint_id": source.id,
        "source_endpoint_display_name": source.name,
    }
    destination = collections.get(task.destination) if task.is_transfer else None
    return document | {
        "destination_endpoint": f"sandbox#{destination.id}" if destination else None,
        "destination_endpoint_id": destination.id if destination else None,
        "destination_endpoint_display_name": destination.name if destination else None,
    }


def _options(task: Task) -> Document:
    flags = ("encrypt_data", "preserve_timestamp", "delete_destination_extra", "skip_source_errors")
    return {
        **{name: task.option(name) for name in flags},
        "fail_on_quota_errors": task.option("fail_on_quota_errors"),
        "verify_checksum": task.is_transfer and task.option("verify_checksum"),
        "sync_level": task.body.get("sync_level") if task.is_transfer else None,
        "recursive_symlinks": task.body.get("recursive_symlinks", "ignore") if task.is_transfer else None,
        "filter_rules": task.body.get("filter_rules"),
    }


def _health(task: Task, collections: Collections) -> Document:
    if task.status.ended:
        fatal: Document = {"code": task.fatal, "description": codes.describe(task.fatal)}
        return {
            "is_ok": None,
            "is_paused": False,
            "nice_status": None,
            "nice_status_short_description": None,
            "nice_status_details": None,
            "nice_status_expires_in": None,
            "fatal_error": fatal if task.fatal else None,
        }
    ends = [collections.get(one) for one in (task.source, task.destination) if one]
    healthy = task.nice in {"OK", "Queued"}
    return {
        "is_ok": healthy,
        "is_paused": any(one.switches.paused for one in ends),
        "nice_status": task.nice,
        "nice_status_short_description": task.nice if healthy else codes.describe(task.nice),
        "nice_status_details": task.nice_details or None,
        "nice_status_expires_in": -1,
        "fatal_error": None,
    }


def _numbers(task: Task) -> Document:
    numbers = task.numbers
    seconds = ((task.completed or clock.now()) - task.requested).total_seconds()
    return {
        "faults": numbers.faults,
        "files": numbers.files,
        "directories": numbers.directories,
        "symlinks": numbers.symlinks,
        "files_transferred": numbers.files_transferred,
        "files_skipped": numbers.files_skipped,
        "bytes_transferred": numbers.bytes_transferred,
        "bytes_checksummed": numbers.bytes_checksummed,
        "effective_bytes_per_second": int(numbers.bytes_transferred / max(seconds, 1e-3)),
        "subtasks_total": numbers.total,
        "subtasks_pending": numbers.pending,
        "subtasks_retrying": numbers.retrying,
        "subtasks_succeeded": numbers.succeeded,
        "subtasks_failed": numbers.failed,
        "subtasks_canceled": numbers.canceled,
        "subtasks_expired": numbers.expired,
        "subtasks_skipped_errors": numbers.skipped_errors,
    }


def collection_view(collection: Collection) -> Document:
    entity = {
        "guest": "GCSv5_guest_collection",
        "personal": "GCP_mapped_collection",
    }.get(collection.settings.kind, "GCSv5_mapped_collection")
    return {
        "DATA_TYPE": "endpoint",
        "id": collection.id,
        "display_name": collection.name,
        "canonical_name": f"sandbox#{collection.id}",
        "entity_type": entity,
        "owner_id": collection.settings.owner or None,
        "owner_string": None,
        "organization": "sandbox",
        "department": None,
        "description": None,
        "keywords": None,
        "contact_email": None,
        "contact_info": None,
        "info_link": None,
        "public": True,
        "default_directory": "/",
        "force_encryption": False,
        "force_verify": False,
        "disable_verify": False,
        "subscription_id": None,
        "shareable": True,
        "acl_available": collection.guest,
        "acl_editable": collection.guest,
        "activated": False,
        "expires_in": -1,
        "is_globus_connect": collection.personal,
        "gcp_connected": collection.switches.connected if collection.personal else None,
        "gcp_paused": False if collection.personal else None,
        "host_endpoint_id": None,
        "non_functional": False,
        "high_assurance": False,
        "gcs_version": None if collection.personal else "5.4.90",
        "my_effective_roles": ["administrator"],
        "authentication_timeout_mins": None,
        "DATA": [{"DATA_TYPE": "server", "hostname": "localhost"}],
    }


def file_view(place: Path, name: str) -> Document:
    """One line of a directory listing. Raises OSError."""
    own = place.lstat()
    link = stat.S_ISLNK(own.st_mode)
    seen = place.stat() if link and place.exists() else own
    return {
        "DATA_TYPE": "file",
        "name": name,
        "type": "dir" if stat.S_ISDIR(seen.st_mode) else "file",
        "size": seen.st_size,
        "permissions": f"{stat.S_IMODE(seen.st_mode):04o}",
        "user": _user(seen.st_uid),
        "group": _group(seen.st_gid),
        "last_modified": _file_time(seen.st_mtime),
        "link_target": os.readlink(place) if link else None,
        "link_size": own.st_size if link else None,
        "link_user": _user(own.st_uid) if link else None,
        "link_group": _group(own.st_gid) if link else None,
        "link_last_modified": _file_time(own.st_mtime) if link else None,
    }


def _file_time(seconds: float) -> str:
    """Files, unlike tasks, have a blank between date and time."""
    return datetime.fromtimestamp(int(seconds), UTC).isoformat(sep=" ")


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
