"""Folders into an index: what is found, what is left out and why, and what is done again."""

import os
from pathlib import Path

import pytest

from rlm_agent.retrieval.index import DocumentIndex
from rlm_agent.retrieval.ingest import ingest
from rlm_agent.retrieval.splitting import Cutting
from rlm_agent.structure.errors import InputError
from tests.retrieval.embedding import Counting
from tests.retrieval.pdfs import pdf


def write(folder: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def names(index: DocumentIndex) -> list[str]:
    with index.store.reading():
        return list(index.store.documents())


def test_documents_of_a_folder_are_found_by_all_modes(index: DocumentIndex, tmp_path: Path) -> None:
    docs = write(
        tmp_path / "docs",
        a_md="# Velk\n\nThe velk weighs 5 kg.",
        b_pdf=pdf(["The orm weighs 7 kg."]),
        sub__c_html="<p>The tarn weighs 9 kg.",
        prices_csv="name,price\nvelk,12\norm,15\n",
        code_py="nothing to see",
        _hidden__d_md="hidden",
    )
    report = ingest(index, [docs])
    assert (report.documents, report.unchanged, report.problems) == (4, 0, [])
    assert names(index) == ["docs/a.md", "docs/b.pdf", "docs/prices.csv", "docs/sub/c.html"]
    (found,) = index.search(["orm weighs"], 1, mode="lexical")
    assert (found[0].source, found[0].metadata) == (
        "docs/b.pdf, page 1",
        {"document": "docs/b.pdf", "page": 1},
    )
    assert index.search(["kg"], mode="lexical", filter={"document": "docs/a.md"})[0][0].source == (
        "docs/a.md, Velk"
    )
    assert index.search(["velk"], filter={"price": {"$lt": 13}})[0][0].source == "docs/prices.csv, row 2"


def test_only_what_has_changed_is_read_and_embedded(
    index: DocumentIndex, embeddings: Counting, tmp_path: Path
) -> None:
    docs = write(tmp_path / "docs", a_txt="one", b_txt="two", c_md="# x\nthree\n# y\nfour")
    ingest(index, [docs])
    embeddings.asked.clear()
    write(docs, b_txt="two", c_md="# x\nthree\n# z\nfive", d_txt="one")
    report = ingest(index, [docs])
    assert (report.documents, report.unchanged) == (2, 2)
    assert embeddings.asked == ["# z\nfive"]
    report = ingest(index, [docs], cutting=Cutting(size=50, overlap=5))
    assert (report.documents, report.change.embedded) == (4, 0)


def test_mirror_deletes_what_is_gone_and_add_does_not(index: DocumentIndex, tmp_path: Path) -> None:
    docs = write(tmp_path / "docs", a_txt="one", b_txt="two")
    ingest(index, [docs])
    (docs / "a.txt").unlink()
    assert ingest(index, [docs]).deleted == 0
    assert names(index) == ["docs/a.txt", "docs/b.txt"]
    assert ingest(index, [docs], mirror=True).deleted == 1
    assert names(index) == ["docs/b.txt"]
    assert len(index) == 1


def test_bad_documents_are_told_and_the_others_load(index: DocumentIndex, tmp_path: Path) -> None:
    docs = write(
        tmp_path / "docs",
        good_txt="good",
        empty_txt="",
        binary_md=b"\0\1\2",
        latin_txt="Größe".encode("latin-1"),
        scanned_pdf=pdf([""]),
        huge_txt="x" * 2_000_000,
    )
    report = ingest(index, [docs], largest=1_000_000)
    assert names(index) == ["docs/good.txt"]
    told = {problem.name: problem.reason for problem in report.problems}
    assert {name: reason.split(";")[0] for name, reason in told.items()} == {
        "docs/binary.md": "is binary",
        "docs/empty.txt": "holds no text",
        "docs/huge.txt": "is larger than 1 MB",
        "docs/latin.txt": "is not utf-8 (byte 2 cannot be read)",
        "docs/scanned.pdf": "has no text, perhaps as it was scanned",
    }
    assert all("; " in reason for reason in told.values())
    report = ingest(index, [docs / "latin.txt"], cutting=Cutting(encoding="latin-1"))
    assert (report.documents, report.problems) == (1, [])


def test_document_that_went_bad_keeps_its_old_chunks(index: DocumentIndex, tmp_path: Path) -> None:
    docs = write(tmp_path / "docs", a_txt="one")
    ingest(index, [docs])
    write(docs, a_txt=b"\0")
    assert len(ingest(index, [docs], mirror=True).problems) == 1
    assert names(index) == ["docs/a.txt"]


def test_links_never_lead_out_of_the_folder(index: DocumentIndex, tmp_path: Path) -> None:
    secret = write(tmp_path / "outside", secret_txt="secret", deep__more_txt="more")
    docs = write(tmp_path / "docs", a_txt="one", sub__b_txt="two")
    (docs / "link.txt").symlink_to(secret / "secret.txt")
    (docs / "folder").symlink_to(secret)
    (docs / "loop").symlink_to(docs)
    (docs / "inside.txt").symlink_to(docs / "a.txt")
    (docs / "broken.txt").symlink_to(docs / "missing.txt")
    report = ingest(index, [docs])
    assert names(index) == ["docs/a.txt", "docs/inside.txt", "docs/sub/b.txt"]
    assert index.search(["secret more"], mode="lexical") == [[]]
    told = {Path(problem.name).name: problem.reason for problem in report.problems}
    assert set(told) == {"link.txt", "folder", "loop", "broken.txt"}
    assert "leads out of its folder" in told["link.txt"]


def test_pipes_and_devices_are_no_documents(index: DocumentIndex, tmp_path: Path) -> None:
    docs = write(tmp_path / "docs", a_txt="one")
    os.mkfifo(docs / "pipe.txt")
    report = ingest(index, [docs, "/dev/zero"])
    assert [str(problem) for problem in report.problems] == [
        "docs/pipe.txt is no regular file; leave it out",
        "zero is no regular file; leave it out",
    ]


def test_folder_that_cannot_be_read_deletes_nothing(
    index: DocumentIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = write(tmp_path / "docs", a_txt="one", sub__b_txt="two")
    ingest(index, [docs])
    listing = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr("os.scandir", refuse)
    report = ingest(index, [docs], mirror=True)
    assert "cannot be read (Permission denied)" in str(report.problems[0])
    assert names(index) == ["docs/a.txt", "docs/sub/b.txt"]


def test_missing_paths_and_clashing_names_are_refused(index: DocumentIndex, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist; name a file or a folder"):
        ingest(index, [tmp_path / "missing"])
    write(tmp_path, x__docs__a_txt="one", y__docs__a_txt="two")
    with pytest.raises(InputError, match="have one name; name the folder above both"):
        ingest(index, [tmp_path / "x" / "docs", tmp_path / "y" / "docs"])
    assert ingest(index, [tmp_path / "x" / "docs", tmp_path / "x" / "docs"]).documents == 1


class Stopping(Counting):
    """Stops like Ctrl-C at the third call."""

    calls: int = 0

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls += 1
        if self.calls == 3:
            raise KeyboardInterrupt
        return super().embed_documents(texts)


def test_ingest_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlm_agent.retrieval.ingest._BATCH", 2)
    docs = write(tmp_path / "docs", **{f"{number}_txt": f"text {number}" for number in range(9)})
    embeddings = Stopping()
    with DocumentIndex(tmp_path / "index", embeddings) as index:
        with pytest.raises(KeyboardInterrupt):
            ingest(index, [docs])
        assert len(index) == 4
        report = ingest(index, [docs])
        assert (report.documents, report.unchanged) == (5, 4)
        assert sorted(embeddings.asked) == [f"text {number}" for number in range(9)]
