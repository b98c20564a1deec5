"""What pydantic finds wrong with something that a person wrote, in words for that person.

Each fault with its place, and without the names that things have in this program.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

MOST_SHOWN = 40  # characters of what was written

_IS_NO = {
    "int": "whole number",
    "float": "number",
    "decimal": "number",
    "finite": "number",
    "bool": "true or false",
    "string": "text",
    "list": "list",
    "model": "object",
    "dict": "object",
}
_BOUNDS = {
    "greater_than_equal": ("is below", "ge"),
    "greater_than": ("is not above", "gt"),
    "less_than_equal": ("is above", "le"),
    "less_than": ("is not below", "lt"),
}


def faults_of(error: ValidationError) -> dict[str, str]:
    """Why, by place (`prestage.nodes`; of several at one place the first)."""
    found: dict[str, str] = {}
    for fault in error.errors(include_url=False):
        found.setdefault(".".join(str(part) for part in fault["loc"]), _why(fault))
    return found


def words_of(error: ValidationError) -> str:
    """All of them: "min: "x" is no whole number; colour: there is no such field"."""
    return "; ".join(f"{place}: {why}" if place else why for place, why in faults_of(error).items())


def _why(fault: Mapping[str, Any]) -> str:
    kind, about = fault["type"], fault.get("ctx", {})
    written = _shown(fault["input"])
    if kind == "missing":
        return "it is missing"
    if kind == "extra_forbidden":
        return "there is no such field"
    if kind == "value_error":
        return str(about["error"])
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        return f"{written} {words} {about[name]:g}"
    if kind == "enum":
        return f"{written} is none of {str(about['expected']).replace(' or ', ', ')}"
    if kind.startswith("decimal_max"):
        return f"{written} has too many digits"
    if (what := _IS_NO.get(kind.partition("_")[0])) is not None and kind not in ("string_too_long",):
        return f"{written} is no {what}"
    message = str(fault["msg"])
    return message[:1].lower() + message[1:]


def _shown(value: Any) -> str:
    """As it was written, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"
