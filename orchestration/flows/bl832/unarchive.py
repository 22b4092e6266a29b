"""Removing what 8.3.2 has on tape."""

from __future__ import annotations

from prefect import flow

from orchestration.flows.bl832.archive import project_of
from orchestration.flows.cancelling import say_cancelled
from orchestration.flows.main import command
from orchestration.flows.pruners import SWITCHES
from orchestration.flows.unarchiving import bundled, rehearse, remove
from orchestration.flows.work import working
from orchestration.ledger.service import Document


@flow(name="prune_hpss_endpoint", flow_run_name="prune_hpss: {file_path}", on_failure=[say_cancelled])
def prune_hpss_endpoint(file_path: str, dry_run: bool = True) -> Document:
    """Remove a bundle, or a file that is stored by itself, from tape, once another copy of all of it is proved.

    `file_path` is ``/global/raw/<proposal>/<bundle>``. The rule of the archive's retention says which copies count.
    Only what would be removed is told, unless `dry_run` is false.
    """
    with working("prune_hpss_endpoint", {"file_path": file_path, "dry_run": dry_run}) as work:
        asked = project_of(work, file_path, folder=True)
        what = bundled(work, asked)
        if dry_run:
            work.logger.info("nothing was removed: start it with dry_run=False, or --delete in a terminal, for that")
            return rehearse(work, what)
        return remove(work, asked, what)


if __name__ == "__main__":
    command(prune_hpss_endpoint, switches=SWITCHES)
