"""Label selectors (matchLabels, matchExpressions): evaluated here, or as the API's text.

Evaluated, one listing of pods is counted for many workloads at once.
"""

from collections.abc import Mapping
from typing import Any


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether a selector of the API chooses these labels.

    An empty selector chooses nothing, as with Deployments.
    """
    wanted = selector.get("matchLabels") or {}
    expressions = selector.get("matchExpressions") or []
    if not wanted and not expressions:
        return False
    return all(labels.get(name) == value for name, value in wanted.items()) and all(
        _holds(expression, labels) for expression in expressions
    )


def to_text(selector: Mapping[str, Any]) -> str:
    """Return a selector as lists take it: ``app=a,tier in (b,c),!d``."""
    parts = [labels_text(selector.get("matchLabels") or {})]
    for one in selector.get("matchExpressions") or []:
        key, operator = one["key"], one["operator"]
        values = ",".join(one.get("values") or [])
        texts = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }
        parts.append(texts[operator])
    return ",".join(filter(None, parts))


def labels_text(labels: Mapping[str, str]) -> str:
    """Return labels as a selector, as lists take it: those of a Service are plain ones."""
    return ",".join(f"{key}={value}" for key, value in labels.items())


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    values = expression.get("values") or []
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            return False
