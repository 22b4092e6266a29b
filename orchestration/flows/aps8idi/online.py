"""XPCS as data is taken: raw data and a qmap in, results back, and a record that people find."""

from __future__ import annotations

from typing import Any

from prefect import flow

from orchestration.flows.aps8idi.options import Options
from orchestration.flows.aps8idi.outlook import outlook
from orchestration.flows.aps8idi.payload import Payload
from orchestration.flows.aps8idi.pipeline import process
from orchestration.flows.cancelling import say_cancelled
from orchestration.flows.main import command
from orchestration.flows.work import working
from orchestration.ledger.service import Document

FLOW = "xpcs_online_flow"


@flow(name=FLOW, flow_run_name="xpcs_online: {raw}", on_failure=[say_cancelled])
def xpcs_online_flow(
    raw: str,
    qmap: str,
    experiment: str = "",
    cycle: str = "",
    deployment: str = "",
    suffix: str = "",
    options: Options = Options(),  # noqa: B008 - frozen
    request: str = "",
    is_export_control: bool = False,
    dry_run: bool = False,
) -> Document:
    """Correlate a dataset at the site of a deployment, bring the results back, draw and publish them.

    `raw` is the raw file, the first of several, or the folder of the dataset, and `qmap` the file of its q-bins, both
    as the computers of the beamline have them. The results lie in a folder of the same name below the endpoint of
    results; the stage "results are back" ends as soon as they are there. A new `request` has the same computed again.
    With `dry_run`, everything is checked, and nothing is done.
    """
    given: Document = {
        "raw": raw,
        "qmap": qmap,
        "experiment": experiment,
        "cycle": cycle,
        "deployment": deployment,
        "suffix": suffix,
        "options": options.chosen,
        "request": request,
        "is_export_control": is_export_control,
        "dry_run": dry_run,
    }
    with working(FLOW, given) as work:
        payload = Payload.parse(work.settings, given, options)
        return outlook(work, payload) if dry_run else process(work, payload)


def main(argv: list[str] | None = None) -> Any:
    return command(xpcs_online_flow, argv)


if __name__ == "__main__":
    main()
