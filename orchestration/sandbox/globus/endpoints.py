"""Stand-in for Globus Transfer: collections and the access rules of guest collections."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestration.ledger.service import Document
from orchestration.sandbox import clock, documents
from orchestration.sandbox.globus import answers
from orchestration.sandbox.globus.answers import ApiError, bad_request
from orchestration.sandbox.globus.collections import Collection, Collections
from orchestration.sandbox.globus.tasks import as_json
from orchestration.sandbox.globus.tokens import TRANSFER, Token, Tokens
from orchestration.sandbox.globus.views import collection_view


class Endpoints:
    def __init__(self, collections: Collections, tokens: Tokens) -> None:
        self._collections = collections
        self._tokens = tokens

    def routes(self) -> list[Route]:
        one = "/v0.10/endpoint/{id}"
        return [
            Route("/v0.10/endpoint_search", self.search),
            Route(one, self.get),
            Route(f"{one}/access_list", self.access_list),
            Route(f"{one}/access", self.add_access, methods=["POST"]),
            Route(f"{one}/access/{{rule}}", self.get_access),
            Route(f"{one}/access/{{rule}}", self.update_access, methods=["PUT"]),
            Route(f"{one}/access/{{rule}}", self.delete_access, methods=["DELETE"]),
            Route(f"{one}/my_effective_pause_rule_list", self.pause_rules),
        ]

    async def get(self, request: Request) -> JSONResponse:
        _, collection = self._admit(request)
        return JSONResponse(collection_view(collection))

    async def search(self, request: Request) -> JSONResponse:
        self._tokens.require(request, TRANSFER)
        words = request.query_params.get("filter_fulltext", "").lower()
        if not words and "filter_scope" not in request.query_params:
            raise bad_request("filter_fulltext is required when filter_scope is 'all'")
        found = [one for one in self._collections.every() if words in f"{one.name} {one.id}".lower()]
        limit, offset = answers.natural(request, "limit", 10), answers.natural(request, "offset", 0)
        rows = as_json([collection_view(one) for one in found[offset : offset + limit]])
        head: Document = {"DATA_TYPE": "endpoint_list", "limit": limit, "offset": offset}
        return JSONResponse(head | {"has_next_page": offset + limit < len(found), "DATA": rows})

    async def access_list(self, request: Request) -> JSONResponse:
        _, collection = self._admit(request)
        rules = [rule for _, rule in collection.access()]
        head: Document = {"DATA_TYPE": "access_list", "endpoint": collection.id, "length": len(rules)}
        return JSONResponse(head | {"DATA": as_json(rules)})

    async def add_access(self, request: Request) -> JSONResponse:
        token, collection = self._admit(request)
        body = await answers.body(request)
        _require_manager(token, collection)
        path, principal = documents.text(body, "path"), documents.text(body, "principal")
        if not path.endswith("/"):
            raise bad_request("path must end with '/'")
        if any(rule["path"] == path and rule["principal"] == principal for _, rule in collection.access()):
            raise ApiError(409, "Exists", "This principal already has an access rule on this path")
        rule: Document = {
            "DATA_TYPE": "access",
            "id": answers.new_id(),
            "principal_type": documents.text(body, "principal_type"),
            "principal": principal,
            "path": path,
            "permissions": documents.text(body, "permissions", "r"),
            "create_time": clock.stamp(),
            "expiration_date": body.get("expiration_date"),
            "role_id": None,
            "role_type": None,
        }
        collection.put_access(str(rule["id"]), rule)
        message = "Access rule created successfully."
        return answers.result(
            request, "Created", message, kind="access_create_result", status=201, access_id=rule["id"]
        )

    async def get_access(self, request: Request) -> JSONResponse:
        _, collection = self._admit(request)
        return JSONResponse(_rule(collection, request.path_params["rule"]))

    async def update_access(self, request: Request) -> JSONResponse:
        token, collection = self._admit(request)
        _require_manager(token, collection)
        rule, body = _rule(collection, request.path_params["rule"]), await answers.body(request)
        permissions = documents.text(body, "permissions", documents.text(rule, "permissions"))
        collection.put_access(request.path_params["rule"], rule | {"permissions": permissions})
        return answers.result(request, "Updated", f"Access rule '{rule['id']}' updated successfully")

    async def delete_access(self, request: Request) -> JSONResponse:
        token, collection = self._admit(request)
        _require_manager(token, collection)
        rule = _rule(collection, request.path_params["rule"])
        collection.remove_access(request.path_params["rule"])
        return answers.result(request, "Deleted", f"Access rule '{rule['id']}' deleted successfully")

    async def pause_rules(self, request: Request) -> JSONResponse:
        _, collection = self._admit(request)
        message = collection.switches.paused
        rule: Document = {"DATA_TYPE": "pause_rule_limited", "endpoint_id": collection.id, "message": message}
        head: Document = {"DATA_TYPE": "pause_rule_limited_list", "endpoint_display_name": collection.name}
        return JSONResponse(head | {"DATA": as_json([rule] if message else [])})

    def _admit(self, request: Request) -> tuple[Token, Collection]:
        return self._tokens.require(request, TRANSFER), self._collections.get(request.path_params["id"])


def _require_manager(token: Token, collection: Collection) -> None:
    if not collection.guest:
        raise bad_request("Access rules can only be made for guest collections")
    if collection.settings.owner and token.subject != collection.settings.owner:
        raise ApiError(403, "PermissionDenied", "You do not have the access_manager role on this endpoint")


def _rule(collection: Collection, rule_id: str) -> Document:
    for key, rule in collection.access():
        if key == rule_id:
            return rule
    raise ApiError(404, "AccessRuleNotFound", f"Access rule '{rule_id}' not found")
