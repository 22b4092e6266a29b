"""When a copy may go, and under which proof."""

from orchestration.retention.likeness import CLOCK_SLACK_SECONDS, unlike
from orchestration.retention.proof import Case, Inspector, Proof, prove
from orchestration.retention.survey import Decision, Finding, Known, survey

__all__ = [
    "CLOCK_SLACK_SECONDS",
    "Case",
    "Decision",
    "Finding",
    "Inspector",
    "Known",
    "Proof",
    "prove",
    "survey",
    "unlike",
]
