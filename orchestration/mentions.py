"""The paths that a command names: in its words, in what stands in these, and in its environment."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Iterator
from typing import Any

_GLUED = re.compile(r"-\w(/.*)", re.DOTALL)
"""An option of one letter with a path right behind it."""
_INNER = re.compile(r"(?<![\w.\-~/])/.*", re.DOTALL)
"""An absolute path behind some sign: ``file:///data``, ``@/data``."""
_FURTHER = re.compile(r"""(?<![\w.\-~/])/[^\s"',;:|<>()\[\]{}]*""")
"""One of several, of which a program may take each by itself: ``/data/a,/data/b``."""


def mentioned(texts: Iterable[str], *, directory: str) -> tuple[str, ...]:
    """Absolute paths without ``..``, each once: all that a program that begins in `directory` may take for one.

    A word is taken for a path relative to the directory as well. What a program makes of several words, as by joining
    them, is not known here: programs of this project are told whole paths.
    """
    found = (absolute(word, directory) for text in texts for word in _words(text))
    return tuple(dict.fromkeys(found))


def absolute(path: str, directory: str) -> str:
    return "/" + posixpath.normpath(posixpath.join(directory, path)).lstrip("/")


def _words(text: str) -> Iterator[str]:
    """The text, what it gives an option, and all texts in it if that is JSON, or all further paths if it is not."""
    parts = [each for each in (text, text.partition("=")[2]) if each]
    documents = [found for each in parts if (found := _document(each)) is not None]
    for document in documents:
        yield from _inside(document)
    for each in parts:
        yield each
        yield from each.split(":") if ":" in each else ()
        yield from (found[found.lastindex or 0] for found in (_GLUED.match(each), _INNER.search(each)) if found)
    if not documents:
        yield from _FURTHER.findall(text)[1:]


def _document(text: str) -> Any:
    """None if it is no JSON with texts in it."""
    if text[0] not in '[{"':
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None


def _inside(document: Any) -> Iterator[str]:
    left = [document]
    while left:
        found = left.pop()
        if isinstance(found, str):
            yield from _words(found)
        elif isinstance(found, dict):
            left += [*found, *found.values()]
        elif isinstance(found, list):
            left += found
