"""Registers the reconstruction of 8.3.2 at ALCF with Globus Flows and Globus Compute, or brings it up to date.

    python scripts/init_reconstruction_globus_flow.py [--site alcf]

For those who start it from the Globus web app; the service itself does not need it. The ids are kept in the Prefect
Variable `globus-flows`, so that running this again changes what is registered and makes no second one.
"""

from __future__ import annotations

import click

from orchestration import config
from orchestration.config import GlobusComputeSite
from orchestration.errors import ConfigError, OrchestrationError
from orchestration.flows.main import use_environment
from orchestration.flows.registered import Registration, remember, remembered
from orchestration.globus.compute_functions import RegisteredFunction, register_reconstruction
from orchestration.globus.flows import GlobusFlows, reconstruction_flow

TITLE = "Tomographic reconstruction of ALS 8.3.2"


@click.command(help=__doc__)
@click.option("--site", "site_name", default="alcf", show_default=True, help="Compute site of kind globus_compute.")
@click.option("--flow-id", default="", help="Flow to bring up to date, if its id is not the one that is remembered.")
def main(site_name: str, flow_id: str) -> None:
    use_environment()
    try:
        _register(site_name, flow_id)
    except OrchestrationError as error:
        raise click.ClickException(error.sentence) from error


def _register(site_name: str, flow_id: str) -> None:
    settings, credentials = config.load(), config.credentials()
    site = settings.site(site_name)
    if not isinstance(site, GlobusComputeSite):
        raise ConfigError(f"{site_name} is not reached by Globus Compute", where=f"compute_sites.{site_name}.kind")
    known = remembered("reconstruction")
    function = register_reconstruction(
        site, credentials, known=RegisteredFunction(known.function_id, known.function_digest)
    )
    flow = GlobusFlows(credentials).publish(
        reconstruction_flow(name=TITLE, step="reconstruct it"), known=flow_id or known.flow_id
    )
    remember("reconstruction", Registration(flow_id=flow.id, function_id=function.id, function_digest=function.digest))
    click.echo(f"flow      {flow.id}  {flow.effect.value}")
    click.echo(f"function  {function.id}  {'unchanged' if function.id == known.function_id else 'registered'}")


if __name__ == "__main__":
    main()
