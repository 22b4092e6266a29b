"""XPCS once more: a published dataset, with another qmap or other parameters, to a record beside the first."""

from __future__ import annotations

from typing import Any

from prefect import flow

from orchestration.errors import InvalidInput
from orchestration.flows.aps8idi.finding import Records
from orchestration.flows.aps8idi.options import Options
from orchestration.flows.aps8idi.outlook import outlook
from orchestration.flows.aps8idi.payload import Payload
from orchestration.flows.aps8idi.pipeline import process
from orchestration.flows.cancelling import say_cancelled
from orchestration.flows.main import command
from orchestration.flows.work import Work, working
from orchestration.globus.publishing import Located, Reprocessing
from orchestration.ledger.service import Document
from orchestration.paths import RelativePath

FLOW = "xpcs_reprocess_flow"


@flow(name=FLOW, flow_run_name="xpcs_reprocess: {subject} {suffix}", on_failure=[say_cancelled])
def xpcs_reprocess_flow(
    subject: str,
    qmap: str,
    suffix: str = "_qmap",
    deployment: str = "",
    options: Options = Options(),  # noqa: B008 - frozen
    request: str = "",
    is_export_control: bool = False,
    dry_run: bool = False,
) -> Document:
    """Correlate the raw data of a published dataset with another qmap, and publish it beside the first.

    `subject` is that of the record in the search index; `suffix` is added to the name of the dataset. The raw data is
    taken from where it lay then, and options that are not given are as they were. The other parameters are those of
    `xpcs_online_flow`.
    """
    given: Document = {
        "subject": subject,
        "qmap": qmap,
        "suffix": suffix,
        "deployment": deployment,
        "options": options.given,
        "request": request,
        "is_export_control": is_export_control,
        "dry_run": dry_run,
    }
    with working(FLOW, given) as work:
        payload = _payload(work, given, options)
        return outlook(work, payload) if dry_run else process(work, payload)


def _payload(work: Work, given: Document, options: Options) -> Payload:
    """The original with what is to be other than it was.

    Raises:
        UnknownName: if the index has no such record.
        InvalidInput: if the record does not say where the raw data is, or nothing would be other than before.
    """
    deployment = work.settings.xpcs.deployment(str(given["deployment"]))
    subject, suffix = str(given["subject"]), str(given["suffix"])
    if not suffix.strip("_ "):
        raise InvalidInput(
            "a reprocessing needs a suffix, by which its result differs from the original", where="suffix"
        )
    original = Records(services=work.services, settings=work.settings, deployment=deployment).one(subject)
    if original.raw.endpoint != deployment.source:
        raise InvalidInput(
            f"the raw data of {original.title} is at {original.raw.endpoint}, and deployment {deployment.name} takes "
            f"its data from {deployment.source}",
            where=subject,
            next_step="name a deployment with that source",
        )
    raw = RelativePath.parse(original.raw.path)
    named = {**given, "raw": raw.text, "experiment": original.experiment, "cycle": original.cycle}
    again = Options.parse({**original.parameters, **options.given})
    payload = Payload.parse(work.settings, named, again)
    qmap = Located(name=payload.qmap.name, endpoint=deployment.qmap_endpoint, path=payload.qmap.text)
    return payload.again(Reprocessing(original=subject, suffix=suffix, inputs={"qmap": qmap}, parameters=again.science))


def main(argv: list[str] | None = None) -> Any:
    return command(xpcs_reprocess_flow, argv)


if __name__ == "__main__":
    main()
