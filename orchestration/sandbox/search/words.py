"""What a search for words finds: entries with any of them (or all), and those with more of them first."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from typing import TypeAlias

from orchestration.ledger.service import Document
from orchestration.sandbox import documents
from orchestration.sandbox.search import fields
from orchestration.sandbox.search.answers import invalid, unsupported
from orchestration.sandbox.search.entries import Entry
from orchestration.sandbox.search.filters import Keep, keep_all

Selection: TypeAlias = "Callable[[Entry], float | None]"
"""How well an entry matches; None if it does not."""

_TERM = re.compile(r'"([^"]*)"|(\S+)')


def selection(request: Document, keep: Keep | None = None) -> Selection:
    """The entries that the words of a request and its filters (or the one given) choose.

    Raises:
        SearchError: 400 for a request without both, or one that the sandbox has no way to answer.
    """
    text = documents.text(request, "q").strip()
    if not text and not documents.objects(request, "filters"):
        raise invalid(("q",), "At least one of q and filters is required.")
    if documents.flag(request, "advanced"):
        raise unsupported("advanced query syntax")
    settings = documents.object_at(request, "q_settings")
    all_needed = documents.text(settings, "default_operator", "or").lower() == "and"
    kept, terms = keep or keep_all(request, "filters"), _terms(text)

    def chosen(entry: Entry) -> float | None:
        if not kept(entry.content):
            return None
        found = _found(terms, entry.content)
        enough = len(terms) if all_needed else min(1, len(terms))
        return None if found < enough else float(found)

    return chosen


def _terms(text: str) -> list[str]:
    """Words and phrases, in lower case; a phrase is its words with blanks between."""
    terms: list[str] = []
    for phrase, word in _TERM.findall(text):
        split = re.findall(r"\w+", phrase or word)
        terms += [word] if "*" in word else [" ".join(split)] if phrase else split
    return [term.lower() for term in terms if term]


def _found(terms: list[str], content: Document) -> int:
    """How many of the terms there are in it."""
    lines = [" ".join(re.findall(r"\w+", text.lower())) for text in fields.texts(content)]
    words = {word for line in lines for word in line.split()}
    return sum(_has(term, lines, words) for term in terms)


def _has(term: str, lines: list[str], words: set[str]) -> bool:
    if term == "*":
        return True
    if "*" in term:
        return any(fnmatch.fnmatchcase(word, term) for word in words)
    if " " in term:
        return any(f" {term} " in f" {line} " for line in lines)
    return term in words
