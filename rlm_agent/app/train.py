"""`rlm-agent train`: the recipe that made `mini`, to be run again or on other data."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rlm_agent.app.stopping import stoppable
from rlm_agent.structure.errors import MissingExtraError
from rlm_agent.tasks.registry import read_problems

app = typer.Typer(help="Train small policies.", no_args_is_help=True)


@app.command()
def sft(
    out: Annotated[Path, typer.Option(help="Folder of the run; run again to go on after a stop.")],
    exclude: Annotated[
        str | None, typer.Option(help="FILE[:FIRST-LAST] of puzzles to keep out beside the held-out splits.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps; 4,000 made mini.")] = 4000,
    batch: Annotated[int, typer.Option(min=1, help="Worked problems a step.")] = 128,
    seed: Annotated[int, typer.Option(help="Decides initial weights, data and their order.")] = 0,
) -> None:
    """Train a policy from scratch on worked puzzles and export it to OUT/mini.gguf."""
    for package in ("torch", "tokenizers", "gguf"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "train")
    from rlm_agent.training.export import export_gguf
    from rlm_agent.training.recipe import train_policy
    from rlm_agent.training.sft import Progress as Step
    from rlm_agent.training.sft import SFTConfig

    excluded = set(read_problems(exclude)) if exclude is not None else set()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("sft", total=steps)

        def report(step: Step) -> None:
            text = f"loss {step.loss:.4f}, {step.tokens_per_second:.0f} tokens/s"
            progress.update(bar, completed=step.step, description=text)

        config = SFTConfig(steps=steps, batch=batch, seed=seed)
        with stoppable("run the same command again to go on"):
            model, tokenizer = train_policy(out, config, excluded=excluded, report=report)
    export_gguf(model, tokenizer, out / "mini.gguf")
    print(out / "mini.gguf")
