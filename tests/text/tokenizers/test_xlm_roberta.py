"""XLM-R's tokenizer: transformers' and SentencePiece's own ids, its dictionary, our way to it."""

import json
import pickle

import numpy as np
import pytest
from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

from tests.interchange import peers
from xlm.errors import ConfigError, DataError
from xlm.text.normalize import normalize
from xlm.text.tokenizers.hugging_face import from_json
from xlm.text.tokenizers.learn import learn_sentencepiece
from xlm.text.tokenizers.loading import load_tokenizer
from xlm.text.tokenizers.xlm_roberta import (
    XlmRobertaTokenizer,
    from_sentencepiece,
    in_own_order,
    read_xlm_roberta,
    tokenizer_json,
    transformers_files,
)

transformers = pytest.importorskip("transformers")
OURS = XlmRobertaTokenizer(peers.unigram())
ODD = tuple(
    map(normalize, ("", "ＦＵＬＬ ｗｉｄｔｈ ①②", "ﬁne ½ …", "x\u200dy", "🦜🦜 ক ক", "a  b"))
)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("theirs")
    peers.write(folder, sentencepiece__bpe__model=peers.unigram())
    return transformers.XLMRobertaTokenizer.from_pretrained(folder)


def test_ids_are_those_of_the_peer(theirs):
    texts = [*peers.lines(), *ODD]
    assert OURS.encode_lines(texts) == theirs(texts, add_special_tokens=False)["input_ids"]
    assert OURS.encode(texts[0]) == OURS.encode_lines(texts)[0]
    assert list(OURS.pieces) == theirs.convert_ids_to_tokens(range(702))


def test_ids_are_those_of_sentencepiece_moved_by_one():
    processor = SentencePieceProcessor(model_proto=peers.unigram())
    for text in (*peers.lines()[::9], *ODD):
        expected = [at + 1 if at else 3 for at in processor.encode(text)]
        assert OURS.encode(text) == expected


def test_special_ids():
    assert [OURS.pieces[at] for at in (0, 1, 2, 3, 701)] == [
        "<s>", "<pad>", "</s>", "<unk>", "<mask>"
    ]  # fmt: skip
    assert (OURS.begin_id, OURS.pad_id, OURS.end_id, OURS.unk_id, OURS.mask_id) == (0, 1, 2, 3, 701)
    assert OURS.special_ids == {0, 1, 2, 3, 701} and OURS.vocab_size == 702


def test_pairs_are_laid_out_as_the_peer_does(theirs):
    for first, second in (
        ("a cat", "the dog ran"),
        ("", "x"),
        (peers.lines()[3], peers.lines()[500]),
    ):
        a, b = (np.array(OURS.encode(text), np.int64) for text in (first, second))
        row = OURS.wrap(a, b, "merged")
        assert row.tokens.tolist() == theirs(first, second)["input_ids"]
        assert OURS.wrap(a).tokens.tolist() == theirs(first)["input_ids"]
        assert len(row.tokens) == len(a) + len(b) + OURS.num_specials("merged", pair=True)
    a, b = np.array([10, 11]), np.array([20])
    assert OURS.wrap(a, b, "merged").tokens.tolist() == [0, 10, 11, 2, 2, 20, 2]


@pytest.mark.parametrize("special", ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<0x41>"])
@pytest.mark.parametrize("form", ["{}", "a{}b", "{0}{0}", "the {} cat"])
def test_text_never_becomes_a_special(special, form):
    for tokenizer in (OURS, from_sentencepiece(learn())[0]):
        found = tokenizer.encode(form.format(special))
        assert found and not set(found) & (tokenizer.special_ids - {tokenizer.unk_id})


def learn(**settings):
    return learn_sentencepiece(peers.lines(), 900, **settings)


def test_decoding_leaves_specials_out():
    ids = OURS.encode("the cat of men")
    assert OURS.decode([0, *ids, 701, 2, 1]) == "the cat of men"
    assert OURS.decode([]) == ""


def dictionary(order=slice(None), **changes):
    entries = list(OURS.pieces[4:-1])[order]
    lines = [f"{changes.get(piece, piece)} {9999 - at}\n" for at, piece in enumerate(entries)]
    return "".join(lines).encode()


def test_the_order_of_dict_txt_is_honored():
    plain = XlmRobertaTokenizer(peers.unigram(), dictionary())
    turned = XlmRobertaTokenizer(peers.unigram(), dictionary(slice(None, None, -1)))
    assert plain.pieces == OURS.pieces and set(turned.pieces) == set(OURS.pieces)
    for text in (*peers.lines()[::9], *ODD):
        assert plain.encode(text) == OURS.encode(text)
        assert [turned.pieces[at] for at in turned.encode(text)] == [
            OURS.pieces[at] for at in OURS.encode(text)
        ]
    assert turned.encode("the cat") != OURS.encode("the cat")
    assert turned.decode(turned.encode("the cat")) == "the cat"
    assert turned.digest != plain.digest != OURS.digest


def test_pieces_that_dict_txt_lacks_are_unknown():
    short = XlmRobertaTokenizer(peers.unigram(), dictionary(slice(0, 300)))
    assert short.vocab_size == 305 and short.mask_id == 304
    for text in peers.lines()[::50]:
        assert short.encode(text) == [at if at < 304 else 3 for at in OURS.encode(text)]


def test_a_dictionary_may_have_pieces_that_the_model_lacks():
    longer = XlmRobertaTokenizer(peers.unigram(), dictionary() + b"madeupword0000 0\n")
    assert longer.mask_id == 702 and longer.pieces[701] == "madeupword0000"
    assert longer.encode("the cat") == OURS.encode("the cat")
    with pytest.raises(ConfigError, match="698 pieces, but the SentencePiece model has 697"):
        in_own_order(longer)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a 3\nb 2\na 1\n", "dict.txt:3: 'a' appears a second time"),
        (b"<s> 3\n", "dict.txt:1: '<s>' appears a second time"),
        (b"a 3\nb\n", "dict.txt:2: found 'b', expected 'piece count'"),
        (b"a 3\nb x\n", "dict.txt:2: found 'b x'"),
        (b"a 3\n\n", "dict.txt:2: found ''"),
        (b"\xff 3\n", "dict.txt: is not UTF-8"),
    ],
)
def test_a_dictionary_that_cannot_be_read_is_named(content, message, tmp_path):
    peers.write(tmp_path, dict__txt=content, sentencepiece__bpe__model=peers.unigram())
    with pytest.raises(DataError) as error:
        read_xlm_roberta(tmp_path)
    assert message in str(error.value) and str(tmp_path) in str(error.value)


def test_fairseqs_mark_is_no_piece():
    marked = XlmRobertaTokenizer(
        peers.unigram(), dictionary().replace(b"9999\n", b"9999 #fairseq:overwrite\n")
    )
    assert marked.pieces == OURS.pieces


def test_files_that_are_no_models(tmp_path):
    with pytest.raises(DataError, match="0 bytes that are not a SentencePiece model"):
        XlmRobertaTokenizer(b"")
    with pytest.raises(DataError, match="7 bytes that are not a SentencePiece model"):
        XlmRobertaTokenizer(b"nothing")
    with pytest.raises(DataError, match="begins with <s> </s> <pad>, expected <unk> <s> </s>"):
        XlmRobertaTokenizer(learn().model)
    with pytest.raises(DataError, match="702 ids does not fit a vocabulary of 700"):
        XlmRobertaTokenizer(peers.unigram(), vocab_size=700)
    with pytest.raises(DataError, match=r"sentencepiece\.bpe\.model: cannot be read \(No such"):
        read_xlm_roberta(tmp_path)


@pytest.mark.parametrize("given", [None, dictionary(slice(None, None, -1))])
def test_saved_and_sent_to_a_worker_it_is_the_same(given, tmp_path):
    tokenizer = XlmRobertaTokenizer(peers.unigram(), given, vocab_size=800)
    tokenizer.save(tmp_path)
    assert (tmp_path / "sentencepiece.bpe.model").read_bytes() == peers.unigram()
    for copy in (load_tokenizer(tmp_path), pickle.loads(pickle.dumps(tokenizer))):
        assert type(copy) is XlmRobertaTokenizer
        assert copy.digest == tokenizer.digest and copy.pieces == tokenizer.pieces
        assert copy.encode_lines(peers.lines()) == tokenizer.encode_lines(peers.lines())


def test_rows_that_no_text_has():
    tokenizer = XlmRobertaTokenizer(peers.unigram(), vocab_size=710)
    assert (tokenizer.vocab_size, tokenizer.mask_id) == (710, 701)
    assert tokenizer.pieces[-1] == "<unused709>" and set(range(701, 710)) <= tokenizer.special_ids


def test_dict_txt_goes_into_the_order_of_the_model():
    turned = XlmRobertaTokenizer(peers.unigram(), dictionary(slice(None, None, -1)))
    own = in_own_order(turned)
    assert own.dictionary is None and own.pieces == turned.pieces
    assert own.encode_lines(peers.lines()) == turned.encode_lines(peers.lines())
    assert in_own_order(OURS) is OURS


def test_our_unigram_model_becomes_one():
    ours = learn()
    made, order = from_sentencepiece(ours)
    assert made.vocab_size == ours.vocab_size == len(order)
    assert [order[at] for at in (0, 1, 2, 3, 899)] == [
        ours.end_id, ours.pad_id, ours.end_id, ours.unk_id, ours.mask_id
    ]  # fmt: skip
    assert sorted(order[1:]) == list(range(1, 900))  # all but our <s>, which no text has
    for text in (*peers.lines(), *ODD):
        assert [order[at] for at in made.encode(text)] == ours.encode(text)
    again, _ = from_sentencepiece(learn())
    assert again.model == made.model
    with pytest.raises(ConfigError, match="BPE model cannot become an XLMRobertaTokenizer"):
        from_sentencepiece(learn(kind="bpe"))


@pytest.mark.parametrize("byte_fallback", [True, False])
def test_the_files_of_an_export(byte_fallback, tmp_path):
    ours, _ = from_sentencepiece(learn(byte_fallback=byte_fallback, character_coverage=0.99))
    files, lost = transformers_files(ours, 64)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    found = transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = [*peers.lines(), *ODD]
    assert found(texts, add_special_tokens=False)["input_ids"] == ours.encode_lines(texts)
    assert any("byte fallback" in line for line in lost) == byte_fallback
    # what that line says: this class has none
    plain = transformers.XLMRobertaTokenizer.from_pretrained(tmp_path)
    assert (plain("🦜", add_special_tokens=False)["input_ids"] == ours.encode("🦜")) == (
        not byte_fallback
    )
    assert found.mask_token_id == ours.mask_id and found.model_max_length == 64
    assert json.loads(files["tokenizer_config.json"])["sep_token"] == "</s>"
    assert from_json(files["tokenizer.json"], {}).encode_lines(texts) == ours.encode_lines(texts)


def test_text_that_spells_a_special_or_a_byte_in_an_export(tmp_path):
    """Where every character has a piece, nothing is lost when transformers splits specials too."""
    spelled = ["<s> </s> <pad> <unk> <mask>", "<0x41> <0x0A>a", "x<0xFF><s>"]
    characters = ["a < b > c / 0 x 4 1 A F"] * 40
    made, _ = from_sentencepiece(learn_sentencepiece([*peers.lines(), *characters], 900))
    assert set("<>/0x41AFspadunkm") <= set(made.pieces)
    for name, content in transformers_files(made, 64)[0].items():
        (tmp_path / name).write_bytes(content)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in [*spelled, "a <0x41>", "the </s>"]:
        found = theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert found == made.encode(text), text
    # the mask takes the space before it, as XLM-R's does
    masked = theirs.convert_ids_to_tokens(theirs("the <mask>", add_special_tokens=False).input_ids)
    assert masked == [*(made.pieces[at] for at in made.encode("the")), "<mask>"]


def test_the_settings_of_a_renumbered_model_tell_its_own_ids():
    proto = sentencepiece_model_pb2.ModelProto.FromString(from_sentencepiece(learn())[0].model)
    settings = proto.trainer_spec
    assert settings.vocab_size == len(proto.pieces) == 898
    assert (settings.unk_id, settings.bos_id, settings.eos_id, settings.pad_id) == (0, 1, 2, -1)
    assert not settings.control_symbols


def test_sentencepiece_bpe_would_be_segmented_otherwise(tmp_path):
    """Why it is refused: transformers takes the file, says nothing, and gives other pieces."""
    model = peers.unigram(model_type="bpe")
    peers.write(tmp_path, sentencepiece__bpe__model=model)
    theirs = transformers.XLMRobertaTokenizer.from_pretrained(tmp_path)
    right = XlmRobertaTokenizer(model)
    wrong = sum(
        theirs(text, add_special_tokens=False)["input_ids"] != right.encode(text)
        for text in peers.lines()
    )
    assert wrong > len(peers.lines()) / 2
    with pytest.raises(ConfigError, match="silently"):
        tokenizer_json(right)


@pytest.mark.parametrize("num", [800, pytest.param(5000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("language", ["en", "hi", "ne"])
def test_real_lines(language, num, theirs, shared, tmp_path):
    texts = peers.real_lines(shared, language, num)
    expected = theirs(texts, add_special_tokens=False)["input_ids"]
    assert OURS.encode_lines(texts) == expected
    ours = learn()
    made, order = from_sentencepiece(ours)
    for name, content in transformers_files(made, 64)[0].items():
        (tmp_path / name).write_bytes(content)
    exported = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids = exported(texts, add_special_tokens=False)["input_ids"]
    assert [[order[at] for at in row] for row in ids] == ours.encode_lines(texts)
