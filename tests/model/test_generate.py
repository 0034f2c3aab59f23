"""Generation against decoding without a cache, brute force, and what the original decoded."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from xlm.batch import Batch
from xlm.errors import ConfigError
from xlm.interchange.original.checkpoint import read_original
from xlm.model.config import ModelConfig
from xlm.model.generate import Generated, Generation, generate
from xlm.model.transformer import Transformer

END, PAD = 1, 2
BESIDE = Path(__file__).parents[2].parent / "shared" / "golden"
GOLDEN = Path(os.environ.get("XLM_GOLDEN", BESIDE))
needs_golden = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason=f"the original's figures are not at {GOLDEN} (set XLM_GOLDEN)"
)


def tiny(vocab_size=23, seed=0, sharpness=3.0, **fields):
    """An encoder-decoder in float64 whose next tokens are far from equally likely."""
    torch.manual_seed(seed)
    config = ModelConfig(
        dim=16, num_layers=2, num_heads=2, num_decoder_layers=2, max_positions=40, **fields
    )
    model = Transformer(config, vocab_size=vocab_size, num_languages=3, pad_id=PAD).double()
    with torch.no_grad():
        model.decoder.words.weight.mul_(sharpness)
        model.decoder.output_bias[END] += 1.0  # some rows end early, others late
    return model.eval()


def rows_of(lengths, vocab_size=23, seed=0, language=0):
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    tokens = torch.randint(
        min(4, vocab_size - 1), vocab_size, (len(lengths), longest), generator=generator
    )
    for row, length in enumerate(lengths):
        tokens[row, 0] = tokens[row, length - 1] = END
        tokens[row, length:] = PAD
    return source_of(tokens, torch.tensor(lengths), language)


def source_of(tokens, lengths, language=0):
    nothing = torch.zeros(0, dtype=torch.int64)
    return Batch(
        tokens=tokens, positions=torch.arange(tokens.shape[1]).expand_as(tokens),
        langs=torch.full_like(tokens, language), segments=torch.zeros_like(tokens),
        lengths=lengths, rows=torch.arange(len(lengths)), predict=nothing, targets=nothing,
    )  # fmt: skip


def one_row(source, row):
    length = int(source.lengths[row])
    return source_of(source.tokens[row : row + 1, :length], source.lengths[row : row + 1])


class Plain:
    """The next token's log-probabilities by decoding the whole prefix anew, one row, no cache."""

    def __init__(self, model, source, language):
        self.model, self.lengths, self.language = model, source.lengths, language
        self.memory = model.encode(source.tokens, source.lengths, langs=source.langs)

    @torch.no_grad()
    def __call__(self, prefix):
        tokens = torch.tensor([prefix])
        hidden = self.model.decode(
            tokens, torch.tensor([len(prefix)]), self.memory, self.lengths,
            langs=torch.full_like(tokens, self.language),
        )  # fmt: skip
        logits = self.model.predict(hidden, torch.tensor([len(prefix) - 1]), side="decoder")
        return logits[0].log_softmax(-1)


def greedy_plainly(following, limit):
    tokens, total = [END], 0.0
    while True:
        logs = following(tokens)
        word = int(logs.argmax())
        total += float(logs[word])
        if word == END or len(tokens) + 1 == limit:
            return tokens, total
        tokens = [*tokens, word]


def beam_plainly(following, limit, settings):
    """The rule of docs/fidelity.md, B9, in loops over lists."""
    width, beams, closed = settings.beam, [([END], 0.0)], []
    while True:
        candidates = [
            (total + float(log), tokens, word)
            for tokens, total in beams
            for word, log in enumerate(following(tokens))
        ]
        candidates = sorted(candidates, key=lambda found: -found[0])[: 2 * width]
        length = len(beams[0][0])
        if len(closed) >= width:
            best = candidates[0][0] / (limit - 1) ** settings.length_penalty
            if settings.early_stopping or closed[width - 1][0] >= best:
                return closed
        beams = []
        for total, tokens, word in candidates:
            if word == END or length + 1 == limit:
                closed.append((total / length**settings.length_penalty, tokens))
            else:
                beams.append(([*tokens, word], total))
            if len(beams) == width:
                break
        closed = sorted(closed, key=lambda found: -found[0])[:width]
        if length + 1 == limit:
            return closed


LENGTHS = [3, 9, 5, 2, 12, 7]
SETTINGS = [
    Generation(beam=beam, length_penalty=penalty, early_stopping=early, ratio=1.0, extra=6)
    for beam, penalty, early in itertools.product((2, 5), (0.0, 0.6, 1.4), (False, True))
]


def found_in(generated, row):
    return list(zip(generated.texts(row), generated.scores[row].tolist(), strict=False))


SHAPES = [
    {"positions": "rotary"},
    {"positions": "sinusoidal", "norm": "pre", "embedding_scale": True},
    {"positions": "rotary", "norm": "pre", "norm_kind": "rms", "qk_norm": True,
     "activation": "swiglu", "biases": False, "output_transform": True},
    {"positions": "rotary", "window": 4, "global_every": 2, "local_rotary_base": 20.0},
    {"shared_words": True, "positions": "rotary"},
]  # fmt: skip


@pytest.mark.parametrize("fields", [{}, *SHAPES])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_greedy_with_a_cache_is_greedy_without(seed, fields):
    model, source = tiny(seed=seed, **fields), rows_of(LENGTHS, seed=seed)
    settings = Generation(ratio=1.0, extra=6)
    generated = generate(
        model, source, torch.full((len(LENGTHS),), 2), end_id=END, settings=settings
    )
    for row, length in enumerate(LENGTHS):
        tokens, total = greedy_plainly(Plain(model, one_row(source, row), 2), length + 6)
        assert generated.texts(row) == [tokens[1:]]
        assert generated.scores[row, 0].item() == pytest.approx(total / len(tokens), abs=1e-10)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_beam_search_with_a_cache_is_the_search_without(settings):
    model, source = tiny(), rows_of(LENGTHS)
    generated = generate(
        model, source, torch.full((len(LENGTHS),), 1), end_id=END, settings=settings
    )
    for row, length in enumerate(LENGTHS):
        expected = beam_plainly(Plain(model, one_row(source, row), 1), length + 6, settings)
        assert generated.texts(row) == [tokens[1:] for _, tokens in expected]
        scores = [score for score, _ in expected]
        np.testing.assert_allclose(generated.scores[row], scores, atol=1e-10)


@pytest.mark.parametrize("beam", [1, 4])
def test_a_row_gives_the_same_alone_and_in_any_batch(beam):
    model, source = tiny(seed=3), rows_of([*LENGTHS, 15, 4, 4], seed=3)
    langs = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2])
    settings = Generation(beam=beam)
    together = generate(model, source, langs, end_id=END, settings=settings)
    shuffled = torch.tensor([7, 2, 5, 0, 8, 1, 3, 6, 4])
    other = generate(
        model, source_of(source.tokens[shuffled], source.lengths[shuffled]), langs[shuffled],
        end_id=END, settings=settings,
    )  # fmt: skip
    for place, row in enumerate(shuffled.tolist()):
        alone = generate(
            model, one_row(source, row), langs[row : row + 1], end_id=END, settings=settings
        )
        assert together.texts(row) == alone.texts(0) == other.texts(place)
        torch.testing.assert_close(together.scores[row], alone.scores[0], atol=1e-10, rtol=0)


@pytest.mark.parametrize("every", [2, 3, 50])
def test_looking_seldom_for_rows_that_have_ended_changes_nothing(every, monkeypatch):
    """Tokens after an end are neither kept nor counted; K opening ids, limits of each row."""
    model, source = tiny(seed=0), rows_of([*LENGTHS, 15, 4, 4], seed=0)
    with torch.no_grad():
        model.decoder.output_bias[END] -= 4  # else every row ends at once
    begin, langs = torch.tensor([[END, 7]]).expand(9, 2), torch.tensor([0, 1, 2] * 3)
    settings = Generation(ratio=1.0, extra=6, length_penalty=0.5)
    found = []
    for looks in (1, every):
        monkeypatch.setattr("xlm.model.generate.tokens_between_looks", lambda device, n=looks: n)
        for opening in (None, begin):
            found.append(
                generate(model, source, langs, end_id=END, settings=settings, begin=opening)
            )
    assert len(set(found[0].lengths[:, 0].tolist())) > 3
    for one, two in zip(found[:2], found[2:], strict=True):
        assert torch.equal(one.tokens, two.tokens) and torch.equal(one.lengths, two.lengths)
        torch.testing.assert_close(one.scores, two.scores, atol=1e-12, rtol=0)


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_wide_beam_finds_the_best_of_all_sequences(seed, penalty):
    """With a beam that holds every prefix nothing is pruned: brute force over a vocabulary of 4."""
    model, source = tiny(vocab_size=4, seed=seed, sharpness=2.0), rows_of([3], 4, seed=seed)
    limit, following = 5, Plain(model, rows_of([3], 4, seed=seed), 1)
    scores = {}
    for length in range(1, limit):
        for middle in itertools.product([0, 2, 3], repeat=length - 1):
            tokens, total = [END], 0.0
            for word in middle:
                total += float(following(tokens)[word])
                tokens.append(word)
            logs = following(tokens)
            # at the limit any last token closes, the likeliest being the best of them
            last = logs.max() if length == limit - 1 else logs[END]
            scores[tuple(middle)] = (total + float(last)) / length**penalty
    best = max(scores, key=scores.__getitem__)
    settings = Generation(beam=4**limit, length_penalty=penalty)
    generated = generate(
        model, source, torch.tensor([1]), end_id=END, settings=settings,
        limits=torch.tensor([limit]),
    )  # fmt: skip
    assert generated.texts(0)[0] == list(best)
    assert generated.scores[0, 0].item() == pytest.approx(scores[best], abs=1e-10)


def test_sampling_draws_by_the_models_probabilities():
    model, row = tiny(seed=5), rows_of([6], seed=5)
    num = 4000
    source = source_of(row.tokens.expand(num, -1), row.lengths.expand(num))
    torch.manual_seed(0)
    settings = Generation(sample=True, temperature=1.5)
    drawn = generate(
        model, source, torch.ones(num, dtype=torch.int64), end_id=END, settings=settings,
        limits=torch.full((num,), 3),
    )  # fmt: skip
    logits = Plain(model, row, 1)([END]) / 1.5
    expected = logits.softmax(-1) * num
    first = torch.bincount(drawn.tokens[:, 0, 1], minlength=23).double()
    likely = expected > 5
    square = ((first - expected) ** 2 / expected)[likely].sum()
    from scipy.stats import chi2

    assert chi2.sf(float(square), int(likely.sum()) - 1) > 0.001
    torch.manual_seed(0)
    again = generate(
        model, source, torch.ones(num, dtype=torch.int64), end_id=END, settings=settings,
        limits=torch.full((num,), 3),
    )  # fmt: skip
    assert torch.equal(drawn.tokens, again.tokens)


def test_generation_leaves_mode_and_gradients_alone():
    model, source = tiny().train(), rows_of([4, 6])
    generated = generate(
        model, source, torch.tensor([0, 1]), end_id=END, settings=Generation(beam=2)
    )
    assert model.training and model.decoder.training
    assert not generated.scores.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_shape_of_what_is_generated():
    generated = generate(
        tiny(), rows_of(LENGTHS), torch.zeros(len(LENGTHS), dtype=torch.int64), end_id=END,
        settings=Generation(beam=3),
    )  # fmt: skip
    assert isinstance(generated, Generated) and generated.tokens.shape[:2] == (len(LENGTHS), 3)
    for row in range(len(LENGTHS)):
        for tokens, length in zip(generated.tokens[row], generated.lengths[row], strict=True):
            assert tokens[0] == END and tokens[length - 1] == END
            assert (tokens[length:] == PAD).all() and (tokens[1 : length - 1] != END).all()
    assert (generated.scores.diff(dim=1) <= 0).all()


def test_settings_that_cannot_be():
    for wrong in (
        {"beam": 0}, {"beam": 2, "sample": True}, {"length_penalty": -1.0},
        {"length_penalty": 1e300}, {"temperature": 0.5},
        {"sample": True, "temperature": 0.0}, {"ratio": 0.0, "extra": 0}, {"extra": -1},
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            Generation(**wrong)
    encoder = Transformer(ModelConfig(preset="tiny"), vocab_size=9, num_languages=1, pad_id=PAD)
    with pytest.raises(ConfigError, match="no decoder"):
        generate(encoder, rows_of([3]), torch.tensor([0]), end_id=END, settings=Generation())


def decodings():
    if not GOLDEN.is_dir():
        return []
    content = json.loads((GOLDEN / "mt/decode.json").read_text(encoding="utf-8"))
    return [(batch, entry) for batch, several in content.items() for entry in several]


@needs_golden
@pytest.mark.parametrize(
    "batch, entry", decodings(), ids=lambda v: v["array"] if "array" in v else v
)
def test_the_originals_decodings(batch, entry):
    """Token for token, and the scores of the beams' hypotheses to 1e-4."""
    model = golden_model()
    with np.load(GOLDEN / "mt/forward_and_decode.npz") as arrays:
        tokens = torch.from_numpy(arrays[f"{batch}.source"]).T.long()
        lengths = torch.from_numpy(arrays[f"{batch}.source_lengths"]).long()
        expected = torch.from_numpy(arrays[f"{entry['array']}.tokens"]).T.long()
        expected_lengths = torch.from_numpy(arrays[f"{entry['array']}.lengths"]).long()
    languages = {"en": 0, "fr": 1, "hi": 2}
    source = source_of(tokens, lengths, languages[entry["source_language"]])
    settings = Generation(
        beam=entry.get("beam_size", 1), length_penalty=entry.get("length_penalty", 1.0),
        early_stopping=entry.get("early_stopping", False),
    )  # fmt: skip
    num = len(lengths)
    generated = generate(
        model, source, torch.full((num,), languages[entry["target_language"]]), end_id=END,
        settings=settings, limits=torch.full((num,), entry["max_len"]),
    )  # fmt: skip
    assert torch.equal(generated.lengths[:, 0], expected_lengths)
    for row, length in enumerate(expected_lengths.tolist()):
        assert torch.equal(generated.tokens[row, 0, :length], expected[row, :length])
    for row, hypotheses in enumerate(entry.get("hypotheses", [])):
        assert generated.texts(row) == [found["tokens"][1:] for found in hypotheses]
        scores = [found["score"] for found in hypotheses]
        np.testing.assert_allclose(generated.scores[row], scores, atol=1e-4)


_MODELS = {}


def golden_model():
    if not _MODELS:
        read = read_original(GOLDEN / "mt/periodic-8.pth", codes=GOLDEN / "data/codes")
        _MODELS["mt"] = read.transformer.eval()
    return _MODELS["mt"]


@pytest.mark.parametrize(("ratio", "extra"), [(1.3, 5), (1.5, 10), (0.0, 1), (2.7, 0)])
def test_the_limit_of_one_length_is_that_of_a_batch(ratio: float, extra: int) -> None:
    settings = Generation(ratio=ratio, extra=extra)
    lengths = torch.arange(300)
    found = [settings.limit(length, 256) for length in lengths.tolist()]
    assert found == settings.limits(lengths, 256).tolist()
