"""A notifier that dies when it comes to a job named `deadly`: `python -m tests.integration.dying`.

It is the real one but for its store, which ends the process as a fault in a C library would.
"""

import asyncio
import os
from collections.abc import Sequence

from broker.link import user_of
from notifier.__main__ import Notifier, clock
from notifier.commit import Committer
from notifier.connection import connect
from notifier.figures import Figures
from notifier.letters import Rules
from notifier.service import StateService
from notifier.settings import read_settings
from notifier.store import Held, Store
from notifier.watch import Watch


class DeadlyStore(Store):
    async def hold(self, wanted: Sequence[tuple[str, str]]) -> list[Held]:
        if any(job_id == "deadly" for _, job_id in wanted):
            os._exit(134)
        return await super().hold(wanted)


async def main() -> None:
    settings = read_settings(os.environ)
    redis = connect(settings.redis_url)
    store = DeadlyStore(redis)
    committer = Committer(redis, retention_s=settings.retention_s, orphan_s=settings.orphan_s)
    rules = Rules(retention_s=settings.retention_s, user=user_of(settings.amqp_url))
    service = StateService(store, committer, rules, clock)
    watch = Watch(redis, store, orphan_s=settings.orphan_s)
    await Notifier(settings, service, watch, Figures()).run()


if __name__ == "__main__":
    asyncio.run(main())
