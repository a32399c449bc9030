"""The recipe of `mini`, whole: tokenizer, training, checkpoints, in one folder that can be resumed."""

from collections.abc import Callable, Collection
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer

from rlm_agent.training.decoder import Decoder, DecoderConfig
from rlm_agent.training.puzzles import examples
from rlm_agent.training.sft import Progress, SFTConfig, train
from rlm_agent.training.tokenizer import train_tokenizer

_TOKENIZER_LINES = 20_000


def train_policy(
    folder: Path,
    config: SFTConfig,
    *,
    excluded: Collection[str] = (),
    report: Callable[[Progress], None] = lambda progress: None,
) -> tuple[Decoder, Tokenizer]:
    """Train `mini`'s policy in `folder`, or go on where an earlier run there stopped.

    `excluded` holds canonical texts of puzzles to keep out of training beside the held-out splits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(folder / "tokenizer.json", config.seed, excluded)
    model = train(
        examples(config.seed, excluded=excluded),
        tokenizer,
        config,
        DecoderConfig(vocabulary=tokenizer.get_vocab_size()),
        checkpoint=folder / "policy.pt",
        report=report,
    )
    return model, tokenizer


def _tokenizer(path: Path, seed: int, excluded: Collection[str]) -> Tokenizer:
    if path.exists():
        return Tokenizer.from_file(str(path))
    sample = islice(examples(seed + 1, excluded=excluded), _TOKENIZER_LINES)
    tokenizer = train_tokenizer((e.prompt + e.solution for e in sample), seed=seed)
    partial = path.with_suffix(".partial")
    tokenizer.save(str(partial))
    partial.replace(path)
    return tokenizer
