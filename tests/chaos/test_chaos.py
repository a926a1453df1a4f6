"""The short run: the ledger with everything that can be waited for in seconds.

The long one, with what only time-outs end, is `scripts/chaos`.
"""

from pathlib import Path

import pytest

from tests.chaos.report import text
from tests.chaos.run import Settings, run
from tests.servers import need_servers

SECONDS = 9.0
SEEDS = {1: 3, 4: 5}


@pytest.fixture(autouse=True)
def _servers() -> None:
    need_servers()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("partitions", [1, 4])
# What breaks connections breaks those of the libraries' background tasks as well.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
async def test_nothing_is_lost_or_out_of_order_whatever_dies(
    tmp_path: Path, partitions: int
) -> None:
    settings = Settings(
        seconds=SECONDS, seed=SEEDS[partitions], partitions=partitions, folder=tmp_path
    )
    result = await run(settings)
    assert result.ok, f"{text(result)}\n" + "\n".join(result.log)
    assert result.ledger.confirmed > 1_000
    assert result.kills_and_pauses >= 3
