"""Users of a cluster: what they may do is the kernel's business."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from orchestration.sandbox.superfacility import commands
from orchestration.sandbox.superfacility.commands import Identity
from orchestration.sandbox.superfacility.scheduler import Group, Person, UnknownUser


def person(user: str) -> Person:
    """Raises: UnknownUser."""
    try:
        entry = pwd.getpwnam(user)
    except (KeyError, ValueError) as error:
        raise UnknownUser(user) from error
    numbers = [entry.pw_gid, *(one for one in os.getgrouplist(user, entry.pw_gid) if one != entry.pw_gid)]
    return Person(
        name=user,
        uid=entry.pw_uid,
        home=Path(entry.pw_dir),
        groups=tuple(Group(name=commands.group_name(number), gid=number) for number in numbers),
        full_name=entry.pw_gecos.partition(",")[0],
    )


def identity(whom: Person) -> Identity:
    """For `commands.run`; only root can become somebody else."""
    if os.geteuid() != 0:
        return {}
    numbers = [group.gid for group in whom.groups]
    return {"user": whom.uid, "group": numbers[0], "extra_groups": numbers}
