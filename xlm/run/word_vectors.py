"""Words that start from skip-gram vectors, and those of a further language mapped onto them.

The baseline CLWE of MonoTrans (Artetxe et al. 2020, section 3.1): vectors of each language's pieces
are learned apart, those of the new language are mapped onto the model's, and the body is pretrained
on the model's, which are frozen (``xlm.analysis.skip_gram``, ``xlm.analysis.mapping``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xlm.analysis.mapping import learn_map, normalized
from xlm.analysis.skip_gram import SkipGram, learn_vectors
from xlm.data.corpora import Corpora
from xlm.errors import ConfigError
from xlm.model.table_starts import equal_pieces

MOST_LINES = 200_000
"""Lines of a language's text that vectors of its pieces are learned on."""


def vectors_of(
    names: Sequence[str], corpora: Corpora, seed: int, settings: SkipGram | None = None
) -> NDArray[np.float32]:
    """Return vectors of the pieces of one vocabulary, float32 ``[V, D]``, learned on its text.

    ``names`` are languages of that vocabulary. Rows of symbols and of rare pieces are zeros.
    """
    tokenizer = corpora.tokenizer_of(names[0])
    special = np.array(sorted(tokenizer.special_ids))
    plain: list[NDArray[np.int64]] = []
    for name in names:
        text = corpora.text("train", name)
        for at in range(min(len(text), MOST_LINES)):
            line = text.sentence(at)
            plain.append(np.asarray(line[~np.isin(line, special)], dtype=np.int64))
    with torch.enable_grad():  # a run starts without
        vectors: NDArray[np.float32] = learn_vectors(
            plain, tokenizer.vocab_size, settings, seed=seed
        )
    return vectors


def start_words(words: Tensor, corpora: Corpora, seed: int) -> int:
    """Fill the words ``[V, D]`` of the first vocabulary with vectors; return their number.

    The rows are as long as the drawn ones were, in the mean. Pieces that do not occur keep theirs.
    Raises ConfigError if the vocabulary has no text.
    """
    names = [n for n in corpora.own_languages if n in corpora.names("train")["texts"]]
    if not names:
        raise ConfigError("word_vectors is true, and data has no training text to learn them on")
    vectors = vectors_of(names, corpora, seed, SkipGram(dim=words.shape[1], min_count=1))
    found = np.flatnonzero(np.abs(vectors).sum(1))
    with torch.no_grad():
        length = float(words[torch.from_numpy(found)].norm(dim=1).mean())
        rows = length * normalized(vectors[found])
        words[torch.from_numpy(found)] = torch.from_numpy(rows).to(words)
    return len(found)


def map_words(words: Tensor, name: str, old: Tensor, corpora: Corpora, seed: int) -> list[int]:
    """Fill a table's words with vectors of its pieces, mapped onto the model's; return their ids.

    ``words`` ``[V here, D]``, ``old`` ``[V there, D]``. The map is orthogonal and learns by itself
    from equal pieces, or from no seed if there are none; mean and length are those of the old rows.
    """
    here, there = corpora.tokenizer_of(name), corpora.tokenizer
    vectors = vectors_of([name], corpora, seed, SkipGram(dim=words.shape[1], min_count=1))
    counts = corpora.counts(name)
    occurring = np.flatnonzero(np.abs(vectors).sum(1))
    # the map wants the frequent ones first; ids of learned vocabularies are in that order
    new_ids = occurring[np.argsort(-counts[occurring], kind="stable")]
    old_ids = np.array([at for at in range(there.vocab_size) if at not in there.special_ids])
    target = old.detach().double().cpu().numpy()[old_ids]
    places = ({int(at): row for row, at in enumerate(ids)} for ids in (new_ids, old_ids))
    of_new, of_old = places
    equal = [
        (of_new[at], of_old[row])
        for at, row in equal_pieces(here, there).items()
        if at in of_new and row in of_old
    ]
    pairs = np.array(equal, dtype=np.int64) if equal else None
    found = learn_map(vectors[new_ids], target, pairs, seed=seed)
    middle = target.mean(0)
    length = float(np.linalg.norm(target - middle, axis=1).mean())
    rows = length * (normalized(vectors[new_ids]) @ found.matrix) + middle
    with torch.no_grad():
        words[torch.from_numpy(new_ids)] = torch.from_numpy(rows).to(words)
    return [int(at) for at in new_ids]
