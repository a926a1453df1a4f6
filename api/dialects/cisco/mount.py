"""`POST /clm/rpc`: the functions of Cisco License Manager as JSON-RPC 2.0.

Owns the order of the questions: whose is the `Authorization`, if there is one → is the body one of
ours → then for each call: is there such a function → who makes it → may they, so often → what are
its parameters. Promises: 200 for everything that JSON-RPC has a word for; a batch is carried out in
its order; no request begins anything after TIME_S, or once its answers are ANSWER_BYTES long.
"""

from asyncio import get_running_loop
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api import audit
from api.body import bounded, require_type
from api.dialects.answering import answering, problem_of
from api.dialects.cisco import rpc
from api.dialects.cisco.functions import FUNCTIONS, Functions
from api.dialects.cisco.objects import PROBLEMS, status
from api.dialects.cisco.rpc import Call, Fault
from api.dialects.cisco.tokens import by_call, by_header
from api.dialects.cisco.turn import Turn
from api.facility import Facility
from api.manners import REFUSALS, refuse, under_tls
from api.problems import KINDS, Problem
from jobcast.reasons import explain

PREFIX: Final = "LicenseManager."
BODY_MAX: Final = 262_144
TIME_S: Final = 30.0
ANSWER_BYTES: Final = 8_388_608
JSON: Final = "application/json"
TOO_MANY: Final = 429

CODES: Final = {
    "unauthorized": rpc.AUTHENTICATION,
    "forbidden": rpc.AUTHENTICATION,
    "unavailable": rpc.REMOTE,
    "too-many-requests": rpc.REMOTE,
    "too-many-waits": rpc.REMOTE,
    "invalid-parameter": rpc.PARAMS,
    "too-large": rpc.REQUEST,
    "unsupported-media-type": rpc.REQUEST,
}
"""Of the problems that are no results; `INTERNAL` of all others."""
TOO_MUCH: Final = Fault(
    rpc.REMOTE,
    "it was not tried: the batch has taken too long, or its answer is too long",
    {"type": rpc.TITLES[rpc.REMOTE]},
)


def routes(facility: Facility) -> Sequence[Route]:
    return [Route("/clm/rpc", answering(Mount(facility).answer, said), methods=["POST"])]


class Mount:
    """The endpoint."""

    def __init__(self, facility: Facility) -> None:
        self._facility = facility
        self._functions = Functions(facility)

    async def answer(self, request: Request) -> Response:
        bearer = await by_header(self._facility, request.headers.get("authorization"))
        require_type(request)
        try:
            asked = rpc.read(await bounded(request, BODY_MAX))
        except Fault as fault:
            return _response(rpc.error(None, fault))
        ends = get_running_loop().time() + TIME_S
        turn = Turn(ends=ends, bearer=bearer, tls=under_tls(request.scope, request.headers))
        if not asked.is_batch:
            return await self._single(request, asked.calls[0], turn)
        answers, room = list[bytes](), ANSWER_BYTES
        for call in asked.calls:
            if room <= 0 or turn.is_over:
                answer = rpc.error(call.id, TOO_MUCH)
            else:
                answer, problem = await self._answered(call, turn)
                _written_down(call, turn, problem)
            if not call.is_notification:
                answers.append(answer)
                room -= len(answer)
        return _response(rpc.batch(answers)) if answers else Response(status_code=204)

    async def _single(self, request: Request, call: Call, turn: Turn) -> Response:
        answer, problem = await self._answered(call, turn)
        if problem is not None and KINDS[problem.name].status == TOO_MANY:
            refuse(request.scope, problem.name)  # written down with the answer
            if turn.by is not None:
                request.scope["identity"] = turn.by
            return _response(answer, TOO_MANY, problem.headers)
        _written_down(call, turn, problem)
        return Response(status_code=204) if call.is_notification else _response(answer)

    async def _answered(self, call: Call, turn: Turn) -> tuple[bytes, Problem | None]:
        """The answer, and the problem that it tells of, where that is no result."""
        turn.by = None
        try:
            return rpc.answer(call.id, await self._result(call, turn)), None
        except Fault as fault:
            return rpc.error(call.id, fault), None
        except Exception as error:
            problem = problem_of(error)
        if problem.name in PROBLEMS:
            return rpc.answer(call.id, status(PROBLEMS[problem.name])), None
        return rpc.error(call.id, _fault(problem)), problem

    async def _result(self, call: Call, turn: Turn) -> object:
        """Raises Fault, and what the functions raise."""
        function = FUNCTIONS.get(call.method.removeprefix(PREFIX))
        if call.fault is not None or function is None:
            raise call.fault or Fault(rpc.METHOD)
        values = rpc.named(call, function.names, function.aliases)
        if not function.is_open:
            turn.by = await by_call(self._facility, values.pop("token", None), turn.bearer)
            self._facility.admit(turn.by)
        try:
            asked = msgspec.convert(values, function.params)
        except msgspec.ValidationError as error:
            raise Fault(rpc.PARAMS, explain(error, "")[1]) from None
        return await function.run(self._functions, turn, asked)


def said(_: Request, problem: Problem) -> Response:
    """For the request as a whole."""
    answer = rpc.error(None, _fault(problem))
    return _response(answer, KINDS[problem.name].status, problem.headers)


def _fault(problem: Problem) -> Fault:
    code = CODES.get(problem.name, rpc.INTERNAL)
    detail = problem.detail or KINDS[problem.name].title
    if code not in {rpc.REMOTE, rpc.AUTHENTICATION}:
        return Fault(code, detail)
    data: dict[str, object] = {"type": rpc.TITLES[code]}
    if "Retry-After" in problem.headers:
        data["retryAfter"] = int(problem.headers["Retry-After"])
    return Fault(code, detail, data)


def _written_down(call: Call, turn: Turn, problem: Problem | None) -> None:
    """A refusal that the status of the answer does not tell of."""
    if problem is not None and KINDS[problem.name].status in REFUSALS:
        who = None if turn.by is None else turn.by.user
        method = call.method.removeprefix(PREFIX)  # one of ours: others are not asked who calls
        audit.refused(who, "http", f"POST /clm/rpc {method}", problem.name)


def _response(body: bytes, status_code: int = 200, headers: Mapping[str, str] = {}) -> Response:
    return Response(body, status_code, {"Cache-Control": "no-store", **headers}, JSON)
