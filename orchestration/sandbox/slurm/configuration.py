"""The settings files of a cluster shaped like NERSC's: its nodes, queues, qualities of service and constraints."""

from __future__ import annotations

import os
import pwd
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestration.sandbox import ports
from orchestration.sandbox.slurm.files import HOME, INSIDE, USER, USER_ID, Files

CLUSTER = "perlmutter"
ACCOUNT = "als"
QUALITIES = ("regular", "debug", "realtime", "shared", "premium", "preempt", "interactive", "overrun")
NODES = ("nid001000", "nid001001", "nid002000")
GPUS_PER_NODE = 4
CONTROL_GROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = ("freezer", "memory")


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Of the controller, the accounting daemon, and each node."""

    controller: int
    accounting: int
    nodes: tuple[int, ...]

    @classmethod
    def of(cls, numbers: tuple[int, ...]) -> Ports:
        return cls(controller=numbers[0], accounting=numbers[1], nodes=numbers[2:])


def take_ports(wishes: Sequence[int]) -> tuple[int, ...]:
    """Those wished for where they can be had, else any others."""
    count = 2 + len(NODES)
    return tuple(ports.take(wish) for wish in [*wishes, *[0] * count][:count])


def write(files: Files, chosen: Ports, *, groups: bool) -> None:
    """Everything below `etc`, and the device nodes of the GPUs. `groups`: control groups limit memory."""
    slurm = pwd.getpwnam("slurm")
    write_accounts(files)
    for name, text in {
        "slurm.conf": slurm_conf(chosen, groups=groups),
        "gres.conf": _gres_conf(),
        "job_submit.lua": JOB_SUBMIT,
        "cluster.cfg": cluster_accounts(),
        "my.cnf": MARIADB,
        "cgroup.conf": CGROUP,
        "slurmdbd.conf": slurmdbd_conf(chosen),
    }.items():
        (files.settings / name).write_text(text)
    secret = files.settings / "slurmdbd.conf"
    os.chown(secret, slurm.pw_uid, slurm.pw_gid)
    secret.chmod(0o600)
    for number in range(GPUS_PER_NODE):
        device = files.root / "dev" / f"nvidia{number}"
        if not device.exists():
            os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))  # what /dev/null is


def write_accounts(files: Files) -> None:
    """The machine's users and groups, and the facility's own user: bound over /etc inside, so the machine gets none."""
    for name, line in (
        ("passwd", f"{USER}:x:{USER_ID}:{USER_ID}:ALS developer:{HOME}:/bin/bash\n"),
        ("group", f"{USER}:x:{USER_ID}:\n{ACCOUNT}:x:{USER_ID + 1}:{USER}\n"),
    ):
        kept = [one for one in Path("/etc", name).read_text().splitlines() if one.split(":")[0] not in (USER, ACCOUNT)]
        (files.settings / name).write_text("\n".join(kept) + "\n" + line)


def slurm_conf(chosen: Ports, *, groups: bool) -> str:
    host = socket.gethostname().partition(".")[0]
    tracking, task = ("cgroup", "task/cgroup") if groups else ("linuxproc", "task/none")
    where = f"NodeHostname={host} NodeAddr=127.0.0.1"
    cpu, cpu2, gpu = NODES
    return f"""\
ClusterName={CLUSTER}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={chosen.controller}
SlurmUser=slurm
AuthType=auth/munge
# A job that is put back waits for the credential of its first start to expire: two minutes, unless told otherwise.
AuthInfo=cred_expire=6,socket={INSIDE}/munge/socket
MpiDefault=none
ProctrackType=proctrack/{tracking}
TaskPlugin={task}
SwitchType=switch/none
PropagateResourceLimits=NONE
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=1900
GresTypes=gpu
SchedulerType=sched/backfill
# Without, a job waits up to three seconds for its turn even when the machine is empty.
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
MinJobAge=300
KillWait=10
SlurmctldTimeout=10
# A daemon that a busy machine keeps waiting is not down.
SlurmdTimeout=300
MessageTimeout=60
BatchStartTimeout=60
JobRequeue=0
EnforcePartLimits=ALL
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobSubmitPlugins=lua
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={chosen.accounting}
AccountingStoragePass={INSIDE}/munge/socket
AccountingStorageEnforce=associations,qos,limits
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
PreemptType=preempt/qos
PreemptMode=CANCEL
JobCompType=jobcomp/none
StateSaveLocation={INSIDE}/state
SlurmdSpoolDir={INSIDE}/spool/%n
SlurmctldPidFile={INSIDE}/run/slurmctld.pid
SlurmdPidFile={INSIDE}/run/slurmd.%n.pid
SlurmctldLogFile={INSIDE}/log/slurmctld.log
SlurmdLogFile={INSIDE}/log/slurmd.%n.log
NodeName={cpu} {where} Port={chosen.nodes[0]} {_CPU_NODE}
NodeName={cpu2} {where} Port={chosen.nodes[1]} {_CPU_NODE}
NodeName={gpu} {where} Port={chosen.nodes[2]} {_GPU_NODE}
PartitionName=regular_milan_ss11 Nodes={cpu},{cpu2} Default=YES MaxTime=2-00:00:00 {_PARTITION} OverSubscribe=EXCLUSIVE
PartitionName=gpu_ss11 Nodes={gpu} MaxTime=2-00:00:00 {_PARTITION} OverSubscribe=EXCLUSIVE
PartitionName=realtime Nodes=ALL MaxTime=06:00:00 {_PARTITION} PriorityTier=100
PartitionName=shared Nodes=ALL MaxTime=2-00:00:00 {_PARTITION}
"""


_CPU_NODE = "Sockets=2 CoresPerSocket=64 ThreadsPerCore=2 RealMemory=512000 Feature=cpu,milan"
_GPU_NODE = (
    "Sockets=1 CoresPerSocket=64 ThreadsPerCore=2 RealMemory=256000"
    f" Gres=gpu:a100:{GPUS_PER_NODE} Feature=gpu,a100,hbm40g,milan"
)
_PARTITION = "DefaultTime=00:10:00"


def _gres_conf() -> str:
    devices = f"{INSIDE}/dev/nvidia[0-{GPUS_PER_NODE - 1}]"
    return f"AutoDetect=off\nNodeName={NODES[2]} Name=gpu Type=a100 File={devices}\n"


def slurmdbd_conf(chosen: Ports) -> str:
    return f"""\
AuthType=auth/munge
AuthInfo=socket={INSIDE}/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={chosen.accounting}
SlurmUser=slurm
LogFile={INSIDE}/log/slurmdbd.log
PidFile={INSIDE}/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageLoc=slurm_acct_db
StorageUser=slurm
StoragePass=slurm
"""


def cluster_accounts() -> str:
    """For ``sacctmgr load``: one account, in which the facility's user and root may use every quality of service."""
    return f"""\
Cluster - '{CLUSTER}':Fairshare=1:QOS='normal'
Parent - 'root'
Account - '{ACCOUNT}':Description='{ACCOUNT}':Organization='{ACCOUNT}':Fairshare=1:\
QOS='normal,{",".join(QUALITIES)}':DefaultQOS='regular'
Parent - '{ACCOUNT}'
User - '{USER}':DefaultAccount='{ACCOUNT}':Fairshare=1
User - 'root':DefaultAccount='{ACCOUNT}':Fairshare=1
"""


QUALITY_LIMITS = (
    ("realtime", "preempt=preempt,overrun", "priority=1000"),
    ("debug", "maxwall=00:30:00", "flags=DenyOnLimit"),
    ("interactive", "maxwall=04:00:00", "flags=DenyOnLimit"),
)
"""What ``sacctmgr modify qos NAME set`` gives to those that differ from the rest."""

MARIADB = f"""\
[mariadbd]
user=slurm
datadir={INSIDE}/db
socket={INSIDE}/run/mysql.sock
pid-file={INSIDE}/run/mariadbd.pid
log-error={INSIDE}/log/mariadbd.log
skip-networking
skip-log-bin
performance_schema=off
innodb_buffer_pool_size=64M
innodb_log_file_size=16M
innodb_flush_log_at_trx_commit=0
"""

CGROUP = f"""\
CgroupPlugin=cgroup/v1
CgroupMountpoint={CONTROL_GROUPS}
ConstrainRAMSpace=yes
"""

JOB_SUBMIT = f"""\
-- Like NERSC: a job says what kind of node it wants, and that and its quality of service choose the partition.
function slurm_job_submit(job_desc, part_list, submit_uid)
   local features = job_desc.features or ""
   if features == "" then
      slurm.log_user("You must specify node features with -C: cpu or gpu")
      return slurm.ERROR
   end
   if job_desc.account == nil then job_desc.account = "{ACCOUNT}" end
   if job_desc.partition == nil then
      if job_desc.qos == "realtime" or job_desc.qos == "shared" then job_desc.partition = job_desc.qos
      elseif string.find(features, "gpu") then job_desc.partition = "gpu_ss11"
      else job_desc.partition = "regular_milan_ss11" end
   end
   return slurm.SUCCESS
end
function slurm_job_modify(job_desc, job_rec, part_list, modify_uid) return slurm.SUCCESS end
return slurm.SUCCESS
"""
