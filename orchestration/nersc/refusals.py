"""What sbatch says in place of the number of a job: a refusal, or that nobody knows whether Slurm has the job."""

from __future__ import annotations

import re

_REFUSAL = re.compile(
    r"""
    # sbatch itself does not understand the script; nothing was asked of Slurm
    \bsbatch:\ (unrecognized|invalid)\ option | \boption\ '[^']*'\ (is\ ambiguous|requires|doesn't\ allow)
    | \berror:\ Invalid\ (--|numeric\ value|directive\ found)
    | \bbatch\ script\ (is\ empty|contains) | \bdoes\ not\ look\ like\ a\ batch\ script

    # the facility's own rules about jobs
    | \bmust\ (specify|be\ specified)\b | \bnot\ specified\b | \bdoes\ not\ match\ any\ supported\ policy\b

    # Slurm's controller refuses the request: src/common/slurm_errno.c of Slurm
    | \bfailed:\ (
        Invalid\ (partition\ name|account\ or|qos|feature|preferred\ feature|generic\ resource|GRES|Trackable|license
            |wckey|node\ name|job\ array|time|extra\ constraints|mcs_label|or\ unknown\ association|--nice)
        | (Node|CPU|Task)\ (count|distribution)\ specification\ invalid | Job\ size\ specification
        | More\ processors\ requested | Memory\ required\ by\ task | No\ partition\ specified
        | Requested\ (nodes\ not\ in|node\ configuration\ is|topology\ configuration\ is|time\ limit\ is\ invalid
            |reservation\ is\ invalid|GRES\ option|operation\ not\ supported|account\ has\ breached)
        | Access/permission\ denied | Access\ denied\ to\ requested | User's\ group\ not\ permitted
        | Job\ dependency\ problem | Circular\ job\ dependency | Duplicate\ generic\ resource
        | Pathname\ of\ a\ file | Burst\ Buffer\ (permission|request)
    )
    """,
    re.IGNORECASE | re.VERBOSE,
)
_POLICY = re.compile(r"\b(QOS|Assoc)(?!\w*Submit)[A-Z]\w*")
"""Limits of the account or the quality of service, as they are named before "Job violates accounting/QOS policy".

A limit on how many jobs may be submitted passes, as those that were submitted end.
"""


def certain(said: str) -> bool:
    """Whether Slurm has not taken the job, and would not take it later.

    Everything else may be said of a job that Slurm has: by a connection that broke before the answer, or a command
    that took too long. It may also pass. So what is not known for a refusal is none.
    """
    return _REFUSAL.search(said) is not None or ("violates" in said and _POLICY.search(said) is not None)
