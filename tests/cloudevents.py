"""Lifecycle events as an executor without the SDK writes them: CloudEvents as JSON."""

import uuid
from typing import Any


def event(owner: str, job: str, word: str, /, **data: Any) -> dict[str, Any]:
    """`job.<word>` of a job, with an id of its own; `data` are the fields of the event's data."""
    return {
        "specversion": "1.0",
        "id": uuid.uuid4().hex,
        "source": "/tests",
        "type": f"job.{word}",
        "subject": job,
        "owner": owner,
        "data": data,
    }
