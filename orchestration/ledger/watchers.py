"""Who waits in the place of suspended runs: watchers that are alive, and which of them asks which service."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, delete, select, update

from orchestration.ledger.database import Database
from orchestration.ledger.owner import Owner
from orchestration.ledger.tables import watchers, watches

LEASE_SECONDS = 30.0
"""A watcher that was not heard of for so long is dead."""


class Watchers:
    def __init__(self, database: Database) -> None:
        self._database = database

    def beat(self, watcher: Owner) -> None:
        """This watcher lives, and answers for what waits for another lease. Called often enough by it."""
        now = self._database.now()
        with self._database.write("watchers") as connection:
            mine = watchers.c.id == str(watcher)
            alive = {"alive_until": now + LEASE_SECONDS}
            if connection.execute(update(watchers).where(mine).values(**alive)).rowcount == 0:
                connection.execute(watchers.insert().values(id=str(watcher), started_at=now, **alive))
            for gone in _ids(connection) - alive_watchers(connection, now):
                _forget(connection, gone)

    def leave(self, watcher: Owner) -> None:
        """It stops: the others take over at once."""
        with self._database.write("watchers") as connection:
            _forget(connection, str(watcher))

    def alive(self) -> Collection[str]:
        with self._database.read() as connection:
            return alive_watchers(connection, self._database.now())

    def take(self, subjects: Collection[str], watcher: Owner) -> frozenset[str]:
        """Those of `subjects` (names of services) that this watcher sees to, alone, for another lease.

        Among several watchers each gets about the same number; what belongs to a dead one is free.
        """
        now, me = self._database.now(), str(watcher)
        with self._database.write("watches") as connection:
            living = alive_watchers(connection, now) | {me}
            held = {
                row.subject: row.watcher
                for row in connection.execute(select(watches))
                if row.watcher in living and row.lease_until >= now
            }
            share = -(-len(subjects) // len(living))
            mine = sorted(subject for subject in subjects if held.get(subject) == me)
            free = sorted(subject for subject in subjects if subject not in held)
            taken = frozenset([*mine, *free][:share])
            given = [subject for subject in subjects if subject in taken or held.get(subject) == me]
            connection.execute(delete(watches).where(watches.c.subject.in_(given)))
            for subject in taken:
                row = {"subject": subject, "watcher": me, "lease_until": now + LEASE_SECONDS}
                connection.execute(watches.insert().values(**row))
        return taken


def _ids(connection: Connection) -> set[str]:
    return set(connection.execute(select(watchers.c.id)).scalars())


def alive_watchers(connection: Connection, now: float) -> set[str]:
    """Within a transaction of the caller."""
    found = connection.execute(select(watchers.c.id).where(watchers.c.alive_until >= now)).scalars()
    return {each for each in found if not Owner.parse(each).certainly_dead()}


def _forget(connection: Connection, watcher: str) -> None:
    connection.execute(delete(watches).where(watches.c.watcher == watcher))
    connection.execute(delete(watchers).where(watchers.c.id == watcher))
