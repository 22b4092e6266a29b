"""A job in the words of the IRI API."""

from __future__ import annotations

import math
import posixpath

from orchestration.config import IriSite
from orchestration.jobs import JobSpec, Resources
from orchestration.ledger.service import Document, Json
from orchestration.remote import Launch, dated_at

MARGIN_SECONDS = 60
"""The scheduler gives a job so much longer than the runner, which should be the one that stops it: it can tell why.
The queue's own limit comes first.
"""


def launch_of(site: IriSite, spec: JobSpec, token: str) -> Launch:
    """The same token always makes the same request: the time from which the job may wait is a part of it."""
    asked = dated_at(token)
    patience = spec.start_within or site.start_within_seconds
    return Launch(site=site, spec=spec, token=token, start_by=0.0 if asked is None else asked + patience)


def document(site: IriSite, launch: Launch) -> Document:
    """The body of a submission; what is not asked for is left out, since facilities refuse what they do not have."""
    program, *arguments = launch.command
    log = posixpath.join(site.job_folder, launch.token)
    return {
        "executable": program,
        "arguments": [*arguments],
        "directory": site.job_folder,
        "name": launch.token,
        "stdout_path": f"{log}.out",
        "stderr_path": f"{log}.err",
        "resources": _resources(launch.spec.resources),
        "attributes": _attributes(site, launch.spec),
    }


def _resources(wanted: Resources) -> Document:
    each = wanted.processes_per_node
    found: Document = {
        "node_count": wanted.nodes,
        "processes_per_node": each,
        "cpu_cores_per_process": max(1, wanted.cores // each),
        "exclusive_node_use": wanted.exclusive,
    }
    gpus: Document = {"gpu_cores_per_process": max(1, wanted.gpus // each)} if wanted.gpus else {}
    memory: Document = {"memory": wanted.memory} if wanted.memory else {}
    return found | gpus | memory


def _walltime(site: IriSite, spec: JobSpec) -> int:
    """Never more than the queue gives: it would refuse the job."""
    longest = max(site.walltime.maximum_seconds, spec.duration)
    return math.ceil(min(spec.duration + MARGIN_SECONDS, longest))


def _attributes(site: IriSite, spec: JobSpec) -> Document:
    named: Document = {
        "duration": _walltime(site, spec),
        "queue_name": spec.queue or site.queue,
        "account": spec.account or site.account,
        "reservation_id": spec.reservation or site.reservation,
    }
    constraint = spec.constraint or site.constraint
    custom = dict[str, Json](site.options) | ({"constraint": constraint} if constraint else {})
    return {name: value for name, value in {**named, "custom_attributes": custom}.items() if value}
