"""Imported BERT and XLM-R models under our objectives, with their own tokenizers and layouts."""

import numpy as np
import pytest
import torch

from tests.interchange import peers
from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus
from xlm.data.pairs import Pairs
from xlm.interchange.transformers.bert import read_transformers_bert
from xlm.interchange.transformers.roberta import read_transformers_roberta
from xlm.objectives.masked import MaskedLM
from xlm.rng import Random
from xlm.tasks.classification import Classification
from xlm.tasks.task import Files

transformers = pytest.importorskip("transformers")
TEXTS = [text for text in peers.lines() if len(text) < 160]
FIRSTS, SECONDS = TEXTS[:24], TEXTS[-24:]
LABELS = ["no", "yes"]


@pytest.fixture(params=["bert", "xlm-roberta"])
def imported(request, tmp_path):
    """A random peer, read, and transformers' own tokenizer of it."""
    sizes = {"max_position_embeddings": 200, **peers.SIZES}
    if request.param == "bert":
        config = transformers.BertConfig(vocab_size=700, **sizes)
        peer = peers.shake(transformers.BertForMaskedLM(config))
        files = {"vocab__txt": peers.wordpieces()}
        files["tokenizer_config__json"] = {"do_lower_case": False}
        read, kind = read_transformers_bert, transformers.BertTokenizer
    else:
        config = transformers.XLMRobertaConfig(vocab_size=702, type_vocab_size=1, **sizes)
        peer = peers.shake(transformers.XLMRobertaForMaskedLM(config))
        files = {"sentencepiece__bpe__model": peers.unigram()}
        read, kind = read_transformers_roberta, transformers.XLMRobertaTokenizer
    peer.save_pretrained(tmp_path)
    peers.write(tmp_path, **files)
    return read(tmp_path), kind.from_pretrained(tmp_path), peer


def corpora(tokenizer):
    def made(texts, language):
        rows = [np.array(tokenizer.encode(text)) for text in texts]
        return Corpus.from_sentences(rows, language=language, tokenizer=tokenizer, words=900)

    sides = made(FIRSTS, "en"), made(SECONDS, "ne")
    return Corpora(
        tokenizer,
        ["en", "ne"],
        texts={("train", "en"): sides[0], ("train", "ne"): sides[1]},
        pairs={("train", "en-ne"): Pairs(*sides)},
    )


def batches(objective, made):
    for stream in objective.streams("objective", made, seed=0):
        for k in range(min(stream.num_batches, 3)):
            yield objective.collate(stream.examples(k), Random(0, k), train=True)


@pytest.mark.parametrize(
    "objective",
    [
        MaskedLM(languages=["en", "ne"], rows=4, length=48),
        MaskedLM(pairs=["en-ne"], tokens=900, length=190, num_lengths=3, layout="merged"),
    ],
    ids=["text", "pairs"],
)
def test_masked_updates(imported, objective):
    model, _, peer = imported
    network, tokenizer = model.transformer, model.tokenizer
    given = list(batches(objective, corpora(tokenizer)))
    assert any((batch.tokens == tokenizer.mask_id).any() for batch in given)
    two = tokenizer.num_segments == 2
    for batch in given:  # the peer finds the same loss
        real = batch.targets != -100
        cells = batch.predict[real]
        inputs = peers.feed(batch, token_types=two)
        with torch.no_grad():
            logits = peer(**inputs).logits.flatten(0, 1)[cells]
            expected = torch.nn.functional.cross_entropy(
                logits, batch.targets[real], reduction="sum"
            )
            found = objective.loss(network, None, batch)
        assert found.count == int(real.sum()) > 0
        assert float(found.total) == pytest.approx(float(expected), rel=1e-4)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    before = after = 0.0
    for batch in given:
        optimizer.zero_grad()
        found = objective.loss(network, None, batch)
        (found.total / found.count).backward()
        optimizer.step()
        with torch.no_grad():
            before += float(found.total)
            after += float(objective.loss(network, None, batch).total)
    assert after < before
    assert network.encoder.output_transform.dense.weight.grad.abs().sum() > 0


def test_classification_of_pairs(imported, tmp_path):
    model, theirs, _ = imported
    rows = [f"{LABELS[len(a) % 2]}\t{a}\t{b}" for a, b in zip(FIRSTS, SECONDS, strict=True)]
    path = tmp_path / "pairs.tsv"
    path.write_text("\n".join(["label\tpremise\thypothesis", *rows]) + "\n", encoding="utf-8")
    objective = Classification(
        files=Files(train={"en": str(path)}), format="nli", labels=LABELS, rows=4, length=190,
        num_lengths=3,
    )  # fmt: skip
    torch.manual_seed(0)
    head = objective.head(model.transformer.config)
    for batch in batches(objective, corpora(model.tokenizer)):
        for row, example in enumerate(batch.rows.tolist()):
            pair = theirs(FIRSTS[example], SECONDS[example])
            length = int(batch.lengths[row])
            assert batch.tokens[row, :length].tolist() == pair["input_ids"]
            if "token_type_ids" in pair:
                assert batch.segments[row, :length].tolist() == pair["token_type_ids"]
        found = objective.loss(model.transformer, head, batch)
        assert found.count == len(batch.rows)
        assert 0 < float(found.total.detach()) < float("inf")
        found.total.backward()
    assert model.transformer.encoder.words.weight.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in head.parameters())
