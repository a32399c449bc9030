"""The benchmark of the engine: who takes part in which workload, and what is reported of it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from rlm_agent.bench.conditions import conditions
from rlm_agent.bench.contenders.bare import MOST_EXPANSIONS, BareContender
from rlm_agent.bench.contenders.base import Contender, Setting
from rlm_agent.bench.contenders.engine import BusyContender, EngineContender, TogetherContender
from rlm_agent.bench.contenders.generate import GenerateContender
from rlm_agent.bench.contenders.server import ServerContender
from rlm_agent.bench.contenders.value import ValueContender
from rlm_agent.bench.running import Turn, race, ratios, summary
from rlm_agent.bench.workload import Tree, make_tree
from rlm_agent.models.gguf.engine.pace import cores
from rlm_agent.models.gguf.file import ModelFile, binding
from rlm_agent.structure.errors import InputError, MissingExtraError, UnknownNameError

Workload = Literal["tree", "searches", "busy", "value"]
SEARCHES = 8
_CONDITIONS: dict[Workload, tuple[type[EngineContender], str, str]] = {
    "searches": (TogetherContender, "together", "in turn"),
    "busy": (BusyContender, "busy machine", "idle machine"),
    "value": (ValueContender, "value head on", "value head off"),
}
"""Who takes part in a workload, and what it and the engine by itself are called there."""
_ALL_THREADS = "generate, all threads"
_SERVERS = {"server, 4 slots": 4, "server, 16 slots": 16}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured; `prompt` in tokens.

    `threads` is None for what each takes by itself, `peer_threads` None for the same as `threads`. `only` are
    the names of those who shall take part; empty for all.
    """

    workload: Workload = "tree"
    prompt: int = 64
    branches: int = 16
    expansions: int = 64
    rounds: int = 5
    threads: int | None = None
    peer_threads: int | None = None
    seed: int = 0
    only: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """Who takes part, over which trees, and whose ratios to whom are told."""

    contenders: list[Contender]
    trees: list[Tree]
    ratios: dict[str, dict[str, Sequence[str]]]
    left_out: list[str]


def line_up(path: Path, plan: Plan) -> tuple[Line, dict[str, Any]]:
    """Who takes part with the model at `path`, and the settings to be reported.

    Raises `InputError` for trees that the model's context cannot hold or that are too large, and
    `UnknownNameError` for those who shall take part and are not there.
    """
    peer_threads = plan.peer_threads or plan.threads
    file = ModelFile(path)
    try:
        trees = _trees(file, plan)
        settings = {**asdict(plan), "peer_threads": peer_threads, **conditions(file)}
    finally:
        file.close()
    cells, longest = sum(tree.cells for tree in trees), max(tree.longest for tree in trees)
    setting = Setting(path, plan.threads, cells, longest)
    if plan.workload == "tree":
        line = _tree(setting, replace(setting, threads=peer_threads), trees)
    else:
        line = _against_itself(setting, plan.workload, trees)
    return _only(line, plan.only), settings


def measure(
    line: Line, settings: dict[str, Any], rounds: int, report: Callable[[Turn], None]
) -> dict[str, Any]:
    """Run all rounds: rates in generated tokens per second, ratios of medians, and the settings."""
    rates = race(line.contenders, line.trees, rounds, report)
    told: dict[str, dict[str, float]] = {}
    for name, groups in line.ratios.items():
        told |= ratios(rates, [name], groups)
    about = {contender.name: contender.about for contender in line.contenders}
    return {
        "results": summary(rates, about),
        "ratios": told,
        "rounds": {name: [round(rate, 1) for rate in values] for name, values in rates.items()},
        "left_out": line.left_out,
        "settings": settings,
    }


def _trees(file: ModelFile, plan: Plan) -> list[Tree]:
    if plan.expansions > MOST_EXPANSIONS:
        raise InputError(f"{plan.expansions} expansions are too many; give at most {MOST_EXPANSIONS}")
    many = SEARCHES if plan.workload == "searches" else 1
    words = _words(file)
    trees = [
        make_tree(
            words,
            prompt=plan.prompt,
            branches=plan.branches if many == 1 else 4,
            expansions=max(1, plan.expansions // many),
            seed=plan.seed + number,
        )
        for number in range(many)
    ]
    longest = max(tree.longest for tree in trees)
    if longest > file.trained_context:
        raise InputError(
            f"the tree has a branch of {longest} tokens and the model a context of {file.trained_context}; "
            "give a shorter prompt or fewer expansions"
        )
    return trees


def _words(file: ModelFile) -> list[int]:
    """The tokens that a prompt may have: all that neither end nor control anything."""
    lib = binding()
    return [
        token
        for token in range(file.size)
        if not lib.llama_vocab_is_control(file.vocabulary, token) and not file.ends(token)
    ]


def _tree(setting: Setting, peer: Setting, trees: list[Tree]) -> Line:
    contenders: list[Contender] = [
        EngineContender(setting),
        EngineContender(setting, exact=False, name="engine, not exact"),
        GenerateContender(peer),
    ]
    if peer.threads is None:
        contenders.append(GenerateContender(replace(peer, threads=cores()), name=_ALL_THREADS))
    left_out = []
    if find_spec("xllamacpp") is None:
        left_out.append(f"the server is left out: {MissingExtraError('xllamacpp', 'bench')}")
    else:
        contenders += [ServerContender(peer, slots, name) for name, slots in _SERVERS.items()]
    contenders += [
        BareContender(setting),
        BareContender(setting, exact=False, name="bare, not exact"),
    ]
    others: dict[str, Sequence[str]] = {
        "generate": ["generate"],
        _ALL_THREADS: [_ALL_THREADS],
        "better server": list(_SERVERS),
    }
    told = {
        "engine": {**others, "bare": ["bare"]},
        "engine, not exact": {**others, "bare": ["bare, not exact"]},
    }
    return Line(contenders, trees, told, left_out)


def _only(line: Line, names: Sequence[str]) -> Line:
    """The same without those who shall not take part."""
    known = {contender.name: contender for contender in line.contenders}
    for name in names:
        if name not in known:
            raise UnknownNameError(f"nobody here is called {name!r}; choose among: {'; '.join(known)}")
    return replace(line, contenders=[known[name] for name in names]) if names else line


def _against_itself(setting: Setting, workload: Workload, trees: list[Tree]) -> Line:
    """The engine under some condition beside the engine without it."""
    kind, name, plain = _CONDITIONS[workload]
    contenders: list[Contender] = [kind(setting, name=name), EngineContender(setting, name=plain)]
    return Line(contenders, trees, {name: {plain: [plain]}}, [])
