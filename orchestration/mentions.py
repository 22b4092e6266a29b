"""The paths that a command names: in its words, in what stands in these, and in its environment."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Iterator

_GLUED = re.compile(r"-\w(/.*)", re.DOTALL)
"""An option of one letter with a path right behind it."""
_INNER = re.compile(r"(?<![\w.\-~/])/.*", re.DOTALL)
"""An absolute path behind some sign: ``file:///data``, ``@/data``."""


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
    """The text, what it gives an option, and all texts in it if that is JSON."""
    for each in (text, text.partition("=")[2]):
        if not each:
            continue
        if each[0] in '[{"':
            yield from _inside(each)
        yield each
        yield from each.split(":") if ":" in each else ()
        yield from (found[found.lastindex or 0] for found in (_GLUED.match(each), _INNER.search(each)) if found)


def _inside(text: str) -> Iterator[str]:
    try:
        document = json.loads(text)
    except ValueError:
        return
    left = [document]
    while left:
        found = left.pop()
        if isinstance(found, str):
            yield from _words(found)
        elif isinstance(found, dict):
            left += [*found, *found.values()]
        elif isinstance(found, list):
            left += found
