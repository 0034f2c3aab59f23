"""Small corpora in memory, and a small model, for objectives."""

from __future__ import annotations

import numpy as np
import torch

from tests.data.fakes import WordTokenizer, random_sentences
from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus
from xlm.data.pairs import Pairs
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer
from xlm.rng import Random

TOKENIZER = WordTokenizer(60)
END, PAD, MASK = TOKENIZER.end_id, TOKENIZER.pad_id, TOKENIZER.mask_id


def corpus(sentences, language):
    """In memory; its words are fewer than its tokens, in each language by another factor."""
    num = sum(len(row) + 1 for row in sentences)
    words = num * (2 if language == "en" else 3) // 4
    return Corpus.from_sentences(sentences, language=language, tokenizer=TOKENIZER, words=words)


def sentences(num, seed, shortest=1, longest=9):
    """Random sentences whose ids follow a law as steep as that of text."""
    random = np.random.default_rng(seed)
    rows = random_sentences(random.integers(shortest, longest + 1, num).tolist(), seed, 60)
    return [14 + (row - 14) ** 2 // 46 for row in rows]


def corpora(train=40, valid=13):
    """Text of en and ne, and pairs of them, in both splits; ``ne`` is id 1."""
    texts, pairs = {}, {}
    for split, num, seed in (("train", train, 10), ("valid", valid, 20)):
        en, ne = (sentences(num, seed + side) for side in (0, 1))
        texts[split, "en"], texts[split, "ne"] = corpus(en, "en"), corpus(ne, "ne")
        pairs[split, "en-ne"] = Pairs(corpus(en, "en"), corpus(ne, "ne"))
    return Corpora(TOKENIZER, ["en", "ne"], texts=texts, pairs=pairs)


def model(seed=0, **changes):
    """In float64, without dropout, and with an output bias, which starts at 0."""
    torch.manual_seed(seed)
    sizes = {"dim": 16, "num_layers": 2, "num_heads": 2, "dropout": 0.0, "attention_dropout": 0.0}
    made = Transformer(
        ModelConfig(**(sizes | changes)), vocab_size=60, num_languages=2, pad_id=PAD
    ).double()
    return made.eval()


def real(batch):
    """``predict`` and ``targets`` without what only fills them."""
    kept = batch.targets != -100
    return batch.predict[kept].tolist(), batch.targets[kept].tolist()


def batches_of(objective, own, split, at=0):
    """Every micro-batch of a pass over a stream, with the stream."""
    found = objective.streams("o", own, seed=0, split=split)[at]
    for k in range(found.num_batches):
        train = split == "train"
        yield found, objective.collate(found.examples(k), Random(0, k), train=train)
