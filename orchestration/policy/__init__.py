"""May this be done with that data? The one question, asked before each thing that cannot be taken back.

`permit` answers it, and what it returns is all that an adapter takes: no transfer, job, publication, record or deletion
is asked of the outside world without a decision about the scan as the ledger has it at that moment.
"""

from __future__ import annotations

from orchestration.policy.folders import SEVERAL, OwnedTree, OwnerFolder
from orchestration.policy.permits import Asked, Decision, Permitted, opened, permit
from orchestration.policy.places import Audience, Effect, Passage, Place, Zone
from orchestration.policy.rules import Rule
from orchestration.policy.subject import (
    EMBARGO_UNTIL,
    EMBARGO_WHY,
    OWNED_BY,
    BeamlineRules,
    Embargo,
    Owners,
    Readers,
    Subject,
    embargo,
    moment,
    proposal,
)

__all__ = [
    "EMBARGO_UNTIL",
    "EMBARGO_WHY",
    "OWNED_BY",
    "SEVERAL",
    "Asked",
    "Audience",
    "BeamlineRules",
    "Decision",
    "Effect",
    "Embargo",
    "OwnedTree",
    "OwnerFolder",
    "Owners",
    "Passage",
    "Permitted",
    "Place",
    "Readers",
    "Rule",
    "Subject",
    "Zone",
    "embargo",
    "moment",
    "opened",
    "permit",
    "proposal",
]
