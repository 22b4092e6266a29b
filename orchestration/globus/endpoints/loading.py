"""The folder of an endpoint as the daemon itself reads it. Runs in the environment of the daemon."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from orchestration.errors import ConfigError
from orchestration.globus.endpoints.layout import Endpoint


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What the daemon makes of its files: `text` is the rendered configuration, `engine` the daemon's own object."""

    text: str
    engine: Any


@contextlib.contextmanager
def loaded(
    endpoint: Endpoint, options: Mapping[str, object], *, runtime: Mapping[str, object] | None = None
) -> Iterator[Loaded]:
    """The configuration of the process that would run a task submitted with these options.

    Every step is a function of the daemon: it is what happens when a task arrives, short of starting anything. The
    variables of ``user_environment.yaml`` are set until the context ends.

    Raises:
        ConfigError: with the daemon's own words, if it would refuse the task.
    """
    try:
        utils = import_module("globus_compute_endpoint.endpoint.config.utils")
        mapper = import_module("globus_compute_endpoint.endpoint.identity_mapper")
    except ImportError as error:
        raise ConfigError(
            f"the daemon's package is not installed here: {error}",
            next_step="run this with the Python of the environment that scripts/install_compute_endpoint.sh made",
        ) from error
    with _environment(endpoint.environment):
        try:
            text = _rendered(endpoint, options, runtime or {}, utils, mapper)
            engine = utils.load_config_yaml(text).engine
        # The daemon takes any error at all for the reason why it cannot run the task, and so does this.
        except Exception as error:
            raise ConfigError(
                f"the daemon refuses the configuration: {error}",
                where=str(endpoint.folder),
                next_step="mend user_environment.yaml there, or the options that the service passes",
            ) from error
        try:
            yield Loaded(text=text, engine=engine)
        finally:
            engine.shutdown()


def _rendered(
    endpoint: Endpoint, options: Mapping[str, object], runtime: Mapping[str, object], utils: Any, mapper: Any
) -> str:
    import pwd

    template = endpoint.folder / "user_config_template.yaml.j2"
    me = mapper.MappedPosixIdentity(
        local_user_record=pwd.getpwuid(os.getuid()), matched_identity=None, globus_identity_candidates=[]
    )
    text = utils.render_config_user_template(
        utils.get_config(endpoint.folder),
        utils.load_user_config_template(template),
        template,
        me,
        utils.load_user_config_schema(endpoint.folder / "user_config_schema.json"),
        dict(options),
        dict(runtime),
    )
    return str(text)


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
