"""Clients of Active IQ Unified Manager, written as its own Ansible modules and its guides have it.

They read no field that these do not read, and index those hard that these index hard.
"""

import time
from typing import Any, Final, NamedTuple

import requests

from tests.logins import Login

TRIES: Final = 300
PAUSE_S: Final = 0.02  # a second, in the modules
READ_S: Final = 30
DONE: Final = frozenset({"NORMAL", "ERROR", "PARTIAL_FAILURES"})

Answer = requests.Response


class Server(NamedTuple):
    """Where it is, and the certificate that is trusted."""

    url: str
    ca: str | bool = True


class Client:
    """What the two have in common: Basic on every request, and JSON whatever is answered."""

    base = "/api/v2"

    def __init__(self, server: Server, login: Login) -> None:
        self._server = server
        self._http = requests.Session()
        self._http.auth = (login.name, login.token)
        self._http.verify = server.ca
        self._http.trust_env = False

    def get(self, path: str = "", **params: Any) -> Answer:
        url = f"{self._server.url}{self.base}/management-server/jobs{path}"
        headers = {"Content-Type": "application/hal+json", "Accept": "application/json"}
        answer = self._http.get(url, params=params, headers=headers, timeout=READ_S)
        answer.json()
        return answer

    def job(self, key: str, **params: Any) -> dict[str, Any]:
        answer = self.get(f"/{key}", **params)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def listed(self, **params: Any) -> dict[str, Any]:
        answer = self.get(**params)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        assert told["num_records"] == len(told["records"])
        return told

    def follow(self, href: str) -> dict[str, Any]:
        answer = self._http.get(f"{self._server.url}{href}", timeout=READ_S)
        told: dict[str, Any] = answer.json()
        return told


class Modules(Client):
    """As the modules for file shares and access endpoints poll."""

    def run(self, accepted: dict[str, Any]) -> dict[str, Any]:
        """From the body of a 202 to the job's end."""
        key = accepted["job"]["key"]
        for _ in range(TRIES):
            job = self.job(key)
            if job["state"] == "completed":
                return {"changed": job["status"] == "normal", "name": job["name"], "job": job}
            time.sleep(PAUSE_S)
        raise AssertionError(f"{job['key']} is {job['state']} for ever")


class Guide(Client):
    """As the guides for 9.7 and 9.8 have it, pointed at the form that has their states."""

    base = "/netapp-guide/api"

    def run(self, job_id: str, return_timeout: int = 0) -> str:
        for _ in range(TRIES):
            state: str = self.job(job_id, return_timeout=return_timeout)["state"]
            if state in DONE:
                return state
            time.sleep(PAUSE_S)
        raise AssertionError(f"{job_id} is {state} for ever")
