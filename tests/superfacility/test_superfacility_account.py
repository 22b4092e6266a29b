"""Who one is at the facility, and what is left of one's hours."""

from __future__ import annotations

import grp
import os

import httpx
import pytest
from superfacility_lab import Lab


def test_a_user_is_described(lab: Lab) -> None:
    user = lab.client.user()
    assert (user.name, user.uid, user.email) == ("alsdev", os.getuid(), "alsdev@sandbox.example")
    assert lab.client.user("root").uid == 0
    assert [group.name for group in user.groups()] == [grp.getgrgid(os.getgid()).gr_name]
    assert "sandboxclient" in [client.clientId for client in user.clients()]
    assert [role.repo_name for role in user.roles()] == ["als"]
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        lab.client.user("nobodyofthisname")


def test_the_hours_left_of_a_project_can_be_set(lab: Lab) -> None:
    (project,) = lab.client.user().projects()
    assert (project.name, project.hours_given, project.hours_used) == ("als", 10_000, 0)
    lab.control.turn(hours_left={"als": 12.5})
    (project,) = lab.client.user().projects()
    assert project.hours_given - project.hours_used == project.cpu_hours_given - project.cpu_hours_used == 12.5


def test_groups_are_made_and_filled(lab: Lab) -> None:
    (project,) = lab.client.user().projects()
    group = project.create_group("t-demo")
    group.add(["alsdev", "root"])
    assert [member.name for member in group.members] == ["alsdev", "root"]
    group.remove("root")
    assert [member.user().name for member in lab.client.group("t-demo").members] == ["alsdev"]
    assert "t-demo" in [each.name for each in lab.client.user().groups()]
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        project.create_group("t-demo")
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        lab.client.group("nosuchgroup")


def test_the_api_describes_itself(lab: Lab) -> None:
    assert lab.client.api.config()["compute.targets"] == "perlmutter"
    assert lab.client.api.changelog()
