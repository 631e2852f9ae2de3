"""seeds=N: one config over N seeds, as a sweep."""

import re

from gptexp.config.grammar import WORD, find_override
from gptexp.config.schema import MAX_SEED
from gptexp.errors import UserError

DEFAULT_SEED = 1


def expand_seeds(words: list[str]) -> list[str]:
    """Replace seeds=N by the seeds it stands for, seed=1,2,...,N or those from the given seed=S on.

    Raises:
        UserError: N is no whole number above zero, or seed= has several values already.
    """
    word = find_override(words, "seeds")
    if word is None:
        return words
    count = word.partition("=")[2]
    if not re.fullmatch(r"[1-9]\d{0,3}", count):
        raise UserError(f"{word}: must be a whole number from 1 to 9999, such as seeds=5")
    others = [word for word in words if _key(word) not in ("seed", "seeds")]
    first = find_override(words, "seed") or f"seed={DEFAULT_SEED}"
    if not re.fullmatch(r"\+*seed=\d+", first):
        raise UserError(
            f"{first} {word}: seeds= counts on from one seed; give seed=NUMBER with it, or leave out {word}"
        )
    start, n_seeds = int(first.partition("=")[2]), int(count)
    if start + n_seeds - 1 > MAX_SEED:
        raise UserError(
            f"{first} {word}: the last seed would be {start + n_seeds - 1}, and may be at most {MAX_SEED}; "
            f"use seed={MAX_SEED - n_seeds + 1} or less"
        )
    return [*others, f"seed={','.join(str(start + i) for i in range(n_seeds))}"]


def _key(word: str) -> str:
    match = WORD.fullmatch(word)
    return match["key"] if match else ""
