"""`rlm-agent index`: documents into an index, and questions to it."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rlm_agent.app.stopping import stoppable
from rlm_agent.structure.errors import InputError

if TYPE_CHECKING:
    from rlm_agent.retrieval.index import DocumentIndex
    from rlm_agent.retrieval.ingest import Report

app = typer.Typer(help="Search folders of documents by meaning and by words.", no_args_is_help=True)

_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
_NONE = "none"

IndexArgument = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of the index.")]
PathsArgument = Annotated[
    list[Path], typer.Argument(metavar="PATH...", help="Files and folders: text, Markdown, PDF, HTML, CSV.")
]
ModelOption = Annotated[
    str,
    typer.Option(help="Embedding model of sentence-transformers: a folder or a name; none for words alone."),
]
DownloadOption = Annotated[bool, typer.Option("--download", help="Let the model be downloaded.")]
SizeOption = Annotated[int, typer.Option(min=1, help="Most characters of a chunk.")]
OverlapOption = Annotated[int, typer.Option(min=0, help="Characters that a chunk shares with the last one.")]
EncodingOption = Annotated[str, typer.Option(help="Of text files that do not say theirs.")]
LargestOption = Annotated[int, typer.Option(min=1, help="Leave out documents of more megabytes.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]

_MODEL = "all-MiniLM-L6-v2"


@app.command()
def build(
    index: IndexArgument,
    paths: PathsArgument,
    model: ModelOption = _MODEL,
    download: DownloadOption = False,
    chunk_size: SizeOption = 1000,
    chunk_overlap: OverlapOption = 100,
    encoding: EncodingOption = "utf-8",
    max_megabytes: LargestOption = 64,
    as_json: JsonOption = False,
) -> None:
    """Make INDEX hold the documents under PATH and no others; what has not changed is not read again.

    Stopped at any moment, the same command goes on.
    """
    cutting = (chunk_size, chunk_overlap, encoding)
    _ingest(index, paths, model, download, cutting, max_megabytes, as_json, mirror=True)


@app.command()
def add(
    index: IndexArgument,
    paths: PathsArgument,
    model: ModelOption = _MODEL,
    download: DownloadOption = False,
    chunk_size: SizeOption = 1000,
    chunk_overlap: OverlapOption = 100,
    encoding: EncodingOption = "utf-8",
    max_megabytes: LargestOption = 64,
    as_json: JsonOption = False,
) -> None:
    """Add the documents under PATH to INDEX, or bring up to date what it holds of them."""
    _require(index)
    cutting = (chunk_size, chunk_overlap, encoding)
    _ingest(index, paths, model, download, cutting, max_megabytes, as_json, mirror=False)


@app.command()
def search(
    index: IndexArgument,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many passages.")] = 4,
    mode: Annotated[str | None, typer.Option(help="vector, lexical or hybrid, the default.")] = None,
    filter: Annotated[
        str | None, typer.Option(help='Metadata as JSON, for example \'{"page": {"$lte": 3}}\'.')
    ] = None,
    rerank: Annotated[
        str | None, typer.Option(help="Cross-encoder of sentence-transformers that orders what was found.")
    ] = None,
    model: ModelOption = _MODEL,
    download: DownloadOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print the passages of INDEX that a query finds, best first."""
    _require(index)
    wanted: Any = _filter(filter)
    with stoppable("nothing was changed"), _opened(index, model, download, as_json, rerank) as opened:
        (passages,) = opened.search([query], k, filter=wanted, mode=mode)  # type: ignore[arg-type]
    if as_json:
        print(json.dumps([asdict(passage) for passage in passages]))
        return
    for number, passage in enumerate(passages, 1):
        print(f"{number}. {_plain(passage.source)}  ({passage.score:.4f})\n{_plain(passage.text)}\n")


@app.command("list")
def list_documents(index: IndexArgument, as_json: JsonOption = False) -> None:
    """List the documents of INDEX with the number of their chunks."""
    with _store(index) as store, store.reading():
        sizes = store.sizes()
    if as_json:
        print(json.dumps(sizes))
        return
    for name, count in sizes.items():
        print(f"{count:>8,}  {_plain(name)}")


@app.command()
def delete(
    index: IndexArgument,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="As `list` prints them.")],
) -> None:
    """Delete documents from INDEX."""
    from rlm_agent.retrieval.adding import delete

    with _store(index) as store:
        with store.reading():
            unknown = [name for name in names if name not in store.documents()]
        if unknown:
            raise InputError(f"{index} holds no document {unknown[0]!r}; `list` prints those it holds")
        change = delete(store, (), names)
    print(f"{len(names):,} documents with {change.deleted:,} chunks deleted")


def _ingest(
    folder: Path,
    paths: list[Path],
    model: str,
    download: bool,
    cutting: tuple[int, int, str],
    megabytes: int,
    as_json: bool,
    *,
    mirror: bool,
) -> None:
    from rlm_agent.retrieval.ingest import ingest
    from rlm_agent.retrieval.splitting import Cutting

    chosen = Cutting(*cutting)
    with stoppable("run the same command again to go on"), _opened(folder, model, download, as_json) as index:
        report = ingest(index, paths, cutting=chosen, largest=megabytes * 2**20, mirror=mirror)
        held = len(index)
    for problem in report.problems:
        print(f"rlm-agent: left out: {_plain(str(problem))}", file=sys.stderr)
    if not held:
        raise InputError(f"{folder} holds nothing, as no document was found; name others")
    _say(report, held, as_json)


def _say(report: "Report", held: int, as_json: bool) -> None:
    if as_json:
        told = {"problems": [asdict(problem) for problem in report.problems], "change": asdict(report.change)}
        counts = {"written": report.documents, "unchanged": report.unchanged, "deleted": report.deleted}
        print(json.dumps({**counts, **told, "chunks": held}))
        return
    print(
        f"{report.documents:,} documents written, {report.unchanged:,} unchanged, "
        f"{report.deleted:,} deleted; "
        f"{report.change.embedded:,} texts embedded; the index holds {held:,} chunks"
    )


@contextmanager
def _opened(
    folder: Path, model: str, download: bool, quiet: bool, rerank: str | None = None
) -> Iterator["DocumentIndex"]:
    """An index with its models, which shows on standard error what takes long."""
    from rlm_agent.retrieval.embeddings import SentenceTransformerEmbeddings
    from rlm_agent.retrieval.index import STORE, DocumentIndex
    from rlm_agent.retrieval.rerank import CrossEncoderReranker

    wordy = model == _NONE
    if (folder / STORE).is_file():
        with _store(folder) as store, store.reading():
            wordy = wordy or store.get("embeddings") == _NONE
    embeddings = None if wordy else SentenceTransformerEmbeddings(model, download=download)
    reranker = CrossEncoderReranker(rerank, download=download) if rerank else None
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    with Progress(*_COLUMNS, console=console, transient=True, disable=hidden) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what)
            bars.update(tasks[what], completed=done, total=total)

        with DocumentIndex(folder, embeddings, reranker=reranker, progress=show) as index:
            yield index


@contextmanager
def _store(folder: Path) -> Iterator[Any]:
    from rlm_agent.retrieval.index import STORE
    from rlm_agent.retrieval.store import Store

    _require(folder)
    store = Store(folder / STORE)
    try:
        yield store
    finally:
        store.close()


def _require(folder: Path) -> None:
    from rlm_agent.retrieval.index import STORE

    if not (folder / STORE).is_file():
        raise InputError(f"{folder} holds no index; make one with: rlm-agent index build {folder} PATH")


def _filter(text: str | None) -> Any:
    try:
        wanted = None if text is None else json.loads(text)
    except ValueError as error:
        raise InputError(f'the filter is no JSON ({error}); write it like {{"page": 3}}') from error
    if wanted is not None and not isinstance(wanted, dict):
        raise InputError('the filter is no JSON object; write it like {"page": 3}')
    return wanted


def _plain(text: str) -> str:
    """Text that cannot steer the terminal, wherever it comes from."""
    return "".join(mark if mark.isprintable() or mark in "\n\t" else "\ufffd" for mark in text)
