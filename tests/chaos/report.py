"""The ledger for people (a plain table), for programs (JSON), and for docs/reliability.md."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.chaos.ledger import FAILING
from tests.chaos.run import Result

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN: Final = "<!-- last long run: written by scripts/chaos -->\n"
END: Final = "<!-- end of the last long run -->\n"
COLUMNS: Final = ("owed", "told", "repeats", *FAILING)


def table(result: Result) -> str:
    ledger = result.ledger
    lines = [f"{'':<10}" + "".join(f"{name:>11}" for name in COLUMNS)]
    lines += [
        f"{row.channel:<10}" + "".join(f"{getattr(row, name):>11}" for name in COLUMNS)
        for row in ledger.rows
    ]
    return "\n".join(lines)


def text(result: Result) -> str:
    """Everything that a person wants to know of one run."""
    settings, ledger = result.settings, result.ledger
    verdict = "nothing lost, nothing wrong" if result.ok else "FAILED"
    lines = [
        f"partitions {settings.partitions}, seed {settings.seed}, {settings.seconds:.0f} s of "
        f"disturbance: {verdict}",
        f"{ledger.jobs} jobs, {ledger.confirmed} confirmed events, {ledger.unconfirmed} ends never "
        f"confirmed; {result.kills_and_pauses} kills and pauses of {sum(result.deeds.values())} "
        f"disturbances ({_counted(result.deeds)})",
        f"at rest {result.rested_s:.1f} s after the last one; streams opened: "
        f"{_counted(ledger.resumes)}; refused: {_counted(result.refusals)}",
        "",
        table(result),
    ]
    lines += [f"  {example}" for row in ledger.rows for example in row.examples]
    lines += [f"  finding: {finding}" for finding in result.findings]
    return "\n".join(lines) + "\n"


def _counted(counts: dict[Any, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=str)) or "none"


def write_json(path: Path, results: Sequence[Result]) -> None:
    plain = msgspec.to_builtins(results, enc_hook=str, str_keys=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(plain), indent=1))


def write_document(results: Sequence[Result], when: str) -> None:
    """Put the results between the markers; what others have written around them stays."""
    blocks = "\n".join(f"```\n{text(result)}```\n" for result in results)
    events = sum(result.ledger.confirmed for result in results)
    deeds = sum(result.kills_and_pauses for result in results)
    head = f"{when}: {events:,} confirmed events, {deeds} kills and pauses.\n\n"
    section = f"{BEGIN}{head}{blocks}{END}"
    before = DOCUMENT.read_text() if DOCUMENT.exists() else "# Reliability\n\n## Last long run\n\n"
    if BEGIN not in before:
        before += ("" if "## Last long run" in before else "\n## Last long run\n\n") + BEGIN + END
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    DOCUMENT.write_text(re.sub(pattern, lambda _: section, before, flags=re.DOTALL))
