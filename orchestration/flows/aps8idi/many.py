"""Many datasets in one job: what the job is asked to do, and what it says of each of them."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestration.config import ComputeSite, RemoteSite, Settings
from orchestration.errors import JobFailed, OutputMissing
from orchestration.flows.aps8idi.checking import Checked
from orchestration.flows.aps8idi.describing import correlation_receipt, extra, pictures_receipt
from orchestration.flows.aps8idi.jobs import job, paths_at, staged, written
from orchestration.flows.aps8idi.products import RESOURCES, Correlation, Pictures
from orchestration.flows.jobs import job_seconds, operation_at
from orchestration.flows.results import Made, Making, content
from orchestration.flows.work import Work
from orchestration.jobs import JobSpec, Output, OutputKind
from orchestration.ledger.operation import Operation, OperationState
from orchestration.ledger.perform import Outcome
from orchestration.ledger.results import Receipt
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document, Json

SECONDS_EACH = 60.0
"""Added for each dataset: to begin, to draw."""


_TASKS = "--tasks="


def job_of(settings: Settings, site: ComputeSite, members: Mapping[str, Checked]) -> JobSpec:
    """One job for all of them, by their names; they are to be staged at the site already."""
    several = list(members.values())
    tasks: list[Json] = [_task(settings, site, name, each) for name, each in members.items()]
    outcomes = [_outcome_path(settings, site, each.correlation) for each in several]
    size = sum(each.measurement.raw_size for each in several)
    return job(
        site,
        several[0].payload.options,
        seconds=_seconds(site, size, len(several)),
        arguments=("-m", "orchestration.science", "xpcs", "batch", f"{_TASKS}{json.dumps(tasks, sort_keys=True)}"),
        directory=written(settings, site, several[0].payload.folder),
        outputs=tuple(Output(path=path, kind=OutputKind.JSON) for path in outcomes),
        environment={},
        name=f"correlate {len(several)} datasets",
    )


def _seconds(site: ComputeSite, size: int, count: int) -> float:
    """No more than the site gives any job, however many datasets there are."""
    wanted = job_seconds(site, size) + SECONDS_EACH * count
    return min(wanted, site.walltime.seconds(sys.maxsize)) if isinstance(site, RemoteSite) else wanted


def covers(given: JobSpec, wanted: JobSpec) -> bool:
    """Whether one job says what became of all datasets of the other."""
    return {output.path for output in wanted.outputs} <= {output.path for output in given.outputs}


def shares(work: Work, scan: Scan, checked: Checked) -> Iterator[Share]:
    """What batches have made of this dataset, the newest first: each was asked for what `checked` would be made of."""
    settings, site, correlation = work.settings, checked.site, checked.correlation
    wanted = _task(settings, site, checked.payload.dataset, checked)
    for result in reversed(work.ledger.results.of_scan(scan.id)):
        if (result.kind, result.endpoint, result.path) != ("xpcs", site.scratch_endpoint, correlation.base):
            continue
        (record,) = work.ledger.operations.among([result.operation_key])
        spec = JobSpec.parse(record.request)
        if record.state is not OperationState.SUCCEEDED or wanted not in _tasks(spec):
            continue
        operation = operation_at(settings, work.ledger.scans.get(record.scan_id), site, spec, step=record.step)
        outcome = Outcome(record=record, evidence=record.evidence or {}, already_done=True)
        yield Share.of(settings, checked, scan, operation, outcome)


def _tasks(spec: JobSpec) -> Sequence[Document]:
    """What the job of a batch was asked to do; nothing of any other job."""
    told = [each for each in spec.arguments if each.startswith(_TASKS)]
    return json.loads(told[0].removeprefix(_TASKS)) if told else []


def _task(settings: Settings, site: ComputeSite, name: str, checked: Checked) -> Document:
    correlation, options = checked.correlation, checked.payload.options
    suffix: Document = {"suffix": correlation.suffix} if correlation.suffix else {}
    return {
        "name": name,
        "raw": staged(settings, site, correlation.measurement.folder / correlation.measurement.raw),
        "qmap": staged(settings, site, correlation.staged_qmap),
        "output": written(settings, site, correlation.folder),
        "outcome": _outcome_path(settings, site, correlation),
        "extra": extra(checked.payload, None),
        "fit": options.fit,
        "options": {**options.science, **suffix},
    }


def _outcome_path(settings: Settings, site: ComputeSite, correlation: Correlation) -> str:
    return written(settings, site, Pictures(correlation=correlation).files)


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one dataset has of a job that did many."""

    checked: Checked
    scan: Scan
    operation: Operation[JobSpec]
    outcome: Outcome
    told: Mapping[str, Any]

    @classmethod
    def of(
        cls, settings: Settings, checked: Checked, scan: Scan, operation: Operation[JobSpec], outcome: Outcome
    ) -> Share:
        """Raises JobFailed, with the reason that the program gave, if there is no result of this dataset."""
        told = content(outcome, _outcome_path(settings, checked.site, checked.correlation))
        if told.get("state") != "done":
            raise _failure(told)
        return cls(checked=checked, scan=scan, operation=operation, outcome=outcome, told=told)

    def correlation(self, work: Work) -> Made:
        def receipt(outcome: Outcome) -> Receipt:
            return correlation_receipt(self.told["receipt"], outcome, raw=None, site=self.checked.site.name)

        return self._made(work, self.checked.correlation, "xpcs", receipt(self.outcome))

    def pictures(self, work: Work) -> Made:
        correlation = self.checked.correlation
        result: Document = {
            "dataset": "xpcs.result",
            "endpoint": self.checked.site.scratch_endpoint,
            "path": correlation.result.text,
        }
        files = self.told["files"]
        receipt = pictures_receipt(self.outcome, result=result, files=files, site=self.checked.site.name)
        return self._made(work, Pictures(correlation=correlation), "xpcs pictures", receipt)

    def _made(self, work: Work, product: Correlation | Pictures, kind: str, receipt: Receipt) -> Made:
        site = self.checked.site
        making = Making(
            scan=self.scan,
            site=site,
            product=product,
            kind=kind,
            operation=self.operation,
            paths=paths_at(work.settings, site, product),
        )
        result = work.ledger.results.record(
            scan_id=self.scan.id,
            operation_key=self.outcome.record.key,
            kind=kind,
            endpoint=site.scratch_endpoint,
            path=product.base,
            receipt=receipt,
        )
        outputs: list[Json] = [*self._outputs(making)]
        evidence: Document = {**self.outcome.evidence, "outputs": outputs}
        outcome = Outcome(record=self.outcome.record, evidence=evidence, already_done=self.outcome.already_done)
        return Made(making=making, result=result, outcome=outcome)

    def _outputs(self, making: Making) -> Sequence[Document]:
        """As if the job had declared them: those of other datasets would be missing where these failed."""
        told = {str(each["name"]): each for each in self.told["files"]}
        known = {str(each["path"]): each for each in _listed(self.outcome)}
        found: list[Document] = []
        for part in making.product.datasets:
            path = making.paths[part.path]
            name = part.path.text.removeprefix(f"{self.checked.correlation.folder}/")
            if name == RESOURCES:
                found.append(_folder(path, told.values()))
            elif path in known:
                found.append({**known[path]})
            else:
                found.append({"path": path, "kind": "file", "files": 1, **_size(told, name, path)})
        return found


def _listed(outcome: Outcome) -> Sequence[Mapping[str, Json]]:
    outputs = outcome.evidence.get("outputs")
    return [each for each in outputs if isinstance(each, dict)] if isinstance(outputs, list) else []


def _size(told: Mapping[str, Mapping[str, Json]], name: str, path: str) -> Document:
    if name not in told:
        raise OutputMissing(f"the job does not say that it wrote {name}", where=path, next_step="start the flow again")
    return {"size": told[name]["size"], "sha256": told[name]["sha256"]}


def _folder(path: str, files: Sequence[Mapping[str, Json]] | Any) -> Document:
    """What is known of a directory of which a program has listed the files; see `CheckedOutput`."""
    below = {str(each["name"]).removeprefix(f"{RESOURCES}/"): each for each in files if _is_below(str(each["name"]))}
    lines = sorted(f"{each['sha256']} {each['size']} {name}" for name, each in below.items())
    digest = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
    size = sum(int(str(each["size"])) for each in below.values())
    return {"path": path, "kind": "directory", "files": len(below), "size": size, "sha256": digest}


def _is_below(name: str) -> bool:
    return name.startswith(f"{RESOURCES}/")


def _failure(told: Mapping[str, Any]) -> JobFailed:
    error = told.get("error") or {}
    return JobFailed(
        str(error.get("what") or "the program does not say why there is no result"),
        where=str(error.get("where") or told.get("name", "")),
        next_step=str(error.get("next_step") or "read the log of the job"),
        cause=str(error.get("type") or ""),
    )
