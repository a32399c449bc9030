"""The recipe of `mini`, whole: tokenizer, training, checkpoints, in one folder that can be resumed."""

from collections.abc import Callable, Collection
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer

from rlm_agent.training.decoder import DecoderConfig
from rlm_agent.training.sft import Learner, Progress, SFTConfig, train
from rlm_agent.training.skills import examples
from rlm_agent.training.tokenizer import train_tokenizer

CONTEXT = 512
_TOKENIZER_EXAMPLES = 20_000


def train_policy(
    folder: Path,
    config: SFTConfig,
    *,
    excluded: Collection[str] = (),
    base: Path | None = None,
    compiled: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> tuple[Learner, Tokenizer]:
    """Train `mini`'s policy in `folder`, or go on where an earlier run there stopped.

    `excluded` holds canonical texts of puzzles to keep out of training beside the held-out splits; for
    `base` and `compiled` see `train`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(folder / "tokenizer.json", config.seed, excluded)
    model = train(
        examples(config.seed, excluded=excluded),
        tokenizer,
        config,
        DecoderConfig(vocabulary=tokenizer.get_vocab_size(), context=CONTEXT),
        checkpoint=folder / "policy.pt",
        base=base,
        compiled=compiled,
        report=report,
    )
    return model, tokenizer


def _tokenizer(path: Path, seed: int, excluded: Collection[str]) -> Tokenizer:
    if path.exists():
        return Tokenizer.from_file(str(path))
    sample = islice(examples(seed + 1, excluded=excluded), _TOKENIZER_EXAMPLES)
    tokenizer = train_tokenizer(("\n".join(line.text for line in example) for example in sample), seed=seed)
    partial = path.with_suffix(".partial")
    tokenizer.save(str(partial))
    partial.replace(path)
    return tokenizer
