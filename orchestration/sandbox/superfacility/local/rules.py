"""What the machine has and allows: qualities of service, partitions, nodes, as NERSC's has them."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass

from orchestration.sandbox.superfacility.local.options import Options
from orchestration.sandbox.superfacility.scheduler import Refused

_HOUR = 3600.0
_DEFAULT_LIMIT = 600.0
CPUS_PER_NODE = 256


@dataclass(frozen=True, kw_only=True)
class Quality:
    """A quality of service. `longest` is in seconds; the higher the `priority`, the sooner a job begins."""

    name: str
    longest: float
    nodes: int
    priority: int
    partition: str = ""


QUALITIES = {
    quality.name: quality
    for quality in (
        Quality(name="regular", longest=48 * _HOUR, nodes=3072, priority=10),
        Quality(name="debug", longest=0.5 * _HOUR, nodes=8, priority=20),
        Quality(name="interactive", longest=4 * _HOUR, nodes=4, priority=20),
        Quality(name="shared", longest=48 * _HOUR, nodes=1, priority=10, partition="shared"),
        Quality(name="premium", longest=48 * _HOUR, nodes=3072, priority=30),
        Quality(name="preempt", longest=48 * _HOUR, nodes=128, priority=5),
        Quality(name="overrun", longest=48 * _HOUR, nodes=3072, priority=1),
        Quality(name="realtime", longest=48 * _HOUR, nodes=64, priority=90, partition="realtime"),
        Quality(name="xfer", longest=48 * _HOUR, nodes=1, priority=10, partition="xfer"),
    )
}
_CPU, _GPU = "regular_milan_ss11", "gpu_ss11"
_PARTITIONS = {_CPU, _GPU, "shared", "realtime", "xfer", "debug", "regular"}
_FEATURES = {"cpu", "gpu", "ss11", "milan", "a100", "hbm40g", "hbm80g", "scratch", "cfs", "contrib", "nvme", "cron"}


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a job asks for, within the rules. `limit` is in seconds."""

    account: str
    quality: Quality
    partition: str
    features: str
    limit: float
    nodes: int
    tasks: int
    cpus_per_task: int

    @property
    def cpus(self) -> int:
        return max(self.nodes, self.tasks * self.cpus_per_task)


def judge(options: Options, *, accounts: Collection[str]) -> Wish:
    """Raises: Refused, with the words of sbatch."""
    quality = QUALITIES.get(options.text("qos", "regular"))
    if quality is None:
        raise _failed("Invalid qos specification")
    account = options.text("account", next(iter(accounts), ""))
    # The accounts of GPU hours are those of the projects, with _g at the end.
    if account.removesuffix("_g") not in accounts:
        raise _failed("Invalid account or account/partition combination specified")
    features = options.text("constraint")
    if not features and quality.name != "xfer":
        said = "sbatch: error: You must specify node features with -C: cpu or gpu\n"
        raise Refused(said + _failed("Unspecified error").text)
    if not all(word in _FEATURES for word in re.findall(r"[A-Za-z_]\w*", features)):
        raise _failed("Invalid feature specification")
    if "array" in options:
        raise _failed("Invalid job array specification")
    return _sized(options, account=account, quality=quality, features=features)


def _sized(options: Options, *, account: str, quality: Quality, features: str) -> Wish:
    limit = options.seconds("time") or _DEFAULT_LIMIT
    if limit > quality.longest:
        raise _failed("Requested time limit is invalid (missing or exceeds some limit)")
    per_task = options.number("cpus-per-task")
    asked = options.number("nodes")
    tasks = options.number("ntasks", asked * options.number("ntasks-per-node"))
    nodes = max(asked, math.ceil(tasks * per_task / CPUS_PER_NODE))
    if per_task > CPUS_PER_NODE or (nodes > asked and "nodes" in options):
        raise _failed("Requested node configuration is not available")
    if nodes > quality.nodes:
        raise _failed("Node count specification invalid")
    partition = options.text("partition", quality.partition or (_GPU if "gpu" in features else _CPU))
    if partition not in _PARTITIONS:
        said = f"sbatch: error: invalid partition specified: {partition}\n"
        raise Refused(said + _failed("Invalid partition name specified").text)
    return Wish(
        account=account,
        quality=quality,
        partition=partition,
        features=features,
        limit=limit,
        nodes=nodes,
        tasks=tasks,
        cpus_per_task=per_task,
    )


def _failed(why: str) -> Refused:
    return Refused(f"sbatch: error: Batch job submission failed: {why}\n")
