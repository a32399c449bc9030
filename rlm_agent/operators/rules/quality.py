"""The quality of a chain so far: what ReST-MCTS* trains its values on (Zhang et al., arXiv 2406.03816)."""


def quality_value(previous: float, missing_steps: int, wrong: float) -> float:
    """The quality v_k of k steps, in [0, 1], on which the paper's value model is trained; that of none is 0.

    v_k = max(v_{k−1} + w, 0), w = (1 − v_{k−1}) / (m_k + 1) · (1 − 2r), for the quality `previous` of the
    steps before, the number m_k of steps still missing and the probability r that the k-th is wrong.
    """
    weighted = (1 - previous) / (missing_steps + 1) * (1 - 2 * wrong)
    return max(previous + weighted, 0.0)
