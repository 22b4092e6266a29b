"""Who is written to about a scan."""

from __future__ import annotations

from orchestration.config import Settings, is_address
from orchestration.ledger.scan import Scan

SAID_EMAIL = "owner_email"
"""The fact of a scan that tells what an operator has said."""


def addresses(settings: Settings, scan: Scan) -> tuple[str, ...]:
    """Who owns a scan, as far as is known: as operators say of it, by config.yml, by its own metadata; else who cares
    for its beamline.
    """
    if said := _address(scan, SAID_EMAIL):
        return said
    notify = settings.notify
    owner = settings.proposal(scan.beamline, scan.path.text, scan.facts)
    for name in (owner, scan.facts.get("owner_group"), scan.facts.get("proposal"), scan.facts.get("experiment")):
        if found := notify.owners.get(str(name or "")):
            return found
    if told := _address(scan, "email"):
        return told
    if scan.beamline in notify.beamlines:
        return notify.beamlines[scan.beamline]
    beamline = settings.beamlines.get(scan.beamline)
    if beamline is not None and is_address(beamline.catalogue.contact_email):
        return (beamline.catalogue.contact_email,)
    return notify.operators


def _address(scan: Scan, fact: str) -> tuple[str, ...]:
    email = scan.facts.get(fact)
    return (email,) if isinstance(email, str) and is_address(email) else ()
