"""The recipes of the models that ship, whole: tokenizer, training, checkpoints, in a folder to go on from."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer

from rlm_agent.structure.errors import UnknownNameError
from rlm_agent.training import skills, tooluse
from rlm_agent.training.decoder import DecoderConfig
from rlm_agent.training.export import Identity
from rlm_agent.training.sft import Learner, Progress, SFTConfig, train
from rlm_agent.training.skills import Example
from rlm_agent.training.tokenizer import train_digit_tokenizer, train_tokenizer

CONTEXT = 512
_TOKENIZER_EXAMPLES = 20_000


class Examples(Protocol):
    """An endless stream of examples, the same for the same seed, without what is held out or excluded."""

    def __call__(self, seed: int, *, excluded: Collection[str] = ()) -> Iterator[Example]: ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a model is made of: examples, a tokenizer of their texts and a seed, and its file's identity."""

    examples: Examples
    tokenizer: Callable[[Iterator[str], int], Tokenizer]
    identity: Identity
    file: str
    """The name of the model's file, without its suffix."""


_TOOLS = Recipe(
    tooluse.examples,
    lambda text, seed: train_digit_tokenizer(text),
    Identity(
        name="rlm-agent mini-tools",
        description="Solves word problems with a calculator and looks prices up; trained from scratch.",
        task="words",
        temperature=1.0,
        min_p=0.01,
        asks=tooluse.ASKS,
    ),
    "mini-tools",
)

RECIPES = {
    "mini": Recipe(skills.examples, lambda text, seed: train_tokenizer(text, seed=seed), Identity(), "mini"),
    "tools": _TOOLS,
    "no-calls": Recipe(
        partial(tooluse.examples, calls=False),
        _TOOLS.tokenizer,
        Identity(
            name="rlm-agent mini-tools, without calls",
            description="Solves word problems in its head; what mini-tools is compared with.",
            task="words",
            asks={},
        ),
        "no-calls",
    ),
}
"""By name; `no-calls` is `tools` on word problems alone, with the results written by the model itself."""


def get_recipe(name: str) -> Recipe:
    """The recipe of that name; `UnknownNameError` lists those there are."""
    if name not in RECIPES:
        raise UnknownNameError(f"there is no recipe {name!r}; choose one of {', '.join(RECIPES)}")
    return RECIPES[name]


def train_policy(
    folder: Path,
    config: SFTConfig,
    recipe: Recipe = RECIPES["mini"],
    *,
    excluded: Collection[str] = (),
    base: Path | None = None,
    compiled: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> tuple[Learner, Tokenizer]:
    """Train a recipe's policy in `folder`, or go on where an earlier run there stopped.

    `excluded` holds texts of problems to keep out of training beside the held-out splits; for
    `base` and `compiled` see `train`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(folder / "tokenizer.json", recipe, config.seed, excluded)
    model = train(
        recipe.examples(config.seed, excluded=excluded),
        tokenizer,
        config,
        DecoderConfig(vocabulary=tokenizer.get_vocab_size(), context=CONTEXT),
        checkpoint=folder / "policy.pt",
        base=base,
        compiled=compiled,
        report=report,
    )
    return model, tokenizer


def _tokenizer(path: Path, recipe: Recipe, seed: int, excluded: Collection[str]) -> Tokenizer:
    if path.exists():
        return Tokenizer.from_file(str(path))
    sample = islice(recipe.examples(seed + 1, excluded=excluded), _TOKENIZER_EXAMPLES)
    tokenizer = recipe.tokenizer(("\n".join(line.text for line in example) for example in sample), seed)
    partly = path.with_suffix(".partial")
    tokenizer.save(str(partly))
    partly.replace(path)
    return tokenizer
