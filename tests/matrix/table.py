"""Draws docs/policy.toml as the tables of docs/security.md: `python -m tests.matrix`."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.matrix.policy import KINDS, Amqp, Answer, Http, Policy, Row, Stomp, each

SECURITY: Final = Path(__file__).parents[2] / "docs" / "security.md"
BEGIN: Final = "<!-- tables: drawn from docs/policy.toml by `python -m tests.matrix` -->\n"
END: Final = "<!-- end of the tables -->\n"
PEOPLE: Final = ("nobody", "subscriber", "executor", "admin")
TOWARDS: Final = {"unbind": "from ", "declare exchange": "  ", "delete exchange": "  "}
"""What stands before the exchange, where it is not `to`."""
EVERYBODY: Final = (
    "nobody",
    "subscriber",
    "subscriber_with_owner",
    "executor",
    "executor_with_owner",
    "admin",
    "admin_with_owner",
    "ticket",
    "ticket_for_another",
)


def tables(policy: Policy) -> str:
    """What stands between the two markers."""
    who = [f"| {_words(name)} | {told} |" for name, told in policy.who.items()]
    return "\n".join(
        [
            "| who | is |",
            "|---|---|",
            *who,
            "",
            "### HTTP",
            *_table(EVERYBODY, [(_request(row), row) for row in policy.http]),
            "",
            f"Not served yet: {', '.join(f'`{route}`' for route in policy.later)}.",
            "",
            "### AMQP",
            *_table(PEOPLE, [(_operation(row), row) for row in policy.amqp]),
            "",
            "### STOMP",
            *_table(PEOPLE, [(_frame(row), row) for row in policy.stomp]),
            "",
        ]
    )


def redrawn(text: str, policy: Policy) -> str:
    """The document with its tables drawn again."""
    block = BEGIN + tables(policy) + END
    return re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: block, text, flags=re.DOTALL)


def _table(columns: Sequence[str], rows: Sequence[tuple[str, Row]]) -> list[str]:
    lines = [f"| | {' | '.join(map(_words, columns))} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows:
        cells = [_cell(getattr(row, who)) for who in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _words(name: str) -> str:
    return name.replace("_with_owner", ", `owner=`").replace("_", " ")


def _cell(answer: Answer | None) -> str:
    if answer is None:
        return "–"  # noqa: RUF001 - a dash
    if isinstance(answer, str):
        return answer
    kinds: dict[str, list[str]] = {}
    for kind, told in zip(KINDS, answer, strict=True):
        kinds.setdefault(told, []).append(kind)
    return "<br>".join(f"{', '.join(names)}: {told}" for told, names in kinds.items())


def _noted(text: str, row: Row) -> str:
    return f"{text}; {row.note}" if row.note else text


def _request(row: Http) -> str:
    return _noted(f"`{row.request}`", row)


def _operation(row: Amqp) -> str:
    text = " or ".join(each(row.do))
    into = TOWARDS.get(text, "to ")
    for word, value in {
        "": row.queue,
        " ": row.source,
        into: row.exchange,
        "key ": row.key,
        "`user_id` ": row.user_id,
        "`reply_to` ": row.reply_to,
    }.items():
        # The empty name is a name where an exchange is wanted.
        if value or (value == "" and word == into and row.do == "publish"):
            text += f" {word.lstrip()}{_code(value)}"
    if row.ask:
        text = text.replace("ask", f"ask {_code(json.dumps(row.ask))}", 1)
    if row.arguments:
        pairs = [f"{k}={v}" for one in each(row.arguments) for k, v in one.items()]
        text += f" with {_code(pairs)}"
    return _noted(text, row)


def _frame(row: Stomp) -> str:
    return _noted(f"{row.do} {_code(row.destination) if row.destination else ''}".strip(), row)


def _code(value: str | list[str]) -> str:
    return ", ".join(f"`{one}`" if one else '`""`' for one in each(value))
