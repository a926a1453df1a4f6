"""How a dialect answers: its handlers raise what the native ones raise, and it says that in its own
words. Promises: no handler of a dialect ever answers in another form, whatever happens to it.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from api.manners import refuse
from api.presence import ClientGone
from api.problems import Problem, translated
from api.secret import CannotTell
from broker.errors import BrokerUnavailable, Refused
from notifier.connection import StoreUnavailable
from notifier.follow import JobGone, JobNotFound

Handler = Callable[[Request], Awaitable[Response]]
InItsWords = Callable[[Request, Problem], Response]

EXPECTED: Final = (
    Problem,
    JobNotFound,
    JobGone,
    CannotTell,
    StoreUnavailable,
    BrokerUnavailable,
    Refused,
    HTTPException,
)

log = logging.getLogger(__name__)


def problem_of(error: Exception) -> Problem:
    """What is to be said of it; one that nobody has thought of is logged with its traceback."""
    if isinstance(error, EXPECTED):
        return translated(error)
    log.error("a request could not be answered", exc_info=error)
    return Problem("internal-error")


def answering(handler: Handler, words: InItsWords) -> Handler:
    """An endpoint that answers with what `handler` answers, or with `words` for what it raises:
    a Problem of `api.problems` (`internal-error` for what nobody has thought of)."""

    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request)
        except (ClientDisconnect, ClientGone):
            return Response()  # to nobody
        except Exception as error:
            problem = problem_of(error)
        refuse(request.scope, problem.name)
        return words(request, problem)

    return endpoint
