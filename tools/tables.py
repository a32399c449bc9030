"""Tables to look things up in: CSV files and SQLite databases, asked in SQL that nobody trusts.

A query is one SELECT. SQLite itself holds that: an authorizer refuses everything but reading and a list of
functions, the database is opened read-only, and lengths, rows and time are bounded. What a query has to sort
may take room in the folder for temporary files while it runs.
"""

import csv
import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rlm_agent.structure.errors import InputError
from rlm_agent.tools.calling import Threaded
from rlm_agent.tools.protocols import takes_text

_FUNCTIONS = frozenset(
    "abs avg ceil ceiling coalesce count date datetime dense_rank first_value floor glob group_concat ifnull "
    "iif instr julianday lag last_value lead length like lower ltrim max min mod nullif pow power printf "
    "rank replace round row_number rtrim sign sqrt strftime substr substring sum time total trim typeof "
    "upper".split()
)
"""What a query may call: neither files nor extensions, and no `random`, so that it says the same again."""

_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ}
_SELECT = re.compile(r"(?:select|with|values)\b", re.IGNORECASE)
_OPERATIONS = 1000
"""How many steps of SQLite's machine lie between two looks at the clock."""

_SIZES = {
    sqlite3.SQLITE_LIMIT_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 10_000,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 20,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
}
_LARGEST = 64 * 2**20
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,14})\.[0-9]{1,15}")
_MOST_DESCRIBED = 20
_MOST_CELL = 200


@dataclass(frozen=True, slots=True)
class Reading:
    """What a query may take: `seconds`, and how many `rows` of what it finds are shown.

    Raises `InputError` for less than one row or no time.
    """

    seconds: float = 2.0
    rows: int = 20

    def __post_init__(self) -> None:
        if not 0 < self.seconds < float("inf") or self.rows < 1:
            raise InputError(f"{self} shows nothing; give a time above 0 and at least one row")


class Tables(Threaded):
    """The tool `table`: the rows that a SELECT finds, with a line of their columns first.

    paths: a SQLite database, or CSV files in UTF-8 with a line of column names, each a table that is named
        like its file. Columns of numbers hold numbers, all others text; an empty cell is NULL.
    reading: the limits of a query.

    The model is told of the tables and their columns. Raises `InputError` for files that cannot be read as
    that, and `sqlite3.Error` in a call for a query that is refused or goes wrong.
    """

    name = "table"
    idempotent = True
    parameters = takes_text("query")

    def __init__(self, *paths: str | Path, reading: Reading | None = None) -> None:
        self._reading = reading or Reading()
        self._lock = threading.Lock()
        self._memory: sqlite3.Connection | None = None
        self._file: str | None = None
        files = [Path(path) for path in paths]
        if not files:
            raise InputError("there is no table to look into; name a SQLite file or CSV files")
        if all(path.suffix.lower() in (".csv", ".tsv") for path in files):
            self._memory = _loaded(files)
        elif len(files) == 1:
            self._file = f"{files[0].absolute().as_uri()}?mode=ro"
        else:
            raise InputError("tables are CSV files, or all in one SQLite file; name one or the other")
        self.description = f"Looks up rows by one SQL SELECT. The tables: {self._schema(files[0])}."

    def call(self, argument: str) -> str:
        """The rows that a query finds, a line each."""
        query, most = argument.strip().rstrip(";"), self._reading.rows
        if not _SELECT.match(query):
            raise sqlite3.ProgrammingError("write one SELECT")
        with self._opened() as connection, closing(connection.cursor()) as cursor:
            cursor.execute(query)
            names = [_cell(column[0]) for column in cursor.description]
            found = cursor.fetchmany(most + 1)
        if not found:
            return "no rows"
        lines = [" | ".join(row) for row in [names, *(map(_cell, row) for row in found[:most])]]
        return "\n".join([*lines, *([f"… (more than {most} rows)"] if len(found) > most else [])])

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The tables for one query, with its limits."""
        if self._memory is not None:
            with self._lock, _limited(self._memory, self._reading.seconds):
                yield self._memory
            return
        assert self._file is not None
        with closing(sqlite3.connect(self._file, uri=True, check_same_thread=False)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            with _limited(connection, self._reading.seconds):
                yield connection

    def _schema(self, path: Path) -> str:
        """The tables with their columns, for a model to read."""
        query = (
            "SELECT m.name, group_concat(p.name, ', ') FROM sqlite_master m, pragma_table_info(m.name) p "
            "WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite%' GROUP BY m.name"
        )
        try:
            if self._memory is not None:
                found = self._memory.execute(query).fetchall()
            else:
                with closing(sqlite3.connect(str(self._file), uri=True)) as connection:
                    found = connection.execute(query).fetchall()
        except sqlite3.Error as error:
            raise InputError(
                f"{path} is no SQLite database ({error}); name one, or files that end in .csv"
            ) from error
        if not found:
            raise InputError(f"{path} holds no tables; name a database with some")
        return "; ".join(f"{name}({columns})" for name, columns in found[:_MOST_DESCRIBED])


@contextmanager
def _limited(connection: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """Let a connection read only, and for so long."""
    end = time.monotonic() + seconds
    for size, most in _SIZES.items():
        connection.setlimit(size, most)
    connection.set_authorizer(_authorized)
    connection.set_progress_handler(lambda: time.monotonic() > end, _OPERATIONS)
    try:
        yield
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        raise sqlite3.OperationalError(f"it takes more than {seconds:g} seconds") from None
    finally:
        connection.set_progress_handler(None, 0)
        connection.set_authorizer(None)


def _authorized(action: int, first: str | None, second: str | None, *rest: str | None) -> int:
    known = action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FUNCTIONS
    return sqlite3.SQLITE_OK if known or action in _ALLOWED else sqlite3.SQLITE_DENY


def _loaded(files: Sequence[Path]) -> sqlite3.Connection:
    """CSV files as tables in memory."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    for path in files:
        try:
            if path.stat().st_size > _LARGEST:
                raise InputError(f"{path} has more than {_LARGEST >> 20} MiB; make a SQLite database of it")
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = list(csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
            _fill(connection, path.stem, [row for row in rows if row])
        except (OSError, UnicodeDecodeError, csv.Error, sqlite3.Error, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{path} cannot be read as a table ({error}); give CSV in UTF-8 with a line of column names"
            ) from error
    return connection


def _fill(connection: sqlite3.Connection, name: str, rows: list[list[str]]) -> None:
    if not rows:
        raise ValueError("it is empty")
    header, body = rows[0], rows[1:]
    if any(len(row) != len(header) for row in body):
        raise ValueError("its lines have different numbers of cells")
    columns = [_column([row[at].strip() for row in body]) for at in range(len(header))]
    named = ", ".join(_quoted(column.strip()) for column in header)
    connection.execute(f"CREATE TABLE {_quoted(name)} ({named})")
    places = ", ".join("?" * len(header))
    lines = zip(*columns, strict=True) if body else iter(())
    while batch := list(islice(lines, 1000)):
        connection.executemany(f"INSERT INTO {_quoted(name)} VALUES ({places})", batch)


def _column(cells: list[str]) -> list[str | int | float | None]:
    """The cells of a column: numbers, if all are."""
    filled = [cell for cell in cells if cell]
    kind: type = str
    if filled and all(map(_INTEGER.fullmatch, filled)):
        kind = int
    elif filled and all(_INTEGER.fullmatch(cell) or _DECIMAL.fullmatch(cell) for cell in filled):
        kind = float
    return [kind(cell) if cell else None for cell in cells]


def _quoted(name: str) -> str:
    """A name as SQL writes it, which comes from a file."""
    if not name or "\0" in name:
        raise ValueError("a column has no name")
    return '"' + name.replace('"', '""') + '"'


def _cell(value: object) -> str:
    if isinstance(value, bytes):
        return f"({len(value)} bytes)"
    return "NULL" if value is None else " ".join(str(value).split())[:_MOST_CELL]
