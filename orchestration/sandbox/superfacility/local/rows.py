"""Jobs as squeue and sacct print them: all columns, by their headers in lower case."""

from __future__ import annotations

import time
from datetime import datetime

from orchestration.sandbox.superfacility.local.job import Job, State
from orchestration.sandbox.superfacility.scheduler import JobRow, Person

NODE = "nid001000"
_SHORT = {
    State.PENDING: "PD",
    State.RUNNING: "R",
    State.COMPLETED: "CD",
    State.FAILED: "F",
    State.TIMEOUT: "TO",
    State.CANCELLED: "CA",
    State.OUT_OF_MEMORY: "OOM",
    State.NODE_FAIL: "NF",
    State.PREEMPTED: "PR",
    State.DEADLINE: "DL",
    State.BOOT_FAIL: "BF",
}
_NO_NODE = "None assigned"
_EMPTY_ACCOUNTING = """
admincomment avecpu avecpufreq avediskread avediskwrite avepages averss avevmsize blockid consumedenergy
consumedenergyraw container dbindex layout maxdiskread maxdiskreadnode maxdiskreadtask maxdiskwrite maxdiskwritenode
maxdiskwritetask maxpages maxpagesnode maxpagestask maxrss maxrssnode maxrsstask maxvmsize maxvmsizenode maxvmsizetask
mcslabel mincpu mincpunode mincputask ntasks reqcpufreq reservationid systemcomment tresusageinave tresusageinmax
tresusageinmaxnode tresusageinmaxtask tresusageinmin tresusageinminnode tresusageinmintask tresusageintot
tresusageoutave tresusageoutmax tresusageoutmaxnode tresusageoutmaxtask tresusageoutmin tresusageoutminnode
tresusageoutmintask tresusageouttot wckey
"""
"""Columns that this batch system has nothing to say in."""


def queue(job: Job, person: Person) -> JobRow:
    """Of ``squeue -o %all``."""
    running = job.started is not None
    used = _used(job)
    fields = {
        "account": job.account,
        "tres_per_node": "N/A",
        "min_cpus": str(job.cpus_per_task),
        "min_tmp_disk": "0",
        "end_time": _stamp(job.started + job.limit) if job.started is not None else "N/A",
        "features": job.features or "(null)",
        "group": person.groups[0].name,
        "over_subscribe": "OK",
        "jobid": str(job.id),
        "name": job.name,
        "comment": job.comment or "(null)",
        "time_limit": _length(job.limit, short=True),
        "min_memory": "0",
        "req_nodes": "",
        "command": job.command or "(null)",
        "priority": f"{job.priority / 100:.14f}",
        "qos": job.quality,
        "reason": "None" if running else job.reason,
        "": "",
        "st": _SHORT[job.state],
        "user": job.user,
        "reservation": job.reservation or "(null)",
        "wckey": "(null)",
        "exc_nodes": "",
        "nice": "0",
        "s:c:t": "*:*:*",
        "exec_host": NODE if running else "n/a",
        "cpus": str(job.cpus),
        "nodes": str(job.nodes),
        "dependency": job.waits_for or "(null)",
        "array_job_id": str(job.id),
        "sockets_per_node": "*",
        "cores_per_socket": "*",
        "threads_per_core": "*",
        "array_task_id": "N/A",
        "time_left": _length(max(0.0, job.limit - used), short=True),
        "time": _length(used, short=True),
        "nodelist": NODE if running else "",
        "contiguous": "0",
        "partition": job.partition,
        "nodelist(reason)": NODE if running else f"({job.reason})",
        "start_time": _stamp(job.started) if job.started is not None else "N/A",
        "state": job.state.value,
        "uid": str(person.uid),
        "submit_time": _stamp(job.submitted),
        "licenses": "(null)",
        "core_spec": "N/A",
        "schednodes": "(null)",
        "work_dir": job.directory,
    }
    return JobRow(fields=fields, submitted=job.submitted, ended=job.ended)


def accounting(job: Job, person: Person) -> JobRow:
    """Of ``sacct -X -P -o ALL``."""
    used = _used(job)
    begun = job.started if job.started is not None else job.ended
    waited = (begun if begun is not None else time.time()) - job.submitted
    tres = f"billing={job.cpus},cpu={job.cpus},node={job.nodes}"
    code = f"{job.code}:{job.signal}"
    fields = dict.fromkeys(_EMPTY_ACCOUNTING.split(), "") | {
        "account": job.account,
        "alloccpus": str(job.cpus) if job.started is not None else "0",
        "allocnodes": str(job.nodes) if job.started is not None else "0",
        "alloctres": tres if job.started is not None else "",
        "associd": "1",
        "cluster": "perlmutter",
        "comment": job.comment,
        "constraints": job.features,
        "cputime": _length(used * job.cpus),
        "cputimeraw": str(int(used) * job.cpus),
        "derivedexitcode": "0:0",
        "elapsed": _length(used),
        "elapsedraw": str(int(used)),
        "eligible": _stamp(max(job.submitted, job.begin)),
        "end": _stamp(job.ended) if job.ended is not None else "Unknown",
        "exitcode": code,
        "flags": "SchedMain" if job.started is not None else "",
        "gid": str(person.groups[0].gid),
        "group": person.groups[0].name,
        "jobid": str(job.id),
        "jobidraw": str(job.id),
        "jobname": job.name,
        "ncpus": str(job.cpus),
        "nnodes": str(job.nodes),
        "nodelist": NODE if job.started is not None else _NO_NODE,
        "partition": job.partition,
        "planned": _length(waited),
        "priority": str(job.priority),
        "qos": job.quality,
        "qosraw": "1",
        "reason": "None" if job.started is not None else job.reason,
        "reqcpufreqgov": "Unknown",
        "reqcpufreqmax": "Unknown",
        "reqcpufreqmin": "Unknown",
        "reqcpus": str(job.cpus),
        "reqmem": "0",
        "reqnodes": str(job.nodes),
        "reqtres": tres,
        "reservation": job.reservation,
        "reserved": _length(waited),
        "resvcpu": _length(waited * job.cpus),
        "resvcpuraw": str(int(waited) * job.cpus),
        "start": _stamp(begun) if begun is not None else "Unknown",
        "state": job.state_text,
        "submit": _stamp(job.submitted),
        "submitline": "sbatch --parsable",
        "suspended": "00:00:00",
        "systemcpu": "00:00:00",
        "timelimit": _length(job.limit),
        "timelimitraw": str(max(1, round(job.limit / 60))),
        "totalcpu": "00:00:00",
        "uid": str(person.uid),
        "user": job.user,
        "usercpu": "00:00:00",
        "wckeyid": "0",
        "workdir": job.directory,
    }
    return JobRow(fields=fields, submitted=job.submitted, ended=job.ended)


def _used(job: Job) -> float:
    if job.started is None:
        return 0.0
    return max(0.0, (time.time() if job.ended is None else job.ended) - job.started)


def _stamp(moment: float) -> str:
    """Slurm writes the time of the place, without its zone."""
    return datetime.fromtimestamp(moment).strftime("%Y-%m-%dT%H:%M:%S")  # noqa: DTZ006


def _length(length: float, *, short: bool = False) -> str:
    """``1-02:03:04``, ``02:03:04``, or ``2:03`` where that is enough and `short`."""
    days, rest = divmod(int(length), 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, whole = divmod(rest, 60)
    if days:
        return f"{days}-{hours:02}:{minutes:02}:{whole:02}"
    if short and not hours:
        return f"{minutes}:{whole:02}"
    return f"{hours}:{minutes:02}:{whole:02}" if short else f"{hours:02}:{minutes:02}:{whole:02}"
