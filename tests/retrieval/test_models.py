"""Real models of sentence-transformers, from folders, without a network."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlm_agent.retrieval.chunks import Chunk
from rlm_agent.retrieval.embeddings import SentenceTransformerEmbeddings, identity_of
from rlm_agent.retrieval.index import DocumentIndex
from rlm_agent.retrieval.rerank import CrossEncoderReranker
from rlm_agent.structure.errors import ModelError
from tests.retrieval.embedding import Counting

pytestmark = pytest.mark.slow

TEXTS = {
    "bridge": "The old bridge over the river was closed after the flood.",
    "bread": "Knead the dough for ten minutes and let it rise overnight.",
    "planet": "The probe photographed the rings of the distant planet.",
}
QUESTIONS = {
    "bridge": "Which crossing is shut because of high water?",
    "bread": "How is a loaf baked?",
    "planet": "What did the spacecraft take pictures of?",
}


@pytest.fixture(scope="module")
def embeddings(minilm: Path) -> SentenceTransformerEmbeddings:
    return SentenceTransformerEmbeddings(minilm, device="cpu")


@pytest.fixture(scope="module")
def cross_encoder(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder of random weights."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("cross-encoder")
    torch.manual_seed(0)
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    config.num_labels = 1
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(minilm)
    tokenizer.save_pretrained(folder)
    return folder


def test_questions_find_texts_by_meaning(embeddings: SentenceTransformerEmbeddings) -> None:
    with DocumentIndex(None, embeddings, mode="vector") as index:
        index.put(Chunk(id, text, "") for id, text in TEXTS.items())
        for id, question in QUESTIONS.items():
            ((found,),) = index.search([question], 1)
            assert found.id == id


def test_vectors_have_length_1_and_do_not_depend_on_the_batch(
    embeddings: SentenceTransformerEmbeddings,
) -> None:
    vectors = np.array(embeddings.embed_documents([*TEXTS.values(), "x " * 5000]))
    assert vectors.shape == (4, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    alone = np.array([embeddings.embed_query(text) for text in TEXTS.values()])
    assert np.abs(alone - vectors[:3]).max() < 1e-5


def test_identity_follows_the_weights(embeddings: SentenceTransformerEmbeddings, minilm: Path) -> None:
    again = SentenceTransformerEmbeddings(minilm, device="cpu", batch_size=1)
    assert identity_of(again) == embeddings.identity
    weights = next(again._model.parameters())
    weights.data[0, 0] += 1
    assert SentenceTransformerEmbeddings.identity.func(again) != embeddings.identity  # type: ignore[attr-defined]
    assert identity_of(Counting()) == "Counting"
    assert identity_of(None) == "none"


@pytest.mark.parametrize("model", ["/nowhere/at/all", "nobody/no-such-model"])
def test_model_that_is_not_there_is_refused(model: str) -> None:
    with pytest.raises(ModelError, match=r"cannot be loaded .*; name a folder that holds one, or allow"):
        SentenceTransformerEmbeddings(model)


def test_pickled_weights_are_not_read(minilm: Path, tmp_path: Path) -> None:
    import torch

    for path in minilm.rglob("*"):
        if path.is_file() and path.suffix != ".safetensors":
            copy = tmp_path / path.relative_to(minilm)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        SentenceTransformerEmbeddings(tmp_path)


def test_cross_encoder_orders_what_was_found(cross_encoder: Path) -> None:
    reranker = CrossEncoderReranker(cross_encoder, device="cpu")
    scores = dict(zip(TEXTS, reranker.score("the dough", list(TEXTS.values())), strict=True))
    assert len(set(scores.values())) == 3
    with DocumentIndex(reranker=reranker) as index:
        index.put(Chunk(id, text, "") for id, text in TEXTS.items())
        (found,) = index.search(["the dough"], 3)
    assert [one.id for one in found] == sorted(TEXTS, key=lambda id: -scores[id])
    assert [one.score for one in found] == pytest.approx(sorted(scores.values(), reverse=True), abs=1e-6)
    assert reranker.score("the dough", []) == []
    assert reranker.identity == CrossEncoderReranker(cross_encoder, device="cpu").identity
