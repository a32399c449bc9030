"""A folder of Markdown, and a small model that searches it while it reasons: in a chain, and in a tree."""

from pathlib import Path
from tempfile import TemporaryDirectory

from langchain_core.messages import HumanMessage

from rlm_agent import Budget, Calculator, Retrieval, create_mcts, create_react
from rlm_agent.retrieval.index import DocumentIndex
from rlm_agent.retrieval.ingest import ingest
from rlm_agent.retrieval.splitting import Cutting

FOLDER = Path(__file__).parent / "catalogue"
QUESTION = "What must be paid for 46 of the Den Nox chair, blue? Use the list of 2025."
MODEL = "mini-tools"

with TemporaryDirectory() as place, DocumentIndex(place) as index:
    report = ingest(index, [FOLDER], cutting=Cutting(size=120, overlap=0))
    print(f"{report.documents} documents, {len(index)} passages")
    tools, budget = [Calculator()], Budget(tokens=1000)
    passages = Retrieval(index, alternatives=3)
    chain = create_react(MODEL, tools=tools, retriever=passages, budget=budget, seed=1)
    # Each passage that a search finds is a branch of its own; the value looks at whether it fits the query.
    tree = create_mcts(
        MODEL, simulations=8, value="support", tools=tools, retriever=passages, budget=budget, seed=1
    )
    for reasoner in (chain, tree):
        reply = reasoner.invoke({"messages": [HumanMessage(QUESTION)]})["messages"][-1]
        print(f"\n{reply.name}: {reply.content}")
        print(reply.additional_kwargs.get("reasoning_content"))
        print("read:", *reply.additional_kwargs.get("sources", []))
