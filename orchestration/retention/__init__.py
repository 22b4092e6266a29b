"""When a copy may go, and under which proof."""

from orchestration.retention.proof import CLOCK_SLACK_SECONDS, Case, Inspector, Proof, prove, unlike
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
