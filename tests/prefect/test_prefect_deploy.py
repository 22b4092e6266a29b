from __future__ import annotations

import subprocess
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from asking import ask, submit
from prefect.client.schemas.actions import DeploymentScheduleUpdate, VariableUpdate, WorkPoolCreate
from prefect.client.schemas.objects import WorkQueue
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.schemas.automations import AutomationCore, EventTrigger
from prefect.exceptions import ObjectNotFound

from orchestration import config
from orchestration.config import Endpoint
from orchestration.errors import ConfigError, UnknownName
from orchestration.flows import catalogue
from orchestration.flows.calendar import deletion_at
from orchestration.flows.catalogue import Catalogue
from orchestration.flows.deploy import default_variables, deploy
from orchestration.flows.deployments import load_flow
from orchestration.flows.provision import ZOMBIES, Change, Effect, ensure_automation
from orchestration.flows.runs import PrefectSchedule, RunRequest
from orchestration.flows.server import insist
from orchestration.ledger.service import Json, Succeeded

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]


def own_catalogue(tmp_path: Path, **changes: object) -> Catalogue:
    """The small flows under names that only this test uses."""
    document = yaml.safe_load((HERE / "tiny.yaml").read_text())
    mark = uuid.uuid5(uuid.NAMESPACE_URL, str(tmp_path)).hex[:8]
    for row in document["deployments"]:
        row["name"] = f"{row['name']}-{mark}"
        row["work_pool"]["name"] = f"pool-{mark}"
        row.update(changes)
    path = tmp_path / "prefect.yaml"
    path.write_text(yaml.safe_dump(document))
    return catalogue.load(path)


def deploy_own(item: Catalogue) -> Sequence[Change]:
    return deploy([item], variables=default_variables(config.load(PROJECT / "config.yml")), directory=PROJECT)


def deployment(name: str) -> DeploymentResponse:
    return ask(lambda client: client.read_deployment_by_name(name))


def queue(pool: str, name: str) -> WorkQueue:
    return ask(lambda client: client.read_work_queue_by_name(name, work_pool_name=pool))


def set_variable(name: str, value: Json) -> None:
    ask(lambda client: client.update_variable(VariableUpdate(name=name, value=value)))


def effects(changes: Sequence[Change], kind: str) -> set[Effect]:
    return {change.effect for change in changes if change.kind == kind}


def test_deploying_again_changes_nothing_and_says_so(server: str, tmp_path: Path) -> None:
    item = own_catalogue(tmp_path)

    first = deploy_own(item)
    assert effects(first, "deployment") == effects(first, "work pool") == {Effect.CREATED}
    before = [deployment(spec.full_name) for spec in item.deployments]

    second = deploy_own(item)
    assert {change.effect for change in second} == {Effect.UNCHANGED}
    after = [deployment(spec.full_name) for spec in item.deployments]
    assert [one.updated for one in after] == [one.updated for one in before]


def test_queues_have_priorities_of_their_own_in_the_order_of_the_file(server: str, tmp_path: Path) -> None:
    item = own_catalogue(tmp_path)
    deploy_own(item)

    (pool,) = item.pools
    quick, slow = queue(pool, "quick"), queue(pool, "slow")
    assert quick.priority is not None
    assert slow.priority is not None
    assert quick.priority < slow.priority
    assert (quick.concurrency_limit, slow.concurrency_limit) == (None, 2)


def test_a_changed_deployment_keeps_what_is_scheduled_for_it(server: str, tmp_path: Path) -> None:
    deploy_own(own_catalogue(tmp_path))
    name = own_catalogue(tmp_path).deployments[0].full_name
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    request = RunRequest(deployment=name, parameters={"path": str(tmp_path / "never")}, scheduled_time=tomorrow)
    handle = submit(PrefectSchedule(), request, uuid.uuid4().hex)

    done = deploy_own(own_catalogue(tmp_path, description="another", tags=["changed"]))

    assert effects(done, "deployment") == {Effect.CHANGED}
    assert isinstance(insist(lambda: PrefectSchedule().poll(request, handle), seconds=30), Succeeded)


def test_a_new_queue_says_that_scheduled_runs_stay_in_the_old_one(server: str, tmp_path: Path) -> None:
    item = own_catalogue(tmp_path)
    deploy_own(item)
    spec = item.deployments[0]
    request = RunRequest(
        deployment=spec.full_name,
        parameters={"path": str(tmp_path / "never")},
        scheduled_time=datetime.now(UTC) + timedelta(days=1),
    )
    submit(PrefectSchedule(), request, uuid.uuid4().hex)

    moved = spec.model_copy(update={"work_pool": spec.work_pool.model_copy(update={"work_queue_name": "slow"})})
    done = deploy_own(item.model_copy(update={"deployments": (moved, *item.deployments[1:])}))

    (change,) = [change for change in done if change.effect is Effect.CHANGED]
    assert "1 scheduled runs stay in" in change.detail
    assert deployment(spec.full_name).work_queue_name == "slow"


def test_a_schedule_that_an_operator_switched_off_stays_off(server: str, tmp_path: Path) -> None:
    item = own_catalogue(tmp_path)
    deploy_own(item)
    name = item.deployments[2].full_name
    found = deployment(name)
    ask(lambda client: client.update_deployment_schedule(found.id, found.schedules[0].id, active=False))

    spec = item.deployments[2]
    later = spec.schedules[0].model_copy(update={"cron": "0 4 * * *"})
    changed = spec.model_copy(update={"schedules": (later,)})
    deploy_own(item.model_copy(update={"deployments": (*item.deployments[:2], changed)}))

    (schedule,) = deployment(name).schedules
    assert not schedule.active
    assert schedule.schedule == later.schedule()


def test_values_of_operators_are_kept(server: str, tmp_path: Path) -> None:
    item = own_catalogue(tmp_path)
    deploy_own(item)
    (pool,) = item.pools
    before = ask(lambda client: client.read_variable_by_name("bl832-settings"))
    assert before is not None
    set_variable("bl832-settings", {"delete_spot832_files_after_days": 99})
    ask(lambda client: client.update_work_queue(queue(pool, "slow").id, concurrency_limit=7))
    try:
        done = deploy_own(item)
        after = ask(lambda client: client.read_variable_by_name("bl832-settings"))
    finally:
        set_variable("bl832-settings", before.value)

    assert after is not None
    assert after.value == {"delete_spot832_files_after_days": 99}
    assert queue(pool, "slow").concurrency_limit == 7
    assert {change.name for change in done if change.effect is Effect.KEPT} == {"bl832-settings", f"{pool}/slow"}


def test_a_flow_that_does_not_exist_is_found_before_anything_is_changed(server: str, tmp_path: Path) -> None:
    item = own_catalogue(tmp_path)
    lost = item.deployments[2].model_copy(update={"entrypoint": "tiny_flows.lost"})

    with pytest.raises(ConfigError, match=r"tiny_flows\.lost cannot be imported"):
        deploy_own(item.model_copy(update={"deployments": (*item.deployments[:2], lost)}))

    with pytest.raises(ObjectNotFound):
        deployment(item.deployments[0].full_name)


def test_a_pool_of_another_kind_is_not_taken_over(server: str, tmp_path: Path) -> None:
    item = own_catalogue(tmp_path)
    (pool,) = item.pools
    ask(lambda client: client.create_work_pool(WorkPoolCreate(name=pool, type="docker")))

    with pytest.raises(ConfigError, match="is of type docker, not process"):
        deploy_own(item)


def test_runs_of_a_machine_that_died_are_crashed_in_the_end(server: str) -> None:
    (automation,) = ask(lambda client: client.read_automations_by_name(ZOMBIES))
    assert automation.enabled


def test_suspended_runs_are_not_taken_for_dead_ones_even_where_an_older_version_did(server: str) -> None:
    (made,) = ask(lambda client: client.read_automations_by_name(ZOMBIES))
    assert isinstance(made.trigger, EventTrigger)
    assert "prefect.flow-run.Suspended" in made.trigger.expect

    older = made.trigger.model_copy(update={"expect": made.trigger.expect - {"prefect.flow-run.Suspended"}})
    core = AutomationCore(**{**made.model_dump(exclude={"id", "owner_resource"}), "trigger": older, "enabled": False})
    ask(lambda client: client.update_automation(made.id, core))
    assert ask(ensure_automation).effect is Effect.CHANGED
    (found,) = ask(lambda client: client.read_automations_by_name(ZOMBIES))
    assert (found.id, found.trigger, found.enabled) == (made.id, made.trigger, False)

    ask(
        lambda client: client.update_automation(
            made.id, AutomationCore(**made.model_dump(exclude={"id", "owner_resource"}))
        )
    )
    assert ask(ensure_automation).effect is Effect.UNCHANGED


def test_create_deployments_works_from_any_directory(server: str, tmp_path: Path) -> None:
    command = [str(PROJECT / "create_deployments.sh"), "--file", str(HERE / "tiny.yaml"), "--pool", "sandbox_pool"]
    environment = {"PATH": "/usr/bin:/bin", "PREFECT_API_URL": server, "PYTHONPATH": str(HERE), "HOME": str(tmp_path)}

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)

    assert "nothing to change" in done.stdout


def test_every_deployment_of_the_project_is_named_as_acquisition_programs_know_it() -> None:
    names = {spec.full_name for spec in catalogue.of_beamline("bl832").deployments}
    assert {
        "dispatcher/run_832_dispatcher",
        "new_832_file_flow/new_file_832",
        "test_832_transfers/test_transfers_832",
        "local_recon_flow/local_recon_flow",
        "prune_globus_endpoint/prune_globus_endpoint",
        "prune_data832_raw/prune_data832_raw",
        "prune_spot832/prune_spot832",
    } <= names


def test_no_two_beamlines_deploy_the_same_name() -> None:
    names = [spec.full_name for name in catalogue.beamlines() for spec in catalogue.of_beamline(name).deployments]
    assert len(names) == len(set(names))


def test_each_queue_serves_one_beamline_also_where_all_are_in_one_pool() -> None:
    served = [
        {spec.work_pool.work_queue_name for spec in catalogue.of_beamline(name).in_one_pool("sandbox").deployments}
        for name in catalogue.beamlines()
    ]
    assert sum(map(len, served)) == len(set().union(*served))


def test_scans_of_8_id_are_correlated_in_pools_of_their_own_with_limits() -> None:
    item = catalogue.of_beamline("aps8idi")
    places = {spec.full_name: spec.work_pool for spec in item.deployments if spec.name.startswith("xpcs_")}
    limits = {name: item.definitions.queue_limits[place.work_queue_name] for name, place in places.items()}
    assert limits == {
        "xpcs_online_flow/xpcs_online": 8,
        "xpcs_reprocess_flow/xpcs_reprocess": 4,
        "xpcs_batch_flow/xpcs_batch": 1,
    }
    assert all(len(item.pools[place.name]) == 1 for place in places.values())


@pytest.mark.parametrize(
    ("beamline", "suffix"),
    [("bl832", ""), ("aps8idi", "_8idi")],
)
def test_every_copy_has_a_deployment_that_deletes_it(beamline: str, suffix: str, tmp_path: Path) -> None:
    somewhere = {
        "prune_globus_endpoint": Endpoint(uuid=uuid4()).known_as("elsewhere"),
        "prune_filesystem_endpoint": Endpoint(mount=tmp_path).known_as("elsewhere"),
    }
    for flow, endpoint in somewhere.items():
        assert deletion_at(beamline, endpoint) == (f"{flow}/{flow}{suffix}", {"source_endpoint": "elsewhere"})
    deletions = [spec for spec in catalogue.of_beamline(beamline).deployments if spec.flow_name.startswith("prune_")]
    assert {load_flow(spec).name for spec in deletions} == {spec.flow_name for spec in deletions}


def test_each_staging_endpoint_of_8_id_has_its_own() -> None:
    settings = config.load(PROJECT / "config.yml")
    sites = [settings.site(deployment.site) for deployment in settings.xpcs.deployments.values()]
    for endpoint in {name for site in sites for name in (site.raw_endpoint, site.scratch_endpoint)}:
        assert deletion_at("aps8idi", settings.endpoint(endpoint)) == (f"prune_{endpoint}/prune_{endpoint}", {})


def test_a_wrong_file_says_where_and_what(tmp_path: Path) -> None:
    path = tmp_path / "prefect.yaml"
    path.write_text("name: x\ndeployments: [{name: a, flow_name: b, entrypoint: 'file.py:flow', work_pool: {name: p}}]")
    with pytest.raises(ConfigError, match=r"deployments\.0\.entrypoint.*prefect\.yaml"):
        catalogue.load(path)
    with pytest.raises(UnknownName, match="did you mean `bl832`"):
        catalogue.of_beamline("bl823")


def test_a_schedule_is_either_by_the_clock_or_by_the_interval() -> None:
    with pytest.raises(ValueError, match="either `cron` or `interval`"):
        catalogue.ScheduleSpec(slug="x")
    assert catalogue.ScheduleSpec(slug="x", interval=300).schedule() is not None
    assert DeploymentScheduleUpdate(schedule=catalogue.ScheduleSpec(slug="x", cron="* * * * *").schedule())
