"""Where data can be: a folder on a Globus collection, on this machine, or on both."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated
from uuid import UUID

from pydantic import ByteSize, Field, TypeAdapter, ValidationInfo, field_validator
from pydantic.json_schema import SkipJsonSchema

from orchestration.config.base import EntryKey, Section
from orchestration.errors import ConfigError, InvalidPath
from orchestration.paths import RelativePath
from orchestration.policy import OwnedTree, OwnerFolder, Place, Zone

UUID_PENDING = "TBD"
"""What a settings file may say instead of a UUID: the endpoint is known, and unusable until it has one."""


class Endpoint(Section):
    """A folder and all that is below it, on a Globus collection (`uuid`), on this machine (`mount`), or on both.

    `name` is the key in the settings file. What the entry itself calls `name` is for people, and is `label` here.
    """

    name: EntryKey = ""
    label: str = Field(
        default="", validation_alias="name", description="Name shown to people; the key of the entry if left out."
    )
    root_path: str = Field(default="/", description="Absolute path, on the collection, of the endpoint's folder.")
    uri: str = Field(
        default="", description="Host that serves it; what two endpoints of one host share is one storage."
    )
    uuid: UUID | None = Field(default=None, description="Globus collection; leave out for a directory of this machine.")
    mount: Path | None = Field(default=None, description="Directory of this machine where the endpoint's folder is.")
    can_rename: bool = Field(
        default=True, description="Files can get other names below its folder: it can have a quarantine."
    )
    inventory: bool | tuple[str, ...] = Field(
        default=False,
        description="Files below it that the ledger does not know are listed: in all of it, or in these folders.",
    )
    keep_free: str | int | None = Field(
        default=None,
        description="Where it is mounted: what is due is deleted at once while less is free: `10%`, `2TB`, or bytes.",
    )
    zone: Zone = Field(default=Zone.EXTERNAL, description="`beamline`: export-controlled data may rest here.")
    owner_folder: str | None = Field(
        default=None,
        description="Folders below the root that belong to one proposal each, such as `raw/{proposal}`, or "
        "`raw/{proposal}_*`: data of another proposal is not copied into them, and its jobs do not work there.",
    )

    overlapping: Annotated[
        tuple[tuple[str, OwnedTree], ...], SkipJsonSchema(), Field(validation_alias="(of other endpoints)")
    ] = ()
    """Folders of proposals that other endpoints have on the same storage, and what these call this one's folder."""

    beside: Annotated[
        tuple[tuple[str, str, str], ...], SkipJsonSchema(), Field(validation_alias="(of the same storage)")
    ] = ()
    """Other endpoints on the same storage: what their storage calls this one's folder, their names, and their own."""

    @field_validator("root_path")
    @classmethod
    def _root_is_absolute(cls, value: str) -> str:
        if not value.startswith("/"):
            raise ValueError("must be an absolute path, with `/` first")
        if ".." in value.split("/"):
            raise ValueError("must not have `..` in it")
        return "/" + posixpath.normpath(value).strip("/")

    @field_validator("owner_folder")
    @classmethod
    def _owner_is_named(cls, value: str | None) -> str | None:
        return None if value is None else OwnerFolder(value).pattern

    @field_validator("keep_free")
    @classmethod
    def _is_a_size(cls, value: str | int | None) -> str | int | None:
        if isinstance(value, str) and value.endswith("%"):
            try:
                share = float(value[:-1])
            except ValueError:
                share = -1.0
            if not 0.0 <= share <= 100.0:
                raise ValueError(f"`{value}` should be between `0%` and `100%`")
            return value
        return None if value is None else int(TypeAdapter(ByteSize).validate_python(value))

    @field_validator("inventory")
    @classmethod
    def _folders_are_below(cls, value: bool | tuple[str, ...]) -> bool | tuple[str, ...]:
        if isinstance(value, bool):
            return value
        for folder in value:
            try:
                RelativePath.parse(folder)
            except InvalidPath as error:
                raise ValueError(f"`{folder}` is no folder below the endpoint: {error.what}") from error
        return tuple(RelativePath.parse(folder).text for folder in value)

    @field_validator("mount")
    @classmethod
    def _mount_is_absolute(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is None:
            return None
        folder = info.context if isinstance(info.context, Path) else Path.cwd()
        return folder / value.expanduser()

    @field_validator("uuid", mode="before")
    @classmethod
    def _to_be_decided_is_none(cls, value: object) -> object:
        # Existing files announce collections that are still to be made in this way.
        return None if value == UUID_PENDING else value

    def known_as(self, key: str) -> Endpoint:
        """This endpoint under the key that it has in the settings file."""
        return self.model_copy(update={"name": key, "label": self.label or key})

    @property
    def place(self) -> Place:
        return Place(name=self.name, zone=self.zone)

    def owner(self, path: RelativePath) -> str | None:
        """The proposal whose folder has the path, as `OwnerFolder.owner` says it, be it by another endpoint's settings;
        None if it is nobody's.
        """
        own = None if self.owner_folder is None else OwnerFolder(self.owner_folder).owner(path.text)
        others = (tree.owner(f"{root}/{path.text}") for root, tree in self.overlapping)
        return own if own is not None else next((each for each in others if each is not None), None)

    @property
    def has_owners(self) -> bool:
        """Whether folders there belong to proposals."""
        return self.owner_folder is not None or bool(self.overlapping)

    def among(self, endpoints: Iterable[Endpoint]) -> Endpoint:
        """This endpoint, with the others on its storage, and the folders of proposals that these have there."""
        shared = [(each, *roots) for each in endpoints if each.name != self.name for roots in self._shared(each)]
        if not shared:
            return self
        trees = [(root, each.owned_below(root_of_other)) for each, root, root_of_other in shared]
        return self.model_copy(
            update={
                "beside": tuple((root, each.name, root_of_other) for each, root, root_of_other in shared),
                "overlapping": tuple((root, tree) for root, tree in trees if tree is not None),
            }
        )

    def _shared(self, other: Endpoint) -> Iterator[tuple[str, str]]:
        """Their folders, as one storage calls both, where one of them lies in the other."""
        roots = [(self.root_path, other.root_path)] if self.uuid is not None and self.uuid == other.uuid else []
        if self.mount is not None and other.mount is not None:
            roots.append((os.path.realpath(self.mount), os.path.realpath(other.mount)))
        yield from (pair for pair in roots if _overlap(*pair))

    def aliases(self, path: RelativePath) -> Iterator[tuple[str, str]]:
        """The other endpoints that have it as well, and what they call it; if all that one has is in it, nothing."""
        for root, name, root_of_other in self.beside:
            full, other = f"{root.rstrip('/')}/{path}/", f"{root_of_other.rstrip('/')}/"
            if full.startswith(other):
                yield name, full[len(other) : -1]
            elif other.startswith(full):
                yield name, ""

    def owned_below(self, root: str) -> OwnedTree | None:
        """Its folders of proposals, as programs see them that call its own folder `root`; None if it has none."""
        if self.owner_folder is None:
            return None
        return OwnedTree(endpoint=self.name, root=root, folder=OwnerFolder(self.owner_folder))

    def free_wanted(self, total: int) -> int:
        """How many bytes should be free of so many in all."""
        if isinstance(self.keep_free, str):
            return int(total * float(self.keep_free[:-1]) / 100.0)
        return self.keep_free or 0

    def require_uuid(self) -> UUID:
        """The Globus collection.

        Raises:
            ConfigError: if the endpoint is not on one, or its UUID is still to be decided.
        """
        if self.uuid is None:
            raise ConfigError(
                f"endpoint {self.name} is not on a Globus collection",
                where=f"globus.globus_endpoints.{self.name}",
                next_step="set its `uuid`, or use an endpoint that has one",
            )
        return self.uuid

    def full_path(self, relative: RelativePath) -> str:
        """The absolute path on the endpoint's collection."""
        return posixpath.join(self.root_path, relative.text)

    def relative(self, full_path: str) -> RelativePath:
        """The path below this endpoint's root of an absolute path on its collection.

        Raises:
            InvalidPath: if it is not below the root, or cannot be carried.
        """
        parts = [part for part in full_path.split("/") if part]
        root = [part for part in self.root_path.split("/") if part]
        if not full_path.startswith("/") or parts[: len(root)] != root:
            raise InvalidPath(f"{full_path!r} is not below {self.root_path}", where=f"endpoint {self.name}")
        return RelativePath("/".join(parts[len(root) :]))

    def local_path(self, relative: RelativePath) -> Path:
        """The path on this machine, with symbolic links followed; it need not exist.

        Raises:
            ConfigError: if the endpoint is not visible from this machine.
            InvalidPath: if a symbolic link on the way leads outside the mount.
        """
        if self.mount is None:
            raise ConfigError(
                f"endpoint {self.name} is not mounted on this machine",
                where=f"globus.globus_endpoints.{self.name}",
                next_step="set its `mount` to the directory where its root is visible, or run this where it is",
            )
        try:
            root = self.mount.resolve()
            path = (root / relative.text).resolve()
        except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError before Python 3.13
            raise InvalidPath(
                f"{relative.text!r} cannot be followed: {error}", where=f"endpoint {self.name}"
            ) from error
        if not path.is_relative_to(root):
            raise InvalidPath(f"{relative.text!r} leads outside {root} by a link", where=f"endpoint {self.name}")
        return path

    def same_at(self, other: Endpoint, relative: RelativePath) -> RelativePath | None:
        """What a file below this root is called below that of another endpoint; None if it is not seen to lie there."""
        if self.uuid is not None and self.uuid == other.uuid:
            full, root = self.full_path(relative), other.root_path
        elif self.mount is not None and other.mount is not None:
            full, root = os.path.realpath(self.mount / relative.text), os.path.realpath(other.mount)
        else:
            return None
        found = os.path.relpath(full, root)
        return None if found == "." or found.split("/")[0] == ".." else RelativePath(found)

    def followed(self, relative: RelativePath) -> RelativePath:
        """What a path leads to by symbolic links, as far as that is below the root and can be seen from here."""
        if self.mount is None:
            return relative
        try:
            path, root = self.local_path(relative), self.mount.resolve()
        except (InvalidPath, OSError):
            return relative
        return relative if path == root else RelativePath(path.relative_to(root).as_posix())

    def reaches(self, other: Endpoint) -> bool:
        """Whether data can be moved between the two: by Globus, or as files of this machine."""
        by_globus = self.uuid is not None and other.uuid is not None
        return by_globus or (self.mount is not None and other.mount is not None)

    def shares_storage_with(self, other: Endpoint) -> bool:
        """Whether a file of one may be the very file of the other, so that neither is a copy of the other."""
        same_host = self.uuid == other.uuid if self.uuid and other.uuid else False
        same_host = same_host or bool(self.uri and self.uri == other.uri)
        if same_host and _overlap(self.root_path, other.root_path):
            return True
        if self.mount is None or other.mount is None:
            return False
        return _overlap(str(self.mount), str(other.mount)) or _overlap(
            os.path.realpath(self.mount), os.path.realpath(other.mount)
        )


def _overlap(one: str, other: str) -> bool:
    first, second = Path(one), Path(other)
    return first.is_relative_to(second) or second.is_relative_to(first)
