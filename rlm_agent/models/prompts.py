"""The words in which a policy is asked for more than its next step: to criticise, to rewrite, to join, ….

A general model understands plain English. A specialist understands what it was trained on: its file names the
words it knows (`rlm.ask.*`), and a skill without words is one that it lacks.
"""

from dataclasses import dataclass, fields
from typing import Self

from rlm_agent.models.protocols import Policy
from rlm_agent.structure.errors import InputError


@dataclass(frozen=True, slots=True)
class Prompts:
    """One pattern a skill, in which `{question}` and `{choices}` are places; None for one that is lacking.

    `critique` and `rewrite` are asked after an attempt as an assistant's turn, `aggregate` puts the question
    with several attempts as `{choices}`. `prefer` compares two of them. `reflect` asks what to learn from a
    failed attempt, `retry` puts the question with all such `{reflections}`. `think` and `coat` put it so that
    one long chain answers it, with `coat` in Satori's meta-actions; `smooth` has such a chain, the
    `{journey}`, told again. `subquestion`, `answer` and `rephrase` are rStar's actions, `{step}` the smaller
    question that is to be answered again. `act` tells of the `{tools}`, before the conversation.
    """

    critique: str | None = (
        "Look at your attempt again, step by step. Is there a mistake in it? Say in one or two sentences "
        "what the first mistake is, or that there is none."
    )
    rewrite: str | None = (
        "Now write the solution anew, with what you found put right. Write the solution only, in the same "
        "form."
    )
    aggregate: str | None = (
        "{question}\n\nThese are attempts at it:\n\n{choices}\n\n"
        "Join what is best in them into one better solution. Write the solution only, in the same form."
    )
    prefer: str | None = (
        "Question:\n{question}\n\n{choices}\n\n"
        "These are two attempts at the question, perhaps unfinished. Which one is better? Compare them "
        "briefly, then end with one line: The best choice is N, where N is 1 or 2, or 0 if they are equally "
        "good."
    )
    reflect: str | None = (
        "That attempt failed. Say in one or two sentences why, and what to do otherwise next time."
    )
    retry: str | None = "{question}\n\nThese were your thoughts on earlier attempts:\n\n{reflections}"
    act: str | None = (
        "You can use tools. To use one, end a step with a line such as Action: name[argument]; the next line "
        "is then its result, Observation: …, which you never write yourself. These are the tools:\n{tools}\n"
        "When you know the answer, write Action: Finish[answer]."
    )
    think: str | None = "{question}"
    coat: str | None = (
        "{question}\n\nBegin each line with one of three tags. <|continue|>: the next step from where you "
        "are. <|reflect|>: stop and check whether the steps so far are right. <|explore|>: what you found "
        "wrong, and the first step of another way. Reflect before you finish, and explore wherever a step is "
        "wrong."
    )
    smooth: str | None = (
        "{question}\n\nThese are somebody's thoughts on it, wrong turns included:\n\n{journey}\n\n"
        "Tell them again as one train of thought that reads well. Leave no step, no wrong turn and no "
        "correction out, add none, and end with the same answer."
    )
    subquestion: str | None = (
        "{question}\n\nGo on with the next smaller question that helps, and with its answer, on one line. If "
        "nothing else is left to ask, ask the question itself."
    )
    answer: str | None = (
        "{question}\n\nGo on with this smaller question and a new answer to it, on one line; the answer that "
        "it has may be wrong: {step}"
    )
    rephrase: str | None = (
        "{question}\n\nFirst put the question in your own words, as a list of its conditions, on one line."
    )

    @classmethod
    def lacking(cls, **known: str) -> Self:
        """The prompts of a specialist that knows these skills and no others."""
        return cls(**{field.name: known.get(field.name) for field in fields(cls)})

    def require(self, skill: str) -> str:
        """The pattern of a skill; `InputError` where the model lacks it."""
        pattern: str | None = getattr(self, skill)
        if pattern is None:
            raise InputError(
                f"this model has not learned to {skill}; use a general model, or one whose file names "
                f"the words for it under rlm.ask.{skill}"
            )
        return pattern

    def having(self, *skills: str) -> Self:
        """The same, once it is sure that none of these skills is lacking; else as `require`."""
        for skill in skills:
            self.require(skill)
        return self


def prompts_of(policy: Policy) -> Prompts:
    """The prompts that a policy brings along; else plain English, or none for a specialist."""
    own = getattr(policy, "prompts", None)
    if isinstance(own, Prompts):
        return own
    return Prompts() if policy.task is None else Prompts.lacking()
