"""The OpenAPI 3.1 document: made from the route table, its schemas from the models."""

from __future__ import annotations

import re
import typing
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import attrs

from taskcast_core import models, wire
from taskcast_core.contracts.followers import DeadLetter
from taskcast_core.signals import SignalInput
from taskcast_server.routes.archive import ReleaseRequest
from taskcast_server.routing import Parameter, Route, segments_of
from taskcast_server.services import VERSION

Schema = dict[str, Any]

_MODELS: dict[type[Any], str] = {
    models.Task: "Task",
    models.Event: "TaskEvent",
    models.Worker: "Worker",
    models.TaskError: "TaskError",
    models.TaskInput: "CreateTaskInput",
    models.EventDraft: "PublishEventInput",
    SignalInput: "SignalInput",
    models.TaskArchive: "TaskArchive",
    models.BlockedRequest: "BlockedRequest",
    models.WebhookConfig: "WebhookConfig",
    models.SubscribeFilter: "SubscribeFilter",
    models.RetryConfig: "RetryConfig",
    models.CleanupConfig: "CleanupConfig",
    models.TaskAuthConfig: "TaskAuthConfig",
    DeadLetter: "DeadLetter",
    ReleaseRequest: "StorageReleaseRequest",
}
"""Models that get a name of their own; the parts of others are written out in place."""

_REQUIRED_ANYWAY = {models.EventDraft: {"level"}, models.TaskArchive: {"schema", "version"}}
_STATUS: Schema = {"type": "string", "enum": list(get_args(models.TaskStatus))}


def document(routes: Sequence[Route]) -> Schema:
    """The document of these routes."""
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Taskcast API",
            "version": VERSION,
            "description": "Long-running tasks with resumable event streams.",
        },
        "tags": [{"name": name} for name in dict.fromkeys(route.doc.tag for route in routes)],
        "paths": paths,
        "components": {
            "schemas": _components(),
            "securitySchemes": {"Bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


# ── Operations ────────────────────────────────────────────────────────────────────────────────────────────────────


def _operation(route: Route) -> Schema:
    doc = route.doc
    operation: Schema = {
        "operationId": _operation_id(route),
        "summary": doc.summary,
        "tags": [doc.tag],
        "responses": {str(status): _reply(doc.replies[status], status) for status in sorted(doc.replies)},
    }
    parameters = [_path_parameter(each) for each in segments_of(route.path) if each.startswith("{")]
    parameters += [_parameter(each) for each in doc.parameters]
    if parameters:
        operation["parameters"] = parameters
    if doc.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _schema(doc.body)}}}
    told = [doc.description] if doc.description else []
    if route.scope is not None:
        operation["security"] = [{"Bearer": []}]
        told.append(f"Needs the scope `{route.scope}`.")
    if told:
        operation["description"] = " ".join(told)
    for status, text in _usual_errors(route).items():
        operation["responses"].setdefault(status, _reply(text, int(status)))
    return operation


def _usual_errors(route: Route) -> dict[str, str]:
    errors: dict[str, str] = {}
    if route.scope is not None:
        errors |= {"400": "the request is not valid", "401": "the caller is not known", "403": "the caller may not"}
        errors |= {"429": "too many requests", "503": "a dependency is away; try again"}
    if route.names_task:
        errors["404"] = "no such task"
    if route.doc.body is not None:
        errors |= {"400": "the body is not valid", "413": "the body is too large"}
    return errors


def _operation_id(route: Route) -> str:
    return f"{route.method.lower()}_{'_'.join(re.findall(r'[A-Za-z]+', route.path)) or 'root'}"


def _path_parameter(segment: str) -> Schema:
    return {"name": segment[1:-1], "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _parameter(parameter: Parameter) -> Schema:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": False,
        "description": parameter.description,
        "schema": dict(parameter.schema),
    }


def _reply(told: Any, status: int) -> Schema:
    """A description alone is an error, or has no body; with a schema it is a success."""
    if isinstance(told, str):
        return {"description": told, **({} if status < 300 else _content("Error"))}
    description, schema, *media_type = told
    return {"description": description, **_content(schema, *media_type)}


def _content(schema: Any, media_type: str = "application/json") -> Schema:
    return {"content": {media_type: {"schema": _schema(schema)}}}


def _schema(named: Any) -> Schema:
    return _reference(named) if isinstance(named, str) else dict(named)


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


# ── Components ────────────────────────────────────────────────────────────────────────────────────────────────────


def _components() -> dict[str, Schema]:
    components = {name: model_schema(cls) for cls, name in _MODELS.items()}
    archive_in = _object({"archive": _reference("TaskArchive"), "overwrite": {"type": "boolean"}}, ["archive"])
    watched = {"hot": {"type": "boolean"}, "subscriberCount": {"type": "integer"}}
    transition = model_schema(models.TransitionInput)
    transition["properties"] = {"status": _STATUS, **transition["properties"]}
    transition["required"] = ["status"]
    _bound(components["CreateTaskInput"], "ttl", "cost")
    _bound(transition, "ttl", "resumeAfterMs")
    tasks = {"type": "array", "items": _reference("CreateTaskInput"), "minItems": 1, "maxItems": 1000}
    integers = {name: {"type": "integer"} for name in ("count", "firstIndex", "lastIndex")}
    return components | {
        "WatchedTask": {"allOf": [_reference("Task"), _object(watched, list(watched))]},
        "TransitionInput": transition,
        "ResolveInput": _object({"data": {}}, []),
        "BatchInput": _object(
            {
                "tasks": tasks,
                "mode": {"type": "string", "enum": ["parallel", "sequential"]},
                "atomic": {"type": "boolean"},
            },
            ["tasks"],
        ),
        "Published": _object(integers, ["count"]),
        "ImportTaskArchiveInput": archive_in,
        "ImportTaskArchiveResult": _object(
            {
                "ok": {"type": "boolean"},
                "taskId": {"type": "string"},
                "eventCount": {"type": "integer"},
                "overwritten": {"type": "boolean"},
            }
        ),
        "StorageReleaseResult": _object(
            {
                "taskId": {"type": "string"},
                "storageState": {"type": "string", "enum": ["hot", "releasing", "cold"]},
                "archiveWatermark": {"type": "integer"},
                "released": {"type": "boolean"},
            }
        ),
        "AdminTokenInput": _object(
            {
                "adminToken": {"type": "string"},
                "scopes": {"type": "array", "items": {"type": "string"}},
                "expiresIn": {"type": "number"},
            },
            ["adminToken"],
        ),
        "DeclineInput": _object({"workerId": {"type": "string"}, "blacklist": {"type": "boolean"}}, ["workerId"]),
        "WorkerStatusUpdateInput": _object({"status": {"type": "string", "enum": ["draining", "idle"]}}),
        "Error": _object(
            {
                "error": {"type": "string"},
                "code": {"type": "string"},
                "details": {
                    "type": "array",
                    "items": _object({"path": {"type": "string"}, "reason": {"type": "string"}}),
                },
            },
            ["error", "code"],
        ),
    }


def _object(properties: dict[str, Any], required: Sequence[str] | None = None) -> Schema:
    schema: Schema = {"type": "object", "properties": properties}
    names = list(properties) if required is None else list(required)
    return {**schema, "required": names} if names else schema


def _bound(schema: Schema, *names: str) -> None:
    for name in names:
        schema["properties"][name] = {"type": "integer", "minimum": 1, "maximum": 2**53 - 1}


def model_schema(cls: type[Any]) -> Schema:
    """An attrs model as a JSON object with wire names; what has a default may be left out."""
    hints = typing.get_type_hints(cls)
    fields = attrs.fields(cls)
    always = _REQUIRED_ANYWAY.get(cls, set())
    required = [wire.camel(each.name) for each in fields if each.default is attrs.NOTHING or each.name in always]
    return _object({wire.camel(each.name): type_schema(hints[each.name]) for each in fields}, required)


def type_schema(hint: Any) -> Schema:
    """A type annotation as a schema."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"type": "string", "enum": list(arguments)}
    if origin in (Union, UnionType):
        kinds = [each for each in arguments if each is not NoneType]
        return type_schema(kinds[0]) if len(kinds) == 1 else {"anyOf": [type_schema(each) for each in kinds]}
    if origin is tuple:
        return {"type": "array", "items": type_schema(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": True}
    if isinstance(hint, type) and attrs.has(hint):
        return _reference(_MODELS[hint]) if hint in _MODELS else model_schema(hint)
    plain = {str: "string", int: "integer", float: "number", bool: "boolean"}
    return {"type": plain[hint]} if hint in plain else {}
