"""Your own GGUF instead of `mini`, and your own rules for what a step is and when an answer is right.

Run it with the path of a model: `python examples/own_model.py models/qwen2.5-1.5b-instruct-q8_0.gguf`.
"""

import sys

from rlm_agent import Budget, Steps, Verdict, create_best_of_n
from rlm_agent.tasks.answers import free_answer, normalise


def is_prime(question: str, answer: str) -> Verdict:
    """Sees the question and the candidate only; parses, never executes."""
    text = normalise(answer)
    if not text.isdigit() or len(text) > 6:
        return Verdict(False, "not a number")
    number = int(text)
    prime = number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))
    return Verdict(prime and number > 90, "" if prime else f"{number} is not prime")


reasoner = create_best_of_n(
    sys.argv[1],
    n=8,
    steps=Steps(delimiter="\n", max_tokens=64, max_steps=12, answer=free_answer),
    verifier=is_prime,
    budget=Budget(tokens=2000, seconds=120),
    temperature=0.7,
    seed=1,
)
result = reasoner.invoke({"messages": [("user", "Name a prime number above 90.")]})
print(result["answer"], result["usage"])
