"""/docs: the API for people, drawn here from the OpenAPI document; nothing is fetched from anywhere else."""

import html
import json
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

_STYLE = """
:root{color-scheme:light dark;--line:#8884}
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem;border-bottom:1px solid var(--line)}
details{border:1px solid var(--line);border-radius:.4rem;margin:.4rem 0;padding:.3rem .7rem}
summary{cursor:pointer}code,pre{font:13px/1.45 ui-monospace,monospace}
.m{display:inline-block;min-width:4.5rem;font-weight:700}
pre{border-left:3px solid var(--line);overflow-x:auto;padding-left:.7rem}
td,th{text-align:left;padding:.1rem .8rem .1rem 0;vertical-align:top}
"""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"


def _schema(schema: dict[str, Any]) -> str:
    """A schema in a few words; names link to their definition below."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{html.escape(name)}">{html.escape(name)}</a>'
    if "anyOf" in schema:
        return " or ".join(_schema(part) for part in schema["anyOf"])
    if "const" in schema:
        return html.escape(json.dumps(schema["const"]))
    if "enum" in schema:
        return html.escape(" | ".join(json.dumps(value) for value in schema["enum"]))
    if schema.get("type") == "array":
        return f"[{_schema(schema.get('items', {}))}]"
    return html.escape(str(schema.get("type", "anything")))


def _content(content: dict[str, Any]) -> str:
    parts = (
        f"<code>{html.escape(kind)}</code> {_schema(body.get('schema', {}))}"
        for kind, body in content.items()
    )
    return ", ".join(parts)


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = []
    for parameter in operation.get("parameters", []):
        where, name = html.escape(parameter["in"]), html.escape(parameter["name"])
        rows.append(f"<tr><td>{where}<td><code>{name}</code><td>{_schema(parameter.get('schema', {}))}")
    if "requestBody" in operation:
        rows.append(f"<tr><td>body<td><td>{_content(operation['requestBody']['content'])}")
    for status, answer in operation.get("responses", {}).items():
        what = _content(answer.get("content", {}))
        rows.append(f"<tr><td>answer<td>{status}<td>{html.escape(answer['description'])} {what}")
    security = ", ".join(name for need in operation.get("security", []) for name in need)
    needs = f"<p>Needs a bearer token: {html.escape(security)}.</p>" if security else ""
    return (
        f'<details><summary><span class="m">{method.upper()}</span><code>{html.escape(path)}</code></summary>'
        f"<p>{html.escape(operation.get('description', ''))}</p>{needs}"
        f"<table>{''.join(rows)}</table></details>"
    )


def _definition(name: str, schema: dict[str, Any]) -> str:
    needed = set(schema.get("required", []))
    rows = "".join(
        f"<tr><td><code>{html.escape(field)}</code><td>{_schema(body)}"
        f"<td>{'' if field in needed else 'optional'}"
        for field, body in schema.get("properties", {}).items()
    )
    body = f"<table>{rows}</table>" if rows else f"<p>{_schema(schema)}</p>"
    about = html.escape(schema.get("description", ""))
    name = html.escape(name)
    return f'<details id="{name}"><summary><code>{name}</code></summary><pre>{about}</pre>{body}</details>'


def page(document: dict[str, Any]) -> str:
    groups: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tag = (operation.get("tags") or ["other"])[0]
            groups.setdefault(tag, []).append(_operation(method, path, operation))
    sections = "".join(f"<h2>{html.escape(tag)}</h2>{''.join(rows)}" for tag, rows in sorted(groups.items()))
    schemas = document.get("components", {}).get("schemas", {})
    definitions = "".join(_definition(name, schema) for name, schema in sorted(schemas.items()))
    info = document["info"]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(info["title"])}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<h1>{html.escape(info['title'])} <small>{html.escape(info['version'])}</small></h1>"
        f"<p>{html.escape(info.get('description', ''))}</p>"
        f'<p>As a document for programs: <a href="/api/v1/openapi.json">/api/v1/openapi.json</a>.</p>'
        f"{sections}<h2>Messages</h2>{definitions}</html>"
    )


routes = APIRouter(include_in_schema=False)


@routes.get("/docs")
async def docs(request: Request) -> Response:
    return HTMLResponse(page(request.app.openapi()), headers={"Content-Security-Policy": _POLICY})
