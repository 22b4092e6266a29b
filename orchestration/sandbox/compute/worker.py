"""A process that runs tasks, one after another: ``python -m orchestration.sandbox.compute.worker``.

It reads lines with the path of a task's order from its standard input, leaves the result in a file beside it, and
writes a line with the task's id to its standard output. Nobody at the other end any more: it finishes what it is at.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import traceback
from pathlib import Path
from typing import Any

RESULT_LIMIT = 10 * 1024 * 1024
RESULT_SUFFIX = ".result"


def main() -> None:
    orders, reports = _private(0), _private(1)
    _redirect()
    from globus_compute_sdk.serialize import ComputeSerializer

    serializer = ComputeSerializer()
    with os.fdopen(orders) as lines:
        for line in lines:
            path = Path(line.strip())
            order = json.loads(path.read_text(encoding="utf-8"))
            _keep(path, _run(serializer, order))
            path.unlink()
            with contextlib.suppress(BrokenPipeError):
                os.write(reports, f"{order['task']}\n".encode())


def _private(descriptor: int) -> int:
    """A copy that what a task starts does not inherit: the facility sees this process end by its being closed."""
    return os.dup(descriptor)


def _redirect() -> None:
    """What tasks print goes where this process's errors go."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)


def _run(serializer: Any, order: dict[str, Any]) -> dict[str, Any]:
    """The result as a document: the same as the endpoint program makes."""
    from globus_compute_sdk.errors import MaxResultSizeExceeded
    from globus_compute_sdk.sdk.utils import get_env_details

    os.environ["GC_TASK_UUID"] = order["task"]
    Path(order["directory"]).mkdir(parents=True, exist_ok=True)
    os.chdir(order["directory"])
    began = time.time_ns()
    error = message = ""
    try:
        function, arguments, keywords = serializer.unpack_and_deserialize(order["buffer"])
        data = serializer.serialize_from_list(function(*arguments, **keywords), order["serializers"])
        if len(data) > RESULT_LIMIT:
            raise MaxResultSizeExceeded(len(data), RESULT_LIMIT)
    except MaxResultSizeExceeded as problem:
        data, error, message = repr(problem), type(problem).__name__, f"remote error: {problem}"
    except (Exception, SystemExit) as problem:
        data = "".join(traceback.format_exception(type(problem), problem, _own_part(problem)))
        error, message = "RemoteExecutionError", "An error occurred during the execution of this task"
    return {
        "data": data,
        "error_code": error,
        "message": message,
        "details": {**get_env_details(), "endpoint_id": order["endpoint"]},
        "transitions": [_transition("execution-start", began), _transition("execution-end", time.time_ns())],
    }


def _own_part(problem: BaseException) -> Any:
    """The traceback without this module."""
    trace = problem.__traceback__
    return trace.tb_next or trace if trace else None


def _transition(state: str, moment: int) -> dict[str, Any]:
    return {"timestamp": moment, "state": state, "actor": "worker"}


def _keep(order: Path, result: dict[str, Any]) -> None:
    part = order.with_suffix(".part")
    part.write_text(json.dumps(result), encoding="utf-8")
    part.replace(order.with_suffix(RESULT_SUFFIX))


if __name__ == "__main__":
    main()
