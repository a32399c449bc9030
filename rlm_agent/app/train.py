"""`rlm-agent train`: the recipe that made `mini`, to be run again or on other data."""

from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rlm_agent.app.stopping import stoppable
from rlm_agent.structure.errors import InputError, MissingExtraError
from rlm_agent.tasks.registry import TASKS, read_problems

if TYPE_CHECKING:
    from rlm_agent.models.gguf.values.mlp import HeadWeights

app = typer.Typer(help="Train small policies and value heads.", no_args_is_help=True)

_FRESH = 140
"""Problems of each validation split; that of Game of 24 has no more."""

_VERIFIED = [name for name, task in TASKS.items() if task.verifier is not None]
"""The tasks whose answers can be verified, as labels have to be."""

_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


@app.command()
def sft(
    out: Annotated[Path, typer.Option(help="Folder of the run; run again to go on after a stop.")],
    recipe: Annotated[str, typer.Option(help="mini, tools, or no-calls to compare tools with.")] = "mini",
    exclude: Annotated[
        str | None, typer.Option(help="FILE[:FIRST-LAST] of puzzles to keep out beside the held-out splits.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps; the default made mini.")] = 3200,
    tokens: Annotated[int, typer.Option(min=512, help="Most tokens of a step.")] = 6144,
    seed: Annotated[int, typer.Option(help="Decides initial weights, data and their order.")] = 0,
    base: Annotated[
        Path | None, typer.Option(help="Model file of the same sizes to go on from; none by default.")
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Let torch compile the model; needs a C++ compiler.")
    ] = False,
) -> None:
    """Train a policy by a recipe and export it to OUT, by default on worked puzzles to OUT/mini.gguf.

    Beside it lies a value head, the net that was trained with it: whether the answer is still in reach.
    """
    _require("torch", "tokenizers", "gguf")
    from rlm_agent.models.gguf.policy import GGUFPolicy
    from rlm_agent.models.gguf.values.values import head_file
    from rlm_agent.training.export import export_gguf
    from rlm_agent.training.heads import weights_of, write_head_file
    from rlm_agent.training.recipe import get_recipe, train_policy
    from rlm_agent.training.sft import Progress as Step
    from rlm_agent.training.sft import SFTConfig, has_bf16

    excluded, chosen = _excluded(exclude), get_recipe(recipe)
    with Progress(*_COLUMNS) as progress:
        bar = progress.add_task("sft", total=steps)

        def report(step: Step) -> None:
            losses = f"loss {step.loss:.4f}, of values {step.value_loss:.4f}"
            text = f"{losses}, {step.tokens_per_second:.0f} tokens/s"
            progress.update(bar, completed=step.step, description=text)

        config = SFTConfig(steps=steps, tokens=tokens, bf16=has_bf16(), seed=seed)
        with stoppable("run the same command again to go on"):
            model, tokenizer = train_policy(
                out, config, chosen, excluded=excluded, base=base, compiled=compiled, report=report
            )
    path = out / f"{chosen.file}.gguf"
    export_gguf(model.decoder, tokenizer, path, identity=chosen.identity)
    head = weights_of([model.value.state_dict()])
    write_head_file(head_file(path), head, GGUFPolicy(path).file.identity)
    print(path)


@app.command()
def value(
    out: Annotated[Path, typer.Option(help="Folder of the run; run again to go on after a stop.")],
    model: Annotated[str, typer.Option(help="mini, or the path of a specialist's .gguf file.")] = "mini",
    task: Annotated[
        list[str] | None, typer.Option(help="May be given several times; all by default.")
    ] = None,
    problems: Annotated[int, typer.Option(min=10, help="Most problems of each training split.")] = 350,
    exclude: Annotated[
        str | None, typer.Option(help="FILE[:FIRST-LAST] of puzzles to keep out beside the held-out splits.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Chains sampled for each problem.")] = 16,
    beside: Annotated[
        Path | None, typer.Option(help="Another head of the same model that is to have half of the say.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides problems, chains and initial weights.")] = 0,
) -> None:
    """Label states by a model's own rollouts and train a value head on its hidden states.

    It, and the one `beside` it, are calibrated on problems of the validation split, which the model has not
    learned.

    The head is written to OUT/MODEL.value.gguf; beside its model, it is the value "head".
    """
    _require("torch", "gguf")
    from rlm_agent.models.gguf.policy import GGUFPolicy
    from rlm_agent.models.gguf.values.values import head_file
    from rlm_agent.models.resolve import load_policy
    from rlm_agent.training.heads import evenly, write_head_file
    from rlm_agent.training.labels import Labelling, collect
    from rlm_agent.training.rollouts import Labels
    from rlm_agent.training.value import Epoch, ValueConfig, calibrated, quality, train_head

    policy, config = load_policy(model), ValueConfig(seed=seed)
    excluded = _excluded(exclude)
    if not isinstance(policy, GGUFPolicy):
        raise InputError(f"{model} does not run in this process; name a .gguf file")
    other = _head(beside)
    path = out / head_file(Path(policy.file.path.name))
    learned = Labelling(tuple(task or _VERIFIED), problems, samples, seed)
    with Progress(*_COLUMNS) as progress, stoppable("run the same command again to go on"):

        def labels(labelling: Labelling) -> Labels:
            bar = progress.add_task(f"labels, {labelling.split}", total=None)
            folder = out / labelling.split
            done = partial(progress.update, bar)
            return collect(folder, policy, labelling, lambda n: done(completed=n), excluded=excluded)

        def report(epoch: Epoch) -> None:
            progress.update(bar, advance=1, description=f"head, loss {epoch.loss:.4f}")

        known, fresh = labels(learned), labels(replace(learned, split="validation", questions=_FRESH))
        bar = progress.add_task("head", total=config.members * config.epochs)
        heads = [train_head(known, config, report), *other]
        weights = evenly(*(calibrated(head, fresh) for head in heads))
    write_head_file(path, weights, policy.file.identity)
    for depth, area in quality(weights, fresh).items():
        print(f"AUROC on validation problems after {depth} steps: {area:.3f}")
    print(path)


def _head(path: Path | None) -> "list[HeadWeights]":
    """The head in a file, if one is named."""
    if path is None:
        return []
    from rlm_agent.models.gguf.values.heads import ValueHead

    head = ValueHead.read(path)
    if head is None:
        raise InputError(f"{path} has no value head; name a file that has one")
    return [head.weights]


def _excluded(source: str | None) -> set[str]:
    return set(read_problems(source)) if source is not None else set()


def _require(*packages: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtraError(package, "train")
