"""What `mini` learns to do with a puzzle, as conversations under its own chat template.

- *steps*: the question → a solution, a step a line.
- *astray*: the same, but the solution goes astray; only its good beginning is learned, and its values.
- *refine*: an attempt, `critique` → `right`, or `wrong at K`; then `rewrite` → a whole right solution.
- *prefer*: two attempts → the number of the better one.
- *coat*: one long chain that reflects and starts again; see `tasks/countdown/coat.py`.
"""

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

from rlm_agent.structure.metaactions import CONTINUE, EXPLORE
from rlm_agent.tasks.countdown.coat import write_reflection
from rlm_agent.training.attempts import Taken, attempt, continued, first_fault, on_path, wander
from rlm_agent.training.puzzles import HeldOut, Worked, worked

CRITIQUE, REWRITE = "critique", "rewrite"
PREFER, COAT = "{question}\n{choices}\nprefer", "{question}\ncoat"
ASKS = {"critique": CRITIQUE, "rewrite": REWRITE, "prefer": PREFER, "coat": COAT}
"""How each skill is asked for; with the question alone, the model writes steps."""

SHARES = {"steps": 0.56, "astray": 0.16, "refine": 0.09, "prefer": 0.06, "coat": 0.13}
_WRONG_TURNS = (0.3, 0.35, 0.2, 0.15)
"""How often a chain that reflects errs never, once, twice, three times."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a conversation.

    `learned` lines are in the loss, with what follows them: the newline, or the end of the turn where the
    line `ends` a turn of the model. `reach` tells whether the target can still be reached after it, None
    where that is not to be learned.
    """

    text: str
    learned: bool = False
    ends: bool = False
    reach: bool | None = None


Example = tuple[Line, ...]


def examples(seed: int, *, excluded: Collection[str] = ()) -> Iterator[Example]:
    """An endless stream of examples of all skills in their `SHARES`, the same for the same seed.

    Puzzles of the validation and test splits and those whose canonical text is in `excluded` never appear.
    """
    rng, held_out = random.Random(f"puzzles/{seed}"), HeldOut(excluded)
    puzzles = worked(rng, held_out)
    while True:
        (skill,) = rng.choices(list(SHARES), list(SHARES.values()))
        example = None
        while example is None:
            example = _SKILLS[skill](next(puzzles), rng, held_out)
        yield example


Skill = Callable[[Worked, random.Random, HeldOut], Example | None]
"""An example of a skill with this puzzle; None where the draws came to none."""


def _steps(one: Worked, rng: random.Random, held_out: HeldOut) -> Example:
    return (_asked(one), *_turn(on_path(one), learned=len(one.moves)))


def _astray(one: Worked, rng: random.Random, held_out: HeldOut) -> Example | None:
    """Random steps after a good beginning, up to two beyond the fault; those before it are learned, too."""
    taken = on_path(one)[: rng.randrange(len(one.moves) - 1)]
    beyond = rng.randrange(3)
    while len(taken) < len(one.moves) - 1 and beyond >= 0:
        step = wander(one, taken, rng, held_out)
        if step is None:
            break
        taken.append(step)
        beyond -= not step.reach
    return (_asked(one), *_lines(taken, learned=first_fault(taken) or 0)) if taken else None


def _refine(one: Worked, rng: random.Random, held_out: HeldOut) -> Example | None:
    tried = on_path(one) if rng.random() < 0.2 else attempt(one, rng, held_out)
    if not tried or len(tried[-1].state) > 1:
        return None
    fault = first_fault(tried)
    said = (_asked(one), *_turn(tried, learned=0), Line(CRITIQUE))
    if fault is None:
        return (*said, Line("right", learned=True, ends=True))
    rest = continued(one, tried[:fault], rng, held_out)
    if rest is None:
        return None
    solution = [*tried[:fault], *rest]
    rewriting = (Line(REWRITE), *_turn(solution, learned=len(solution)))
    return (*said, Line(f"wrong at {fault + 1}", learned=True, ends=True), *rewriting)


def _prefer(one: Worked, rng: random.Random, held_out: HeldOut) -> Example | None:
    pair = [_part(attempt(one, rng, held_out), rng), _part(attempt(one, rng, held_out), rng)]
    if rng.random() < 0.3:
        pair[0] = _part(on_path(one), rng)
    rng.shuffle(pair)
    ranks = [_rank(taken) for taken in pair]
    if ranks[0] == ranks[1]:
        return None
    first, second = ((Line(f"Attempt {number}:"), *_lines(taken)) for number, taken in enumerate(pair, 1))
    asked = (_asked(one), *first, Line(""), *second, Line("prefer"))
    return (*asked, Line("1" if ranks[0] > ranks[1] else "2", learned=True, ends=True))


def _coat(one: Worked, rng: random.Random, held_out: HeldOut) -> Example:
    """The solution with wrong turns on the way, which are taken back; all but these are learned."""
    (turns,) = rng.choices(range(len(_WRONG_TURNS)), _WRONG_TURNS)
    path, done, tag = on_path(one), 0, CONTINUE
    lines = [_asked(one), Line("coat")]
    for stop in sorted(rng.randrange(len(path)) for _ in range(turns)):
        wrong = _wrong_turn(one, path[:stop], rng, held_out)
        if wrong:
            lines += _tagged([*path[done:stop], *wrong], tag, learned=stop - done)
            lines.append(Line(write_reflection(stop), learned=True))
            done, tag = stop, EXPLORE
    lines += _tagged(path[done:], tag, learned=len(path))
    return (*lines[:-1], replace(lines[-1], ends=True))


def _wrong_turn(one: Worked, path: list[Taken], rng: random.Random, held_out: HeldOut) -> list[Taken]:
    """A step that loses the target, and perhaps some more; none where none was found."""
    step = wander(one, path, rng, held_out, wrong=True)
    wrong: list[Taken] = []
    while step is not None:
        wrong.append(step)
        goes_on = len(step.state) > 1 and rng.random() < 0.5
        step = wander(one, [*path, *wrong], rng, held_out) if goes_on else None
    return wrong


def _tagged(taken: Sequence[Taken], tag: str, *, learned: int) -> list[Line]:
    """See `_lines`; the first opens with `tag`, the others continue."""
    lines = _lines(taken, learned=learned)
    tags = (tag, *repeat(CONTINUE, len(lines) - 1))
    return [replace(line, text=f"{opened}{line.text}") for line, opened in zip(lines, tags, strict=True)]


def _asked(one: Worked) -> Line:
    return Line(one.puzzle.text)


def _turn(taken: Sequence[Taken], *, learned: int) -> list[Line]:
    """A whole turn of the model; see `_lines`."""
    lines = _lines(taken, learned=learned)
    return [*lines[:-1], replace(lines[-1], ends=True)]


def _lines(taken: Sequence[Taken], *, learned: int = 0) -> list[Line]:
    """Steps as lines, the first `learned` of them in the loss; unfinished legal ones have a value."""
    return [
        Line(step.line, number < learned, reach=step.reach if step.legal and len(step.state) > 1 else None)
        for number, step in enumerate(taken)
    ]


def _part(taken: list[Taken], rng: random.Random) -> list[Taken]:
    """An attempt, half of the time broken off before its end."""
    return taken[: rng.randint(1, len(taken))] if taken and rng.random() < 0.5 else taken


def _rank(taken: list[Taken]) -> tuple[bool, int]:
    """What makes one attempt better than another: the target is still in reach, then how far it has come."""
    return (True, len(taken)) if all(step.reach for step in taken) else (False, 0)


_SKILLS: dict[str, Skill] = {
    "steps": _steps,
    "astray": _astray,
    "refine": _refine,
    "prefer": _prefer,
    "coat": _coat,
}
