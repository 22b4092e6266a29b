"""Where X-ray photon correlation spectroscopy is done: data from one place, correlated at another, published."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Self
from zoneinfo import ZoneInfo

from pydantic import Field, NonNegativeFloat, field_validator, model_validator

from orchestration.config.base import EntryKey, Section, unknown
from orchestration.errors import InvalidPath, UnknownName
from orchestration.paths import RelativePath

SECTION = "xpcs.deployments"


class XpcsDeployment(Section):
    """One way of scans to their results: which data, where it is correlated, and in which index it is published.

    Users say paths as the computers of the beamline have them; below an endpoint all of this service knows them.
    """

    name: EntryKey = ""
    beamline: str = Field(description="Beamline, by its key, of the scans.")
    source: str = Field(description="Endpoint with the raw data.")
    posix_root: str = Field(
        description="What users call the root of that endpoint: an absolute path, such as `/gdata/dm/8IDI`."
    )
    qmaps: str | None = Field(default=None, description="Endpoint with the qmaps; `source` if left out.")
    qmap_posix_root: str | None = Field(default=None, description="What users call the root of `qmaps`.")
    results: str | None = Field(
        default=None, description="Endpoint to which results return; `source` if left out. They keep their paths."
    )
    site: str = Field(description="Compute site where scans are correlated.")
    plot_site: str | None = Field(default=None, description="Compute site where plots are made; `site` if left out.")
    index: str | None = Field(default=None, description="Search index; nothing is published if left out.")
    organization: str = Field(default="", description="Who took the data, such as `Argonne National Laboratory`.")
    facility: str = Field(default="", description="Where it was taken, such as `APS`.")
    time_zone: str = Field(default="America/Chicago", description="Of times in files that say none: an IANA name.")
    service_account: str | None = Field(
        default=None,
        description="Entry of `globus_apps`: the Globus client that must be this service's own; any if left out.",
    )
    cycle_pattern: str = Field(
        default=r"(?:^|/)(20\d\d-[1-3])(?:/|$)",
        description="Regular expression of which the first group is, in a path, the cycle: `2024-1`.",
    )

    @field_validator("posix_root", "qmap_posix_root")
    @classmethod
    def _root_is_absolute(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.startswith("/") or not {".", ".."}.isdisjoint(value.split("/")):
            raise ValueError(f"must be an absolute path without `..`, and is `{value}`")
        return "/" + "/".join(_parts(value))

    @field_validator("time_zone")
    @classmethod
    def _zone_is_known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"there is no time zone `{value}`: write one such as `America/Chicago`") from error
        return value

    @field_validator("cycle_pattern")
    @classmethod
    def _pattern_has_a_group(cls, value: str) -> str:
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from error
        if not groups:
            raise ValueError("needs a group, (...), which is the cycle")
        return value

    @model_validator(mode="after")
    def _qmaps_have_a_root(self) -> Self:
        if self.qmaps is not None and self.qmap_posix_root is None:
            raise ValueError("has `qmaps` and no `qmap_posix_root`: add it, or leave both out")
        if self.qmaps is None and self.qmap_posix_root is not None:
            raise ValueError("has `qmap_posix_root` and no `qmaps`: add it, or leave both out")
        return self

    def known_as(self, key: str) -> XpcsDeployment:
        return self.model_copy(update={"name": key})

    @property
    def qmap_endpoint(self) -> str:
        return self.qmaps or self.source

    @property
    def result_endpoint(self) -> str:
        return self.results or self.source

    @property
    def plots_at(self) -> str:
        """The compute site."""
        return self.plot_site or self.site

    def to_relative(self, path: str) -> RelativePath:
        """``/gdata/dm/8IDI/2024-1/f.h5``, or ``2024-1/f.h5``, as the path below `source`.

        Raises:
            InvalidPath: for another absolute path, the root itself, and what cannot be carried (``..``, ...).
        """
        return _below(self.posix_root, path, where=self.source)

    def to_posix(self, relative: RelativePath) -> str:
        """What users call a path below `source`."""
        return _joined(self.posix_root, relative)

    def qmap_to_relative(self, path: str) -> RelativePath:
        """As `to_relative`, of a qmap."""
        return _below(self.qmap_posix_root or self.posix_root, path, where=self.qmap_endpoint)

    def qmap_to_posix(self, relative: RelativePath) -> str:
        """What users call the path of a qmap."""
        return _joined(self.qmap_posix_root or self.posix_root, relative)

    def cycle(self, path: str) -> str:
        """The cycle in which a scan was taken; empty if its path does not say."""
        found = re.search(self.cycle_pattern, path)
        return (found[1] or "") if found else ""


class XpcsSettings(Section):
    """Correlation of scans: where, and when a scan is complete."""

    deployments: Mapping[str, XpcsDeployment] = Field(default_factory=dict, description="By name.")
    default: str | None = Field(default=None, description="The deployment of a request that names none.")
    settle_seconds: NonNegativeFloat = Field(
        default=5.0, description="Files that have changed so short a time ago are still being written."
    )
    patience_seconds: NonNegativeFloat = Field(
        default=60.0, description="How much longer a request waits for files that are late, or still being written."
    )

    @field_validator("deployments", mode="after")
    @classmethod
    def _named(cls, value: Mapping[str, XpcsDeployment]) -> Mapping[str, XpcsDeployment]:
        return {key: deployment.known_as(key) for key, deployment in value.items()}

    def deployment(self, name: str = "") -> XpcsDeployment:
        """The one of that name; without a name the default, or the only one.

        Raises:
            UnknownName: if there is none, listing the near ones; or no name was given and there are several.
        """
        wanted = name or self.default or self._only()
        found = self.deployments.get(wanted)
        if found is None:
            raise unknown("XPCS deployment", wanted, self.deployments, section=SECTION)
        return found

    def _only(self) -> str:
        if len(self.deployments) == 1:
            return next(iter(self.deployments))
        if not self.deployments:
            raise UnknownName("there is no XPCS deployment", where=SECTION, next_step="add one in config.yml")
        raise UnknownName(
            f"none of the XPCS deployments is named: {', '.join(f'`{name}`' for name in sorted(self.deployments))}",
            where=SECTION,
            next_step="name one of them, or set `xpcs.default` in config.yml",
        )


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _joined(root: str, relative: RelativePath) -> str:
    return f"{root.rstrip('/')}/{relative}"


def _below(root: str, path: str, *, where: str) -> RelativePath:
    parts, head = _parts(path), _parts(root)
    right = f"give a path such as {root.rstrip('/')}/2024-1/..., or one relative to {root}"
    if path.startswith("/"):
        if parts[: len(head)] != head:
            raise InvalidPath(f"{path!r} is not below {root}", where=f"endpoint {where}", next_step=right)
        parts = parts[len(head) :]
    if not parts:
        raise InvalidPath(f"{path!r} names no file or folder below {root}", where=f"endpoint {where}", next_step=right)
    try:
        return RelativePath("/".join(parts))
    except InvalidPath as error:
        raise InvalidPath(error.what, where=f"endpoint {where}", next_step=right) from error
