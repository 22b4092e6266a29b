"""A client of Globus Compute in a process of its own: the unmodified SDK, led to the facility by its environment alone.

``python compute_sdk_program.py ENDPOINT FUNCTION ARGUMENT [OPTIONS]`` submits one of the functions below, with OPTIONS
(JSON) as ``user_endpoint_config``, and prints what came of it as JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def double(word: str) -> str:
    return word * 2


def fail(word: str) -> str:
    raise ValueError(f"no such scan: {word}")


def die(word: str) -> str:
    import os

    os._exit(int(word))


def variables(word: str) -> dict[str, str]:
    import os

    return dict(os.environ)


def hold(folder: str) -> str:
    """Tell that it runs, and wait until it is let go."""
    import os
    import pathlib
    import time

    (pathlib.Path(folder) / f"started-{os.getpid()}").touch()
    while not (pathlib.Path(folder) / "go").exists():
        time.sleep(0.05)
    return "let go"


FUNCTIONS = {function.__name__: function for function in (double, fail, die, variables, hold)}


def main(endpoint: str, name: str, argument: str, options: str = "{}") -> None:
    from globus_compute_sdk import Executor
    from globus_compute_sdk.sdk.executor import _RESULT_WATCHERS

    told: dict[str, Any]
    executor: Any = Executor(endpoint_id=endpoint, user_endpoint_config=json.loads(options) or None)
    future = executor.submit(FUNCTIONS[name], argument)
    try:
        told = {"result": future.result(timeout=90)}
    # Whatever it is, the test wants to see it.
    except Exception as error:
        told = {"error": type(error).__name__, "text": str(error)}
    executor.shutdown(wait=False, cancel_futures=True)  # one that is never answered is not waited for either
    # Its threads outlive the executor, and would complain about the end of the interpreter.
    watchers: list[Any] = list(_RESULT_WATCHERS.values())
    for watcher in watchers:
        watcher.shutdown(cancel_futures=True)
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
