"""The table of channels in docs/security.md."""

from typing import Any

from benchmarks.pages import RESULTS, ROOT, Table, machine, stored

__all__ = ["RESULT", "TABLE"]

RESULT = RESULTS / "channels.json"


def text() -> str:
    """Return what each channel carries at each level."""
    found = stored("channels")
    rows: dict[tuple[str, str, bool], dict[str, Any]] = {
        (row["channel"], row["level"], row["side_by_side"]): row for row in found["rows"]
    }
    columns = list(dict.fromkeys((level, side_by_side) for _, level, side_by_side in rows))
    heads = [f"`{level}`, {'a run beside it' if side_by_side else 'a later run'}" for level, side_by_side in columns]
    lines = [f"| channel | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for channel in dict.fromkeys(channel for channel, _, _ in rows):
        cells = [_cell(rows.get((channel, *column))) for column in columns]
        lines.append(f"| {channel} | {' | '.join(cells)} |")
    return "\n".join(lines) + f"\n\nBits that came through, and bits a second of writer and reader. {machine(found)}.\n"


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    if row["error"] is not None:
        return f"refused ({row['error']})"
    if not row["carried"]:
        return f"0 of {row['bits']}"
    return f"{row['carried']:.0f} of {row['bits']}, {row['carried'] / row['seconds']:,.0f} a second"


TABLE = Table(
    ROOT / "docs" / "security.md",
    "channels",
    "channels",
    text,
)
