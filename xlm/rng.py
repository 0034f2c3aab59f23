"""Addressed randomness: every random decision is keyed by its place in the run.

No state is carried from one decision to the next. A key is the first 8 bytes of SHA-256 over the
parts of an address such as ``(seed, "mlm/ne", epoch, k)``; it keys a counter-based generator
(Philox), of which only the raw 64-bit words are used, so that draws depend neither on a rank, nor
on a position in a list, nor on numpy's choice of samplers.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

Part = int | str


def key(*address: Part) -> int:
    """Return an address's 64-bit key: the first 8 bytes of SHA-256 over its parts (as JSON)."""
    text = json.dumps(address, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


class Random:
    """A random generator keyed by an address; equal addresses give equal draws."""

    def __init__(self, *address: Part):
        self._generator = np.random.Philox(key=key(*address))

    def words(self, num: int) -> NDArray[np.uint64]:
        """Return ``num`` raw 64-bit words."""
        return np.asarray(self._generator.random_raw(num), dtype=np.uint64)

    def uniform(self, num: int) -> NDArray[np.float64]:
        """Return ``num`` doubles in [0, 1), multiples of 2**-53."""
        return np.asarray((self.words(num) >> np.uint64(11)) * 2.0**-53, dtype=np.float64)

    def integers(self, num: int, bound: int) -> NDArray[np.int64]:
        """Return ``num`` integers in [0, bound); the bias, bound * 2**-53, is negligible."""
        return (self.uniform(num) * bound).astype(np.int64)

    def exponential(self, num: int) -> NDArray[np.float64]:
        """Return ``num`` standard exponentials, for exact weighted sampling without replacement."""
        return np.asarray(-np.log1p(-self.uniform(num)), dtype=np.float64)

    def choice(self, probabilities: NDArray[np.float64], num: int) -> NDArray[np.int64]:
        """Return ``num`` indices drawn with replacement by ``probabilities`` (float64 ``[K]``)."""
        steps = np.cumsum(probabilities)
        drawn = np.searchsorted(steps, self.uniform(num) * steps[-1], side="right")
        return np.asarray(drawn, dtype=np.int64)


def uniform_at(positions: NDArray[np.int64], *address: Part) -> NDArray[np.float64]:
    """Return a double in [0, 1) for each position, which depends on it and the address alone."""
    keys = Random(*address).words(2)
    words = _mix(_mix(np.asarray(positions).astype(np.uint64) ^ keys[0]) ^ keys[1])
    return np.asarray((words >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


class Permutation:
    """A pseudo-random permutation of ``range(size)`` in O(1) memory, any position at once.

    A Feistel network over the smallest even-bit domain that holds ``size``, walked along its cycles
    until it falls inside; the round functions are a 64-bit mixer keyed by the address.
    """

    NUM_ROUNDS = 8

    def __init__(self, size: int, *address: Part):
        self.size = size
        bits = max(int(size - 1).bit_length(), 6)
        self._half = np.uint64((bits + 1) // 2)
        self._mask = np.uint64((1 << int(self._half)) - 1)
        self._keys = Random(*address).words(self.NUM_ROUNDS)

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the images of ``positions`` (int64, each in ``range(size)``)."""
        at = np.asarray(positions).astype(np.uint64)
        if at.size and int(at.max()) >= self.size:
            raise IndexError(f"position {int(at.max())} is outside of a permutation of {self.size}")
        at = self._encrypt(at)
        outside = np.flatnonzero(at >= self.size)
        while outside.size:
            at[outside] = self._encrypt(at[outside])
            outside = outside[at[outside] >= self.size]
        return at.astype(np.int64)

    def _encrypt(self, at: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = at >> self._half, at & self._mask
        for round_key in self._keys:
            left, right = right, left ^ (_mix(right ^ round_key) & self._mask)
        return (left << self._half) | right


class BlockedPermutation:
    """The permutation of each epoch, whose images are computed a block of places at a time.

    A call of ``Permutation`` costs a third of a millisecond, however few places it is asked for;
    places that are asked for one after another share it here. ``address`` is followed by the epoch.
    Blocks that were used last are kept, by one thread or several.
    """

    BLOCK = 4096
    MOST_KEPT = 4

    def __init__(self, size: int, *address: Part):
        self.size, self.address = size, address
        self._blocks: dict[tuple[int, int], NDArray[np.int64]] = {}

    def __call__(self, epoch: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the images of ``places`` (int64, each in ``range(size)``) in ``epoch``."""
        blocks = places // self.BLOCK
        found = np.empty_like(places)
        for block in dict.fromkeys(blocks.tolist()):
            here = blocks == block
            found[here] = self._block(epoch, block)[places[here] - block * self.BLOCK]
        return found

    def _block(self, epoch: int, block: int) -> NDArray[np.int64]:
        images = self._blocks.pop((epoch, block), None)
        if images is None:
            first = block * self.BLOCK
            places = np.arange(first, min(first + self.BLOCK, self.size))
            images = Permutation(self.size, *self.address, epoch)(places)
        self._blocks[epoch, block] = images  # the newest stands last
        for oldest in list(self._blocks)[: -self.MOST_KEPT]:
            self._blocks.pop(oldest, None)
        return images


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return words mixed by the finalizer of SplitMix64 (Steele, Lea and Flood 2014).

    Every input bit affects every output bit.
    """
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
