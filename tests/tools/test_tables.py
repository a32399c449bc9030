"""Tables: what a SELECT finds, and that no query writes, leaves its tables or takes for ever."""

import sqlite3
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_agent.structure.errors import InputError
from rlm_agent.tools.tables import Reading, Tables

GOODS = 'name,price,code,stock\napple,1.50,01234,3\npear,2,00001,\n"x, y",3.25,9,4\n'


@pytest.fixture
def goods(tmp_path: Path) -> Tables:
    path = tmp_path / "goods.csv"
    path.write_text(GOODS)
    return Tables(path, reading=Reading(seconds=0.3, rows=5))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "a ?#.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE squares (x, y)")
        connection.executemany("INSERT INTO squares VALUES (?, ?)", [(i, i * i) for i in range(50)])
    connection.close()
    return path


def test_a_csv_file_is_a_table_whose_numbers_are_numbers(goods: Tables) -> None:
    assert (
        goods.description == "Looks up rows by one SQL SELECT. The tables: goods(name, price, code, stock)."
    )
    assert goods.call("SELECT * FROM goods") == (
        "name | price | code | stock\napple | 1.5 | 01234 | 3\npear | 2.0 | 00001 | NULL\nx, y | 3.25 | 9 | 4"
    )
    assert goods.call("select sum(price), sum(stock) from goods;") == "sum(price) | sum(stock)\n6.75 | 7"
    assert goods.call("select name from goods where price > 9") == "no rows"


def test_several_files_are_several_tables(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,name\n1,one\n2,two\n")
    (tmp_path / "b.tsv").write_text("id\tprice\n2\t5\n")
    both = Tables(tmp_path / "a.csv", tmp_path / "b.tsv")
    assert both.call("select name, price from a join b using (id)") == "name | price\ntwo | 5"


def test_a_database_is_read_where_it_lies(database: Path) -> None:
    before = database.read_bytes()
    tables = Tables(database, reading=Reading(rows=2))
    assert tables.call("SELECT y FROM squares WHERE x = 7") == "y\n49"
    assert tables.call("SELECT x FROM squares") == "x\n0\n1\n… (more than 2 rows)"
    assert database.read_bytes() == before and sorted(p.name for p in database.parent.iterdir()) == [
        "a ?#.db"
    ]


WRITES = """
INSERT INTO goods VALUES (1, 2, 3, 4)
UPDATE goods SET price = 0
DELETE FROM goods
DROP TABLE goods
CREATE TABLE t (x)
CREATE TEMP TABLE t (x)
ALTER TABLE goods RENAME TO g
PRAGMA writable_schema = 1
ATTACH 'OUT' AS other
VACUUM INTO 'OUT'
BEGIN
EXPLAIN SELECT 1
WITH g AS (SELECT 1) INSERT INTO goods SELECT 1, 2, 3, 4
WITH g AS (SELECT 1) DELETE FROM goods
SELECT 1; SELECT 2
SELECT 1; DROP TABLE goods
SELECT load_extension('x')
SELECT readfile('/etc/passwd')
SELECT writefile('OUT', 'x')
SELECT edit('x')
SELECT fts3_tokenizer('x')
SELECT * FROM pragma_table_info('goods')
SELECT * FROM pragma_database_list
SELECT random()
SELECT zeroblob(1000000000)
SELECT nothing FROM goods
SELECT * FROM nowhere
""".strip().splitlines()


@pytest.mark.parametrize("query", [*WRITES, "", ";", "nonsense"])
def test_whatever_is_no_reading_select_is_refused(goods: Tables, query: str, tmp_path: Path) -> None:
    with pytest.raises(sqlite3.Error):
        goods.call(query.replace("OUT", str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()
    assert goods.call("SELECT count(*) FROM goods") == "count(*)\n3"


@pytest.mark.parametrize("query", [one for one in WRITES if "goods" not in one or "SELECT" in one])
def test_a_database_file_is_guarded_as_well(database: Path, query: str) -> None:
    before = database.read_bytes()
    with pytest.raises(sqlite3.Error):
        Tables(database).call(query.replace("goods", "squares").replace("OUT", str(database.parent / "out")))
    assert database.read_bytes() == before and len(list(database.parent.iterdir())) == 1


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) FROM " + ", ".join(f"goods g{i}" for i in range(16)),
        "SELECT max(a.name || b.name) FROM " + ", ".join(f"goods {c}" for c in "abcdefghijklmno"),
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c",
    ],
)
def test_no_query_takes_longer_than_it_may(goods: Tables, query: str) -> None:
    started = time.monotonic()
    with pytest.raises(sqlite3.Error, match=r"more than 0\.3 seconds|not authorized"):
        goods.call(query)
    assert time.monotonic() - started < 3
    assert goods.call("SELECT 1") == "1\n1", "the next query has its own time"


def test_what_is_shown_is_bounded(goods: Tables) -> None:
    assert len(goods.call("SELECT printf('%9999d', 1) AS x FROM goods")) < 1000
    with pytest.raises(sqlite3.Error):
        goods.call("SELECT replace(replace(printf('%9999d', 1), ' ', '0123456789'), '1', '0123456789')")
    assert goods.call("SELECT x'00ff' AS x") == "x\n(2 bytes)"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b"", "it is empty"),
        ("a.csv", b"x,y\n1\n", "its lines have different numbers of cells"),
        ("a.csv", b"x,x\n1,2\n", "duplicate column name"),
        ("a.csv", b"x,\n1,2\n", "a column has no name"),
        ("a.csv", b"\xff\xfe\x00", "can't decode"),
        ("a.db", b"no database at all, but long enough to be looked at " * 40, "is no SQLite database"),
        ("a.db", b"", "holds no tables"),
    ],
)
def test_a_file_that_is_no_table_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=reason) as refusal:
        Tables(tmp_path / name)
    assert name in str(refusal.value)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    for paths in ((), (tmp_path / "no.csv",), (tmp_path / "no.db",), (tmp_path / "a.csv", tmp_path / "b.db")):
        with pytest.raises(InputError):
            Tables(*paths)
    assert not list(tmp_path.iterdir()), "looking makes no file"
    with pytest.raises(InputError, match="at least one row"):
        Reading(rows=0)


NAMES = st.text(min_size=1, max_size=8).filter(lambda text: text.strip() and text.isprintable())


@settings(max_examples=50)
@given(st.lists(NAMES, min_size=1, max_size=4, unique_by=lambda name: name.strip().lower()))
def test_names_of_columns_are_names_and_never_sql(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    path = tmp_path_factory.mktemp("csv") / 'od"d; DROP.csv'
    quoted = ",".join('"' + name.replace('"', '""') + '"' for name in names)
    path.write_text(f"{quoted}\n{','.join(['1'] * len(names))}\n", encoding="utf-8")
    found = Tables(path).call('SELECT * FROM "od""d; DROP"').splitlines()
    assert found[1] == " | ".join(["1"] * len(names))
