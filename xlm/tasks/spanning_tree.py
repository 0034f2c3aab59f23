"""The best dependency tree of a matrix of arc scores (Chu-Liu and Edmonds).

A sentence of n words has its root at 0 and its words at 1 to n. ``heads`` int64 ``[n]`` holds, for
words 1 to n in order, the number of the head (0: the root).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xlm.errors import ConfigError, DataError, TrainingError
from xlm.metrics.attachment import Heads

_NO_ARC = -1e15  # below the sum of any tree's penalties, and exact in float64


def maximum_tree(scores: NDArray[np.floating], *, single_root: bool = True) -> Heads:
    """Return the heads int64 ``[n]`` of the tree with the greatest sum of arc scores.

    ``scores`` ``[n, n + 1]``: row i is word i + 1, column j the head j (0: the root); a word's arc
    to itself is never looked at, and -inf forbids an arc. ``single_root`` demands exactly one word
    under the root, as Universal Dependencies does; without it there may be several. Chu-Liu and
    Edmonds' algorithm, grown as a path, O(n^2) for numpy and O(n) steps of Python. Raises
    ConfigError for another shape, TrainingError for NaN or +inf, DataError if the arcs that are
    allowed form no tree.
    """
    num_words = len(scores)
    if scores.shape != (num_words, num_words + 1):
        raise ConfigError(
            f"arc scores of shape {list(scores.shape)}: expected [n, n + 1], a row per word "
            "and a column per head, with the root first"
        )
    if np.isnan(scores).any() or np.isposinf(scores).any():
        raise TrainingError(
            "arc scores contain NaN or +inf: the model diverged; lower its learning rate"
        )
    heads = _Contraction(_penalized(scores, single_root)).heads()
    if np.isneginf(scores[np.arange(num_words), heads]).any():
        raise DataError(f"no tree over {num_words} words uses only allowed arcs")
    if single_root and num_words and np.count_nonzero(heads == 0) != 1:
        raise DataError(
            f"no tree over {num_words} words has a single root and uses only allowed arcs"
        )
    return heads


def _penalized(scores: NDArray[np.floating], single_root: bool) -> NDArray[np.complex128]:
    """Return arcs ``[n + 1, n + 1]`` as (penalty, score): numpy orders complex numbers so, exactly.

    A tree avoids forbidden arcs first, second arcs from the root next, and has the greatest score
    among those. Large constants in one float would cost the scores their last digits.
    """
    num_words = len(scores)
    penalty = np.zeros((num_words + 1, num_words + 1))
    value = np.zeros((num_words + 1, num_words + 1))
    value[1:] = np.where(np.isneginf(scores), 0.0, scores)
    penalty[1:, 0] = -float(single_root)
    penalty[1:] -= np.where(np.isneginf(scores), num_words + 1.0, 0.0)
    penalty[0] = _NO_ARC
    np.fill_diagonal(penalty, _NO_ARC)
    return penalty + 1j * value


class _Contraction:
    """Cycles are contracted to new nodes until the best arcs form a tree, then taken apart.

    Nodes 0 to n are the sentence's, later ones are contracted cycles. ``arcs[v, u]`` is what the
    best arc from u's inside to v's inside adds, ``ends[v, u]`` the word and head it joins.
    """

    def __init__(self, arcs: NDArray[np.complex128]):
        num = len(arcs)
        most = max(2 * num - 1, 1)
        self.num = num
        self.arcs = np.full((most, most), complex(_NO_ARC))
        self.arcs[:num, :num] = arcs
        self.words = np.zeros((most, most), dtype=np.int64)
        self.words[:num, :num] = np.arange(num)[:, None]
        self.sources = np.zeros((most, most), dtype=np.int64)
        self.sources[:num, :num] = np.arange(num)[None, :]
        self.parents = np.full(most, -1, dtype=np.int64)
        self.chosen = np.zeros((most, 2), dtype=np.int64)  # word and head of the arc into a node
        self.gains = np.zeros(most, dtype=np.complex128)
        self.num_nodes = num

    def heads(self) -> Heads:
        """Return the heads of words 1 to n."""
        done = np.zeros(len(self.arcs), dtype=bool)
        done[0] = True
        for start in range(1, self.num):
            node = self._outermost(start)
            if done[node]:
                continue
            path: list[int] = [node]
            while True:
                source = self._choose(path[-1])
                if done[source]:
                    break
                if source in path:
                    cut = path.index(source)
                    path[cut:] = [self._contract(path[cut:])]
                else:
                    path.append(source)
            done[path] = True
        return self._expand()

    def _outermost(self, node: int) -> int:
        while self.parents[node] >= 0:
            node = int(self.parents[node])
        return node

    def _choose(self, node: int) -> int:
        source = int(np.argmax(self.arcs[node, : self.num_nodes]))
        self.gains[node] = self.arcs[node, source]
        self.chosen[node] = self.words[node, source], self.sources[node, source]
        return source

    def _contract(self, cycle: list[int]) -> int:
        new, inside = self.num_nodes, np.array(cycle)
        self.num_nodes += 1
        self.parents[inside] = new
        others = np.arange(new)
        entering = self.arcs[inside, :new] - self.gains[inside][:, None]
        best = inside[entering.argmax(0)]
        self.arcs[new, :new] = entering.max(0)
        self.words[new, :new] = self.words[best, others]
        self.sources[new, :new] = self.sources[best, others]
        best = inside[self.arcs[:new, inside].argmax(1)]
        self.arcs[:new, new] = self.arcs[others, best]
        self.words[:new, new] = self.words[others, best]
        self.sources[:new, new] = self.sources[others, best]
        self.arcs[:, inside] = _NO_ARC  # from now on they are reached through the new node alone
        return new

    def _expand(self) -> Heads:
        """Expand from the outside in: the arc into a cycle replaces one of the cycle's own."""
        heads = np.zeros(self.num, dtype=np.int64)
        entered = np.zeros(self.num_nodes, dtype=bool)
        for node in range(self.num_nodes - 1, 0, -1):
            if entered[node]:
                continue
            word, head = self.chosen[node]
            heads[word] = head
            inner = int(word)
            while inner != node:
                entered[inner] = True
                inner = int(self.parents[inner])
        return heads[1:]
