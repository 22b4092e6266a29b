"""Every error survives the ledger and the way between two processes."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest
from ledger_world import errand

from orchestration import errors
from orchestration.errors import JobFailed, OperationFailed, OrchestrationError, ServiceUnavailable
from orchestration.ledger import Ledger
from orchestration.ledger.operation import error_document, error_from
from orchestration.ledger.owner import Owner
from orchestration.ledger.scan import Scan


def kinds(root: type[OrchestrationError] = OrchestrationError) -> Iterator[type[OrchestrationError]]:
    yield root
    for kind in root.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield from kinds(kind)


ALL = list(dict.fromkeys(kinds()))


def example(kind: type[OrchestrationError]) -> OrchestrationError:
    error = kind("it broke", where="here", next_step="mend it")
    if isinstance(error, JobFailed):
        return type(error)("it broke", where="here", next_step="mend it", cause="OSError")
    if isinstance(error, ServiceUnavailable):
        return type(error)("it broke", where="here", next_step="mend it", retry_after=2.5)
    return error


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert len(ALL) > 25
    assert errors.__doc__ is not None
    for kind in ALL:
        assert f" {kind.__name__}" in errors.__doc__


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_an_error_comes_back_as_it_was(kind: type[OrchestrationError]) -> None:
    error = example(kind)
    for again in (error_from(error_document(error)), pickle.loads(pickle.dumps(error))):
        assert type(again) is kind
        assert vars(again) == vars(error)
        assert str(again) == str(error) == "it broke (here). Next: mend it."


def test_all_come_back_from_the_ledger(ledger: Ledger, scan: Scan) -> None:
    for kind in ALL:
        operation, owner = errand(scan, kind.__name__), Owner.here()
        ledger.operations.take(operation, owner, service="s", redo=True)
        ledger.operations.failed(operation.key, owner, example(kind), {})
        kept = ledger.operations.get(operation.key).error
        assert type(kept) is kind
        assert vars(kept) == vars(example(kind))


@pytest.mark.parametrize("name", ["Forgotten", "ClassVar", "annotations"])
def test_an_error_of_a_type_that_is_gone_is_still_an_error(name: str) -> None:
    error = error_from({"type": name, "what": "it broke", "where": "", "next_step": ""})
    assert type(error) is OperationFailed
    assert error.what == "it broke"
