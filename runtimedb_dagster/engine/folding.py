"""Which data files of a version are written again, so that they stay few."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["MOST_FILES", "folded_of"]

MOST_FILES = 16
# A data file of which more than this part is deleted is folded.
MOST_DELETED = 0.25


def folded_of(files: Sequence[tuple[int, int]], coming: int, fold_below: int) -> set[int]:
    """Which data files are written again, by their places.

    From the newest on while the next older one is less than twice the size of what is folded, so that sizes grow
    geometrically and each row is written again O(log n) times; each of which more than a quarter is deleted; as many
    as there are too many; and all of a small table.

    Args:
        files: live rows and all rows of each, the oldest first.
        coming: rows that come besides.
        fold_below: see `Merge`.
    """
    live = [rows for rows, _ in files]
    if coming + sum(live) <= fold_below:
        return set(range(len(files)))
    folded = {place for place, (rows, all_rows) in enumerate(files) if all_rows - rows > MOST_DELETED * all_rows}
    size = coming + sum(live[place] for place in folded)
    for place in reversed(range(len(files))):
        if place in folded:
            continue
        others = len(files) - len(folded) + bool(size)
        if size and live[place] >= 2 * size and others <= MOST_FILES:
            break
        if not size and others <= MOST_FILES:
            break
        folded.add(place)
        size += live[place]
    return folded
