"""The scheduled look for dead runs, deployed with 8-ID-I as with every beamline: it may be the only one."""

from __future__ import annotations

from orchestration.flows.main import command
from orchestration.flows.reconciling import reconcile

__all__ = ["reconcile"]

if __name__ == "__main__":
    command(reconcile)
