"""docs/policy.toml as rows: who, door, action and own, foreign or unknown job → the answer."""

import tomllib
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

POLICY: Final = Path(__file__).parents[2] / "docs" / "policy.toml"
Kind = Literal["own", "foreign", "unknown"]
Answer = str | list[str]
Each = str | list[str]

KINDS: Final[tuple[Kind, ...]] = ("own", "foreign", "unknown")


By = Literal["bearer", "basic", "cookie", "key", "session"]


class Row(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One action. Who is not named cannot try it."""

    nobody: Answer | None = None
    subscriber: Answer | None = None
    subscriber_with_owner: Answer | None = None
    executor: Answer | None = None
    executor_with_owner: Answer | None = None
    admin: Answer | None = None
    admin_with_owner: Answer | None = None
    ticket: Answer | None = None
    ticket_for_another: Answer | None = None
    note: str = ""

    @property
    def name(self) -> str:
        """What the action is called in the name of its test."""
        return self.note

    def answer(self, who: str, kind: Kind) -> str | None:
        """What is answered, or None where it cannot be tried."""
        told: Answer | None = getattr(self, who)
        return told if told is None or isinstance(told, str) else told[KINDS.index(kind)]


class Http(Row, kw_only=True, forbid_unknown_fields=True):
    request: str
    headers: dict[str, str] = {}
    body: str | None = None
    by: tuple[By, ...] = ("bearer", "basic", "cookie")
    stream: bool = False

    @property
    def name(self) -> str:
        return f"{self.request} {self.note}".strip()


class Amqp(Row, kw_only=True, forbid_unknown_fields=True):
    """A list stands for each of its values."""

    do: Each
    queue: Each = ""
    exchange: Each = ""
    source: Each = ""
    key: Each = ""
    arguments: dict[str, str] | list[dict[str, str]] = {}
    user_id: str | None = None
    reply_to: Each | None = None
    headers: dict[str, str] = {}
    ask: dict[str, str] = {}
    users: Literal["all", "file", "issuer"] = "all"

    @property
    def name(self) -> str:
        parts = (self.do, *self.ask, self.source, self.queue, self.exchange, self.key, self.note)
        more = [f"{k}={v}" for one in each(self.arguments) for k, v in one.items()]
        return " ".join([*(_told(part) for part in parts if part), *more])


class Stomp(Row, kw_only=True, forbid_unknown_fields=True):
    do: Literal["CONNECT", "SUBSCRIBE", "SEND"]
    destination: Each = ""

    @property
    def name(self) -> str:
        return f"{self.do} {_told(self.destination)}".strip()


class Policy(msgspec.Struct, forbid_unknown_fields=True):
    """All of it. `later`: routes of the protocol that are not served yet."""

    later: list[str]
    who: dict[str, str]
    http: list[Http]
    amqp: list[Amqp]
    stomp: list[Stomp]


def read(path: Path = POLICY) -> Policy:
    return msgspec.convert(tomllib.loads(path.read_text()), Policy)


def each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _told(value: Each) -> str:
    return " | ".join(word or "''" for word in each(value))


def mentions(row: Row, word: str) -> bool:
    """Whether any field of the row has the word, `{job}` say."""
    return word in msgspec.json.encode(row).decode()
