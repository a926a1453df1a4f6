"""JSON-RPC 2.0: what a body asks for, and the form of what is answered. Pure values.

Owns its codes and its bounds. Promises: a bad request in a batch takes nothing from its neighbours;
an id comes back as it was given, and what has none is answered only where it is no request at all.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

BATCH_MAX: Final = 50

PARSE: Final = -32700
REQUEST: Final = -32600
METHOD: Final = -32601
PARAMS: Final = -32602
INTERNAL: Final = -32603
REMOTE: Final = -32000
AUTHENTICATION: Final = -32001

TITLES: Final[Mapping[int, str]] = {
    PARSE: "Parse error",
    REQUEST: "Invalid Request",
    METHOD: "Method not found",
    PARAMS: "Invalid params",
    INTERNAL: "Internal error",
    REMOTE: "RemoteException",
    AUTHENTICATION: "AuthenticationException",
}

Id = str | int | float | None


class Fault(Exception):
    """An `error` member: what is no result."""

    def __init__(self, code: int, detail: str = "", data: Mapping[str, object] | None = None):
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.data = data


class Call(NamedTuple):
    """One request. `fault`: what is wrong with it, so that it cannot be carried out."""

    id: Id
    method: str = ""
    params: Mapping[str, Any] | Sequence[Any] = ()
    is_notification: bool = False
    fault: Fault | None = None


class Asked(NamedTuple):
    """All requests of a body."""

    calls: list[Call]
    is_batch: bool


def read(body: bytes) -> Asked:
    """Raises Fault for what is no request as a whole."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Fault(PARSE, "JSON in UTF-8 is wanted") from None
    if not isinstance(value, list):
        return Asked([_call(value)], is_batch=False)
    if not value or len(value) > BATCH_MAX:
        raise Fault(REQUEST, f"1 to {BATCH_MAX} requests are wanted in a batch")
    return Asked([_call(one) for one in value], is_batch=True)


def _call(value: object) -> Call:
    if not isinstance(value, dict):
        return _bad(None, "an object is wanted")
    id_ = value.get("id")
    if isinstance(id_, bool) or not isinstance(id_, Id):
        return _bad(None, "id: a string or a number is wanted")
    method, params = value.get("method"), value.get("params", {})
    if value.get("jsonrpc") != "2.0":
        return _bad(id_, 'jsonrpc: "2.0" is wanted')
    if not isinstance(method, str):
        return _bad(id_, "method: a string is wanted")
    if not isinstance(params, dict | list):
        return _bad(id_, "params: an object or an array is wanted")
    return Call(id_, method, params, "id" not in value)


def _bad(id_: Id, detail: str) -> Call:
    return Call(id_, fault=Fault(REQUEST, detail))


def named(call: Call, names: Sequence[str], aliases: Mapping[str, str]) -> dict[str, Any]:
    """The parameters by their names. Raises Fault."""
    if not isinstance(call.params, Mapping):
        if len(call.params) > len(names):
            raise Fault(PARAMS, f"at most {len(names)} are wanted: {', '.join(names)}")
        return dict(zip(names, call.params, strict=False))
    params = dict(call.params)
    for alias, name in aliases.items():
        given = params.pop(alias, None)
        if params.get(name) is None:
            params[name] = given
        elif given not in {None, params[name]}:
            raise Fault(PARAMS, f"{alias}: another value than that of {name}")
    return params


def answer(id_: Id, result: object) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "id": id_, "result": result})


def error(id_: Id, fault: Fault) -> bytes:
    title = TITLES[fault.code]
    message = f"{title}: {fault.detail}" if fault.detail else title
    said: dict[str, object] = {"code": fault.code, "message": message}
    if fault.data is not None:
        said["data"] = fault.data
    return msgspec.json.encode({"jsonrpc": "2.0", "id": id_, "error": said})


def batch(answers: Sequence[bytes]) -> bytes:
    return b"[%b]" % b",".join(answers)
