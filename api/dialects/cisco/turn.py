"""What the calls of one HTTP request have in common."""

from asyncio import get_running_loop

from api.identity import Identity
from api.problems import unauthorized


class Turn:
    """One HTTP request. `ends`: loop time after which nothing more of it is begun; `bearer`: whose
    `Authorization` it carries; `tls`: whether it came so; `by`: who makes the call in hand."""

    def __init__(self, *, ends: float, bearer: Identity | None, tls: bool) -> None:
        self.ends = ends
        self.bearer = bearer
        self.tls = tls
        self.by: Identity | None = None

    @property
    def is_over(self) -> bool:
        return get_running_loop().time() >= self.ends

    @property
    def who(self) -> Identity:
        """Raises Problem where it is nobody."""
        if self.by is None:
            raise unauthorized()
        return self.by
