"""What a JSON-RPC answer says, in one word."""

import json
from typing import Any


def told(body: str) -> str | None:
    """The type or code of an error; of a result its error names, or `null`; None for what is not
    JSON-RPC."""
    try:
        said: Any = json.loads(body)
    except ValueError:
        return None
    match said:
        case {"jsonrpc": _, "error": {"data": {"type": word}}}:
            pass
        case {"jsonrpc": _, "error": {"code": word}}:
            pass
        case {"jsonrpc": _, "result": {"items": [{"errorName": word}]}}:
            pass
        case {"jsonrpc": _, "result": {"errorName": word}}:
            pass
        case {"jsonrpc": _, "result": result}:
            word = "null" if result is None else "SUCCESS"
        case _:
            word = None
    return None if word is None else str(word)
