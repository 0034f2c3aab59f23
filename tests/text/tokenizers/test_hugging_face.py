"""Tokenizers of the tokenizers library: the ids of transformers' classes, and nothing special."""

import json
import pickle

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, processors, trainers

from tests.interchange import peers
from xlm.errors import DataError
from xlm.text.normalize import normalize
from xlm.text.tokenizers.hugging_face import (
    HuggingFaceTokenizer,
    from_json,
    read_hugging_face,
    transformers_files,
)
from xlm.text.tokenizers.loading import load_tokenizer
from xlm.text.tokenizers.xlm_roberta import XlmRobertaTokenizer, tokenizer_json

transformers = pytest.importorskip("transformers")
ODD = (
    "", "Ünïted Âccents, İstanbul", "中文字 и кириллица", "x" * 120, "naïve—dash…", "🦜 ক",
    "नमस्ते", "it 's [unused1] ##ing", "क़ ख़ ग़",
)  # fmt: skip


def bert(folder, **settings):
    """The same vocabulary for both: transformers' class and ours."""
    settings = {"do_lower_case": False, **settings}
    vocabulary = peers.wordpieces(settings["do_lower_case"])
    peers.write(folder, vocab__txt=vocabulary, tokenizer_config__json=settings)
    return transformers.BertTokenizer.from_pretrained(folder), read_hugging_face(folder)


@pytest.mark.parametrize("settings", [
    {}, {"do_lower_case": True}, {"do_lower_case": True, "strip_accents": False},
    {"strip_accents": True}, {"tokenize_chinese_chars": False},
])  # fmt: skip
def test_a_wordpiece_vocabulary_gives_berts_ids(settings, tmp_path):
    theirs, ours = bert(tmp_path, **settings)
    texts = [*peers.lines(), *map(normalize, ODD)]
    expected = theirs(texts, add_special_tokens=False)["input_ids"]
    assert ours.encode_lines(texts) == expected
    assert ours.vocab_size == 700
    assert list(ours.pieces) == theirs.convert_ids_to_tokens(range(700))


def test_case_matters(tmp_path):
    _, cased = bert(tmp_path / "cased")
    _, lower = bert(tmp_path / "lower", do_lower_case=True)
    assert cased.encode("The THE the") != cased.encode("the the the")
    assert lower.encode("The THE the") == lower.encode("the the the")


def test_case_must_be_stated(tmp_path):
    peers.write(tmp_path, vocab__txt=peers.wordpieces(), tokenizer_config__json={})
    with pytest.raises(DataError, match="do_lower_case None: write"):
        read_hugging_face(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(DataError, match="do_lower_case None: write"):
        read_hugging_face(tmp_path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """transformers' own tokenizer.json of three kinds, each with its class."""
    folder = tmp_path_factory.mktemp("saved")
    theirs, _ = bert(folder / "from-vocab")
    theirs.save_pretrained(folder / "bert")
    peers.write(folder / "spm", sentencepiece__bpe__model=peers.unigram())
    xlm_r = transformers.XLMRobertaTokenizer.from_pretrained(folder / "spm")
    xlm_r.save_pretrained(folder / "xlm-roberta")
    byte_level(folder / "from-merges")
    roberta = transformers.RobertaTokenizer.from_pretrained(folder / "from-merges")
    roberta.save_pretrained(folder / "roberta")
    for pair in peers.GEMMA_PAIRS:
        peers.write(
            folder / f"gemma-{pair}", tokenizer__json=peers.gemma(pair), tokenizer_config__json={
                "tokenizer_class": "PreTrainedTokenizerFast", "cls_token": "<bos>",
                "sep_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>",
                "mask_token": "<mask>", "bos_token": "<bos>", "eos_token": "<eos>",
            },
        )  # fmt: skip
    return folder


def byte_level(folder):
    """RoBERTa's vocab.json and merges.txt."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, show_progress=False, special_tokens=specials, initial_alphabet=alphabet
    )
    backend.train_from_iterator(peers.lines(), trainer)
    folder.mkdir()
    backend.model.save(str(folder))


KINDS = {
    "bert": transformers.BertTokenizer,
    "xlm-roberta": transformers.XLMRobertaTokenizer,
    "roberta": transformers.RobertaTokenizer,
    "gemma-shared": transformers.PreTrainedTokenizerFast,  # mmBERT's
    "gemma-apart": transformers.PreTrainedTokenizerFast,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_json_gives_its_class_s_ids(kind, saved):
    assert (saved / kind / "tokenizer.json").exists()
    theirs, ours = KINDS[kind].from_pretrained(saved / kind), read_hugging_face(saved / kind)
    texts = [*peers.lines(), *map(normalize, ODD)]
    assert ours.encode_lines(texts) == theirs(texts, add_special_tokens=False)["input_ids"]
    for name in ("pad", "unk", "mask"):
        assert getattr(ours, f"{name}_id") == getattr(theirs, f"{name}_token_id")
    assert (ours.begin_id, ours.end_id) == (theirs.cls_token_id, theirs.sep_token_id)
    assert ours.special_ids == set(theirs.all_special_ids)
    assert ours.content == (saved / kind / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_layouts_are_those_of_its_class(kind, saved):
    theirs, ours = KINDS[kind].from_pretrained(saved / kind), read_hugging_face(saved / kind)
    for first, second in (
        ("a cat", "the dog ran"),
        ("", "x"),
        (peers.lines()[3], peers.lines()[500]),
    ):
        a, b = (np.array(ours.encode(text), np.int64) for text in (first, second))
        pair = theirs(first, second, return_token_type_ids=True)
        row = ours.wrap(a, b, "merged")
        assert row.tokens.tolist() == pair["input_ids"]
        assert row.positions.tolist() == list(range(len(row.tokens)))
        assert len(row.tokens) == len(a) + len(b) + ours.num_specials("merged", pair=True)
        types = pair["token_type_ids"]
        assert (row.segments if ours.num_segments == 2 else 0 * row.segments).tolist() == types
        alone = ours.wrap(a, None, "merged")
        assert alone.tokens.tolist() == theirs(first)["input_ids"]
        assert len(alone.tokens) == len(a) + ours.num_specials("merged", pair=False)
    assert ours.num_separators == (2 if "roberta" in kind else 1)
    assert ours.begins_again == (kind == "gemma-apart")


def test_bert_and_xlm_r_written_out(saved):
    a, b = np.array([100, 101]), np.array([102])
    ours = read_hugging_face(saved / "bert").wrap(a, b, "merged")
    assert ours.tokens.tolist() == [3, 100, 101, 4, 102, 4]  # [CLS] a [SEP] b [SEP]
    assert ours.segments.tolist() == [0, 0, 0, 0, 1, 1]
    ours = read_hugging_face(saved / "xlm-roberta").wrap(a, b, "merged")
    assert ours.tokens.tolist() == [0, 100, 101, 2, 2, 102, 2]  # <s> a </s></s> b </s>
    ours = read_hugging_face(saved / "gemma-apart").wrap(a, b, "merged")
    assert ours.tokens.tolist() == [2, 100, 101, 1, 2, 102, 1]  # <bos> a <eos> <bos> b <eos>
    assert ours.segments.tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_vocab_json_and_merges_txt(saved):
    theirs = transformers.RobertaTokenizer.from_pretrained(saved / "from-merges")
    ours = read_hugging_face(saved / "from-merges")
    texts = [*peers.lines(), *map(normalize, ODD)]
    assert ours.encode_lines(texts) == theirs(texts, add_special_tokens=False)["input_ids"]
    assert ours.decode(ours.encode("The cat, ক 🦜")) == "The cat, ক 🦜"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["{}", "a{}b", "{0}{0}", "the {} cat", "{} x", "x {}"])
def test_text_never_becomes_a_special(kind, form, saved):
    ours = read_hugging_face(saved / kind)
    for at in sorted(ours.special_ids):
        found = ours.encode(normalize(form.format(ours.pieces[at])))
        assert found and not set(found) & (ours.special_ids - {ours.unk_id})


@pytest.mark.parametrize("kind", KINDS)
def test_not_even_by_its_inner_name(kind, saved):
    ours = read_hugging_face(saved / kind)
    assert ours.mask_id not in ours.encode(f"a \0{ours.pieces[ours.mask_id]} b")


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_leaves_specials_out(kind, saved):
    ours = read_hugging_face(saved / kind)
    ids = ours.encode("the cat of men")
    assert ours.unk_id not in ids
    row = [ours.begin_id, *ids, ours.mask_id, ours.end_id, ours.pad_id]
    assert ours.decode(row).split() == ["the", "cat", "of", "men"]
    assert ours.decode([]) == ""


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_sent_to_a_worker_it_is_the_same(kind, saved, tmp_path):
    ours = read_hugging_face(saved / kind, vocab_size=1000)
    ours.save(tmp_path)
    for copy in (load_tokenizer(tmp_path), pickle.loads(pickle.dumps(ours))):
        assert type(copy) is HuggingFaceTokenizer
        assert copy.digest == ours.digest and copy.content == ours.content
        assert copy.settings == ours.settings and copy.special_ids == ours.special_ids
        assert copy.encode_lines(peers.lines()) == ours.encode_lines(peers.lines())
    assert ours.digest != read_hugging_face(saved / kind).digest


WORDS_OF_LOST = ["split_special_tokens", "normal form"]


@pytest.mark.parametrize("kind", KINDS)
def test_its_files_are_read_by_transformers(kind, saved, tmp_path):
    ours = read_hugging_face(saved / kind)
    files, lost = transformers_files(ours, 77)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert files["tokenizer.json"] == ours.content
    # XLM-R's own rules bring text into xlm's normal form
    expected = WORDS_OF_LOST[:1] if kind == "xlm-roberta" else WORDS_OF_LOST
    assert [next(word for word in WORDS_OF_LOST if word in line) for line in lost] == expected
    assert theirs.model_max_length == 77
    for text in peers.lines()[::9]:
        assert theirs(text, add_special_tokens=False)["input_ids"] == ours.encode(text)
    # what the line of `lost` says
    mask = ours.pieces[ours.mask_id]
    assert ours.mask_id in theirs(f"the {mask} cat")["input_ids"]
    again = read_hugging_face(tmp_path)
    assert again.digest == ours.digest
    names = theirs("a", "b")
    assert ("token_type_ids" in names) == (ours.num_segments == 2)


def test_rows_that_no_text_has(saved):
    ours = read_hugging_face(saved / "bert", vocab_size=704)
    assert ours.vocab_size == 704 and ours.pieces[-1] == "<unused703>"
    assert {700, 703} <= ours.special_ids
    with pytest.raises(DataError, match="700 ids does not fit a vocabulary of 699"):
        read_hugging_face(saved / "bert", vocab_size=699)


def changed(content, **changes):
    return json.dumps({**json.loads(content), **changes}).encode()


def test_padding_and_truncation_in_the_file_do_nothing(saved):
    content = (saved / "bert/tokenizer.json").read_bytes()
    backend = Backend.from_str(content.decode())
    backend.enable_padding(length=64)
    backend.enable_truncation(3)
    ours = from_json(backend.to_str().encode(), {})
    assert ours.encode(peers.lines()[0]) == from_json(content, {}).encode(peers.lines()[0])
    assert ours.num_separators == 1


def test_what_is_no_tokenizer_is_named(saved, tmp_path):
    content = (saved / "roberta/tokenizer.json").read_bytes()
    description = json.loads(content)
    model = {**description["model"], "dropout": 0.1}
    cases = {
        b"": "cannot read a tokenizer from these 0 bytes",
        b"[1]": "cannot read a tokenizer from these 3 bytes",
        b'{"model": {}}': "cannot read a tokenizer",
        content[:-90]: "cannot read a tokenizer",
        changed(content, model=model): "dropout 0.1, which makes segmentation random",
        changed(content, post_processor=None): "an empty pair becomes nothing",
    }
    path = tmp_path / "tokenizer.json"
    for bad, message in cases.items():
        path.write_bytes(bad)
        with pytest.raises(DataError) as error:
            read_hugging_face(tmp_path)
        assert message in str(error.value) and "\n" not in str(error.value)
        assert str(path) in str(error.value)


def test_hostile_files_end_in_one_line(saved):
    """Ids that would fill the memory, and files over which the library itself panics."""
    bert = json.loads((saved / "bert/tokenizer.json").read_bytes())
    xlm_r = json.loads((saved / "xlm-roberta/tokenizer.json").read_bytes())
    vast = {**bert["model"], "vocab": {**bert["model"]["vocab"], "x": 4_000_000_000}}
    nameless = {**bert["model"], "unk_token": "[NONE]"}
    charsmap = {**xlm_r["normalizer"], "precompiled_charsmap": "AAAA"}
    cases = {
        "4,000,000,001 ids, but the tokenizer knows": {**bert, "model": vast},
        "cannot read a tokenizer from these": {**bert, "model": nameless},
        "library cannot read": {**xlm_r, "normalizer": charsmap},
    }
    for message, description in cases.items():
        with pytest.raises(DataError, match=message) as error:
            from_json(json.dumps(description).encode(), {})
        assert "\n" not in str(error.value)
    deep = b'{"model": ' + b"[" * 100_000
    with pytest.raises(DataError, match="library cannot read"):
        from_json(deep, {})
    with pytest.raises(DataError, match="1,000,000,000,000 ids, but the tokenizer knows 700"):
        read_hugging_face(saved / "bert", vocab_size=10**12)


def test_other_layouts_are_refused(saved):
    backend = Backend.from_file(str(saved / "bert/tokenizer.json"))
    backend.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", pair="$A [SEP] $B [CLS]", special_tokens=[("[SEP]", 4), ("[CLS]", 3)]
    )
    with pytest.raises(DataError, match=r"an empty pair becomes \[SEP\] \[CLS\]: expected"):
        from_json(backend.to_str().encode(), {})


def test_roles_may_have_other_names(saved, tmp_path):
    content = (saved / "bert/tokenizer.json").read_bytes()
    renamed = content.replace(b'"[PAD]"', b'"<nothing>"')
    with pytest.raises(DataError, match=r"no token \[PAD\] or <pad> for the role pad"):
        from_json(renamed, {})
    assert from_json(renamed, {"pad_token": {"content": "<nothing>"}}).pad_id == 0
    peers.write(tmp_path, tokenizer__json=renamed)
    peers.write(tmp_path, special_tokens_map__json={"pad_token": "<nothing>"})
    assert read_hugging_face(tmp_path).pad_id == 0


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no tokenizer: expected tokenizer.json, vocab.txt"),
        ({"vocab__txt": b"[PAD]\n[UNK]\na\na\n"}, r"vocab.txt:4: 'a' appears a second time"),
        ({"vocab__txt": b"[PAD]\na\n"}, r"lacks \[CLS\], \[SEP\], \[UNK\], \[MASK\]"),
        ({"vocab__txt": b"[PAD]\n\xff\n"}, "vocab.txt: is not UTF-8"),
        ({"vocab__json": b"[]", "merges__txt": b""}, "merges.txt, or vocab.json beside it"),
        ({"vocab__json": b'{"a": 0}', "merges__txt": b""}, "vocab.json lacks <s>, </s>"),
        ({"vocab__txt": b"a\n", "tokenizer_config__json": b"{"}, "config.json:1: is not JSON"),
        ({"vocab__txt": b"a\n", "tokenizer_config__json": b"3"}, "expected a JSON object, found"),
    ],
)
def test_files_that_cannot_be_read_are_named(files, message, tmp_path):
    settings = {"tokenizer_config__json": {"do_lower_case": True}}
    peers.write(tmp_path, **{**settings, **files})
    with pytest.raises(DataError, match=message) as error:
        read_hugging_face(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("num", [800, pytest.param(5000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("language", ["en", "hi", "ne"])
def test_real_lines(language, num, saved, shared):
    texts = peers.real_lines(shared, language, num)
    for kind, made in KINDS.items():
        theirs, ours = made.from_pretrained(saved / kind), read_hugging_face(saved / kind)
        expected = theirs(texts, add_special_tokens=False)["input_ids"]
        differ = [
            text for text, row in zip(texts, expected, strict=True) if ours.encode(text) != row
        ]
        assert not differ, f"{kind}: {len(differ)} of {len(texts)} lines, such as {differ[0]!r}"


def test_a_unigram_model_with_its_specials_among_the_pieces():
    """Scores of 0, as XLM-R's tokenizer.json has them, would make them the best pieces."""
    content = json.loads(tokenizer_json(XlmRobertaTokenizer(peers.unigram())))
    for entry in content["model"]["vocab"][:4]:
        entry[1] = 0.0
    ours = from_json(json.dumps(content).encode(), {})
    found = ours.encode("a <s> b </s> <pad>")
    assert not set(found) & (ours.special_ids - {ours.unk_id})
