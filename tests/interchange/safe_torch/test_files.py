"""Foreign torch files: equal to what torch reads; what is hostile is refused and never run."""

import argparse
import builtins
import functools
import importlib
import io
import operator
import os
import pickle
import random
import struct
import subprocess
import sys
import time
import types
import zipfile
from collections import OrderedDict

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch

from xlm.errors import CheckpointError, XlmError
from xlm.interchange.original.binarized import read_binarized
from xlm.interchange.original.checkpoint import read_original
from xlm.interchange.safe_torch.files import read_torch_file
from xlm.interchange.safe_torch.values import Record

FORMATS = pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
DICTIONARIES = ("xlm.data.dictionary", "src.data.dictionary")


def save(content, path, is_zip=True, protocol=2):
    torch.save(content, path, _use_new_zipfile_serialization=is_zip, pickle_protocol=protocol)
    return path


def wrap(path, pickled, is_zip, keys=(), numbers=b""):
    """A file in torch's format around any pickle at all."""
    if is_zip:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickled)
            archive.writestr("archive/byteorder", "little")
            for key in keys:
                archive.writestr(f"archive/data/{key}", numbers)
    else:
        system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
        heads = [pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, system)]
        path.write_bytes(b"".join([*heads, pickled, pickle.dumps(list(keys), 2), numbers]))
    return path


def refusal(path, reader=read_torch_file):
    """The one line with which a file is refused."""
    with pytest.raises(XlmError) as caught:
        reader(path)
    message = str(caught.value)
    assert str(path) in message and len(message.splitlines()) == 1 and len(message) < 600
    message.encode()  # can be printed
    return message


def same(found, expected):
    if isinstance(expected, torch.Tensor):
        return (
            type(found) is torch.Tensor
            and (found.dtype, found.shape) == (expected.dtype, expected.shape)
            and torch.equal(found, expected.detach())
        )
    if isinstance(expected, np.ndarray | np.generic):
        same_kind = type(found) is type(expected) and found.dtype == expected.dtype
        return same_kind and np.array_equal(found, expected)
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(same(found[k], expected[k]) for k in expected)
    if isinstance(expected, list | tuple):
        pairs = zip(found, expected, strict=True)
        return isinstance(found, list | tuple) and all(same(a, b) for a, b in pairs)
    return type(found) is type(expected) and found == expected


# What torch reads


CONTENT = {
    "tensors": [
        torch.arange(12.0).reshape(3, 4)[1:, ::2], torch.tensor(3), torch.zeros(0, 5),
        torch.tensor([True, False]), torch.tensor([1.5], dtype=torch.bfloat16),
        torch.arange(3, dtype=torch.int16), torch.ones(2, dtype=torch.float16),
        torch.arange(3, dtype=torch.uint8), torch.ones(2, dtype=torch.float64),
    ],
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "ordered": OrderedDict([("b", 1), ("a", 2)]),
    "module": torch.nn.Linear(2, 2).state_dict(),
    "optimizer": torch.optim.Adam([torch.nn.Parameter(torch.ones(2))]).state_dict(),
    "arrays": [
        np.arange(6, dtype=np.uint16).reshape(2, 3), np.asfortranarray(np.ones((2, 3))),
        np.zeros((0, 2), np.int64), np.array(5), np.array([True]),
    ],
    "scalars": [np.float64(0.1), np.int64(-3), np.bool_(True), np.float32(2)],
    "size": torch.Size([2, 3]), "kind": torch.float16,
    "plain": [None, True, -1, 2**70, 0.5, "\u0939\u2028\ud800", b"", b"\xff", ()],
    "keys": [{1, 2}, {("a", 1): 2}],
    "namespace": argparse.Namespace(emb_dim=4, pairs={("en", "fr"): [None]}),
}  # fmt: skip


@FORMATS
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_reads_what_torch_reads(tmp_path, is_zip, protocol):
    path = save(CONTENT, tmp_path / "file.pth", is_zip, protocol)
    found = read_torch_file(path)
    for key, expected in CONTENT.items():
        assert same(found[key], expected), key
    assert not found["parameter"].requires_grad


@FORMATS
def test_tied_tensors_are_read_once(tmp_path, is_zip):
    weight = torch.arange(12.0).reshape(3, 4)
    path = save({"a": weight, "b": weight.t()[1:]}, tmp_path / "file.pth", is_zip)
    found = read_torch_file(path)
    assert found["b"].data_ptr() == found["a"].data_ptr() + 4
    found["a"][0, 1] = 99
    assert found["b"][0, 0] == 99
    path.write_bytes(b"")  # nothing stays mapped
    assert found["a"].sum() == 66 - 1 + 99


@FORMATS
def test_what_is_left_out_is_not_read(tmp_path, is_zip):
    content = {"model": torch.ones(3), "optimizer": {"state": torch.zeros(1 << 16)}}
    path = save(content, tmp_path / "file.pth", is_zip)
    found = read_torch_file(path, without=["optimizer", "absent"])
    assert torch.equal(found["model"], torch.ones(3))
    assert found["optimizer"] is None and "absent" not in found


@FORMATS
def test_names_of_numpy_1(tmp_path, is_zip):
    values = [np.arange(3, dtype=np.int32), np.float32(0.5)]
    pickled = pickle.dumps(values, 2).replace(b"numpy._core", b"numpy.core")
    assert b"numpy.core.multiarray" in pickled
    assert same(read_torch_file(wrap(tmp_path / "old.pth", pickled, is_zip)), values)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**100), 2**100) | st.floats(allow_nan=False)
    | st.text() | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner)
    | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4),
    max_leaves=15,
)  # fmt: skip


@hypothesis.given(VALUES, st.booleans(), st.sampled_from([2, 3, 4]))
@hypothesis.settings(
    max_examples=60, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
)
def test_any_plain_value(tmp_path_factory, value, is_zip, protocol):
    path = tmp_path_factory.mktemp("values") / "file.pth"
    assert same(read_torch_file(save(value, path, is_zip, protocol)), value)


@pytest.fixture(params=DICTIONARIES)
def dictionary_class(request, monkeypatch):
    """The original's class, which a file names under one of its two modules."""
    module = types.ModuleType(request.param)
    module.Dictionary = type("Dictionary", (), {"__module__": request.param})
    monkeypatch.setitem(sys.modules, request.param, module)
    for parent in ("src", "src.data"):
        if parent not in sys.modules:
            monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    return module.Dictionary


@FORMATS
def test_the_dictionary_is_a_record_of_no_class(tmp_path, monkeypatch, dictionary_class, is_zip):
    made = dictionary_class()
    made.id2word = {0: "<s>"}
    path = save({"dico": made}, tmp_path / "data.pth", is_zip, protocol=4)
    monkeypatch.undo()
    found = read_torch_file(path)["dico"]
    assert type(found) is Record and found.state == {"id2word": {0: "<s>"}}
    assert found.name == f"{dictionary_class.__module__}.Dictionary"
    assert dictionary_class.__module__ not in sys.modules


# What an unpickler would run


class Call:
    """Pickles as a call, perhaps with a state for what comes back."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


def make_deeds(folder):
    """Name that the refusal must say -> what touches ``folder/touched`` where it is unpickled."""
    sentinel = folder / "touched"
    touch, code = f"touch '{sentinel}'", f"open({str(sentinel)!r}, 'w').close()"
    nested, file = pickle.dumps(Call(os.system, touch), 2), folder / "objects.npy"
    np.save(file, np.array([Call(os.system, touch)], dtype=object), allow_pickle=True)
    inner = io.BytesIO()
    torch.save(Call(os.system, touch), inner)
    return {
        "posix.system": Call(os.system, touch),
        "exec": Call(builtins.exec, code),
        "eval": Call(builtins.eval, code),
        "Popen": Call(subprocess.Popen, ["touch", str(sentinel)]),
        "pickle.loads": Call(pickle.loads, nested),
        "torch.storage._load_from_bytes": Call(torch.storage._load_from_bytes, inner.getvalue()),
        "numpy.load": Call(np.load, str(file), None, True),
    }


DEEDS = (
    "posix.system", "exec", "eval", "Popen", "pickle.loads",
    "torch.storage._load_from_bytes", "numpy.load",
)  # fmt: skip


@pytest.fixture
def sentinel(tmp_path):
    return tmp_path / "touched"


@pytest.mark.parametrize("name", DEEDS)
def test_an_unpickler_does_each_deed(tmp_path, sentinel, name):
    """Or the tests below would prove nothing."""
    pickled = pickle.dumps(make_deeds(tmp_path)[name], 2)
    assert not sentinel.exists()
    pickle.loads(pickled)
    deadline = time.monotonic() + 20  # Popen does not wait
    while not sentinel.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sentinel.exists()


@FORMATS
@pytest.mark.parametrize("name", DEEDS)
def test_no_deed_is_done(tmp_path, sentinel, name, is_zip):
    deed = make_deeds(tmp_path)[name]
    for protocol in range(6):
        pickled = pickle.dumps({"model": {}, "params": deed}, protocol)
        message = refusal(wrap(tmp_path / "file.pth", pickled, is_zip))
        assert name in message and "nothing was run" in message
    assert not sentinel.exists()


@FORMATS
@pytest.mark.parametrize("reader", [read_torch_file, read_original, read_binarized])
@pytest.mark.parametrize("place", ["model", "dico", "sentences", "model_optimizer"])
def test_no_deed_is_done_in_models_and_data(tmp_path, sentinel, place, reader, is_zip):
    content = {"dico": {}, "sentences": np.zeros(2, np.uint16), "positions": 0, "unk_words": {}}
    content |= {"model": {"embeddings.weight": torch.ones(2)}, "params": {}, "model_optimizer": {}}
    content[place] = make_deeds(tmp_path)["posix.system"]
    message = refusal(save(content, tmp_path / "file.pth", is_zip), reader)
    assert "posix.system" in message and not sentinel.exists()


@FORMATS
def test_no_dictionary_does_a_deed(tmp_path, sentinel, dictionary_class, is_zip):
    touch = f"touch '{sentinel}'"
    path = tmp_path / "data.pth"
    dictionary_class.__reduce__ = lambda self: (os.system, (touch,))
    assert "posix.system" in refusal(save({"dico": dictionary_class()}, path, is_zip))
    # a state that a class may act upon is only kept
    states = [{"__class__": "x", "__reduce__": touch, "__setstate__": touch}, (None, {"a": 1})]
    for state in states:
        reduced = (dictionary_class, (touch,), state)
        dictionary_class.__reduce__ = lambda self, reduced=reduced: reduced
        found = read_torch_file(save({"dico": dictionary_class()}, path, is_zip))["dico"]
        assert type(found) is Record and found.state == state and found.arguments == (touch,)
    assert not sentinel.exists()


NAMES = {
    "importlib.import_module": Call(importlib.import_module, "antigravity"),
    "operator.attrgetter": Call(operator.attrgetter, "system"),
    "operator.methodcaller": Call(operator.methodcaller, "system", "touch x"),
    "functools.partial": functools.partial(print, "x"),
    "getattr": Call(getattr, "", "join"),
    "__import__": Call(builtins.__import__, "os"),
    "bytearray": bytearray(b"x"),
    "complex": 1j,
    "range": range(3),
    "torch.hub.load": Call(torch.hub.load, "somebody/something", "model"),
    "torch.serialization.load": Call(torch.load, "x"),
    "torch.nn.modules.linear.Linear": torch.nn.Linear(1, 1),
    "torch._utils._rebuild_sparse_tensor": torch.ones(2).to_sparse(),
    "torch._utils._rebuild_device_tensor_from_numpy": Call(
        torch._utils._rebuild_device_tensor_from_numpy, 1, torch.float32, "cpu", False
    ),
    "runpy.run_path": Call(importlib.import_module("runpy").run_path, "x"),
    "collections.defaultdict": __import__("collections").defaultdict(list),
    "_codecs.decode": Call(importlib.import_module("_codecs").decode, b"", "rot13"),
}


@FORMATS
@pytest.mark.parametrize("name", NAMES)
def test_other_names_are_refused(tmp_path, name, is_zip):
    message = refusal(save({"model": NAMES[name]}, tmp_path / "file.pth", is_zip))
    assert f"{name}," in message and "nothing was run" in message


def text(value):
    encoded = value.encode()
    return b"\x8c" + bytes([len(encoded)]) + encoded


OPCODES = {
    # a name by way of the old opcodes
    b"(S'touch x'\niposix\nsystem\n.": "names posix.system",
    b"(cposix\nsystem\nS'touch x'\no.": "names posix.system",
    b"(cargparse\nNamespace\no.": "opcode OBJ",
    b"\x80\x04cargparse\nNamespace\n)}\x92.": "opcode NEWOBJ_EX",
    b"\x80\x02\x82\x05.": "opcode EXT1 5",
    b"\x80\x02\x83\x05\x00.": "opcode EXT2 5",
    b"\x80\x02\x84\x05\x00\x00\x00.": "opcode EXT4 5",
    b"Ptouch x\n.": "opcode PERSID",
    b"\x80\x05\x96\x01\x00\x00\x00\x00\x00\x00\x00x.": "opcode BYTEARRAY8",
    b"\x80\x05\x97.": "opcode NEXT_BUFFER",
    # names that are put together on the way
    b"\x80\x04" + text("posix") + b"\x94" + text("system") + b"\x940h\x00h\x01\x93.": (
        "names posix.system"
    ),
    b"\x80\x04" + text("torch") + text("hub.os.system") + b"\x93.": "names torch.hub.os.system",
    b"\x80\x04" + text("collections") + text("OrderedDict.fromkeys") + b"\x93.": "OrderedDict.from",
    b"\x80\x04" + text("collections.OrderedDict") + text("") + b"\x93.": "OrderedDict.,",
    b"\x80\x04" + text("a\nb") + text("c\u2028" + "d" * 200) + b"\x93.": "names 'a\\nb.c\\u2028ddd",
    b"\x80\x04]" + text("system") + b"\x93.": "is damaged",
    # calls of what is no function, states of what has none
    b"\x80\x04])R.": "calls a list",
    b"\x80\x04ccollections\nOrderedDict\n]R.": "without a tuple",
    b"\x80\x04]}b.": "gives a state to a list",
    b"\x80\x04ccollections\nOrderedDict\n)R}" + text("update") + b"Nsb.": "dictionary with attrib",
    b"\x80\x04cargparse\nNamespace\n)\x81}K\x01Nsb.": "namespace whose names",
    b"\x80\x04ctorch\nFloatStorage\n}b.": "gives a state to a _StorageKind",
    b"\x80\x04cnumpy\nndarray\n)R.": "only a name",
    b"\x80\x04cnumpy\nndarray\n.": "holds the name 'numpy.ndarray'",
    b"\x80\x04cnumpy.core.multiarray\n_reconstruct\ncargparse\nNamespace\nK\x00\x85C\x01b\x87R.": (
        "array of no known kind"
    ),
    b"\x80\x04cnumpy\ndtype\n" + text("O8") + b"\x89\x88\x87R.": "numpy array of 'O8'",
    b"\x80\x04c_codecs\nencode\n" + text("x") + text("rot13") + b"\x86R.": "bytes of no string",
    b"\x80\x04" + text("module") + b"Q.": "something other than numbers",
    b"\x80\x04(" + text("module") + b"NNNNtQ.": "something other than numbers",
    # containers
    b"\x80\x04}(]K\x01su.": "is damaged",
    b"\x80\x04}(K\x01u.": "is damaged",
    b"\x80\x04}]K\x01s.": "a key that is a list",
    b"\x80\x04}]\x85K\x01s.": "a tuple of containers",
    b"\x80\x04]\x940h\x00h\x00a.": "inside themselves",
    b"\x80\x04\x8b" + struct.pack("<i", 400) + b"\x7f" * 400 + b".": "an integer of 3199 bits",
    b"\x80\x04h\x07.": "is damaged",
    b"\x80\x040.": "is damaged",
    b"\x80\x04.": "is damaged",
    b"\x80\x04\xff.": "is damaged",
    b"\x80\x04]": "is damaged",
}


@FORMATS
@pytest.mark.parametrize("pickled", OPCODES, ids=lambda pickled: repr(pickled[:40]))
def test_opcodes(tmp_path, sentinel, pickled, is_zip):
    pickled, named = pickled.replace(b"touch x", f"touch {sentinel}".encode()), OPCODES[pickled]
    assert named in refusal(wrap(tmp_path / "file.pth", pickled, is_zip))
    assert not sentinel.exists()


@FORMATS
def test_what_comes_after_the_end_is_not_overlooked(tmp_path, is_zip):
    hidden = pickle.dumps(Call(os.system, "true"), 2)
    message = refusal(wrap(tmp_path / "file.pth", pickle.dumps({}, 2) + hidden, is_zip))
    assert "has bytes after its end" in message or "names posix.system" in message
    path = wrap(tmp_path / "file.pth", pickle.dumps({}, 2), False, numbers=b"abc")
    assert "has 3 bytes after its end" in refusal(path)


# More than there is


@FORMATS
@pytest.mark.parametrize("depth", [100, 10_000])
@pytest.mark.parametrize("kind", [b"]", b"}", b")"], ids=["lists", "dicts", "tuples"])
def test_deep_nests(tmp_path, kind, depth, is_zip):
    closed = {b"]": b"a", b"}": b"s", b")": b"\x85"}[kind]
    opened = {b"]": b"]", b"}": b"}K\x00", b")": b""}[kind]
    pickled = b"\x80\x04" + opened * depth + b"N" + (closed * depth)
    message = refusal(wrap(tmp_path / "file.pth", pickled + b".", is_zip))
    assert "more than 64 deep" in message
    # as a key it would be hashed, by recursion in C
    pickled = b"\x80\x04}" + b")" + b"\x85" * depth + b"Ns."
    assert "tuple of containers" in refusal(wrap(tmp_path / "file.pth", pickled, is_zip))


def test_lists_that_double_are_not_spelled_out(tmp_path):
    pickled = b"\x80\x04]\x94"
    for at in range(50):
        pickled += b"](h%ch%ce\x94" % (at, at)
    path = wrap(tmp_path / "file.pth", pickled + b".", True)
    found, depth = read_torch_file(path), 0
    while found:
        found, depth = found[0], depth + 1
    assert depth == 50


TRILLION = 10**12


def announce(kind):
    """A pickle that announces a trillion of something, and what the refusal says."""
    number = b"\x8a\x06" + TRILLION.to_bytes(6, "little")
    size = struct.pack("<Q", TRILLION)
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n("
    hooks = b"\x89ccollections\nOrderedDict\n)Rt"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    dtype = b"cnumpy\ndtype\n" + text("f4") + b"\x89\x88\x87R"
    many = number + b"\x85K\x01\x85" + hooks + b"R"
    return b"\x80\x04" + {
        "storage": rebuild + storage + number + b"tQK\x00" + many,
        "tensor": rebuild + storage + b"K\x01tQK\x00" + many,
        "expanded": rebuild + storage + b"K\x01tQK\x00" + number + b"\x85K\x00\x85" + hooks + b"R",
        "offset": rebuild + storage + b"K\x01tQ" + number + b"K\x01\x85K\x01\x85" + hooks + b"R",
        "stride": rebuild + storage + b"K\x02tQK\x00K\x02\x85" + number + b"\x85" + hooks + b"R",
        "array": array + b"(K\x01" + number + b"\x85" + dtype + b"\x89C\x04abcdtb",
        "bytes": b"\x8e" + size + b"abc",
        "string": b"\x8d" + size + b"abc",
        "memo": b"Nr\xff\xff\xff\x7f]" + b"N" * 3 + b"t",
    }[kind] + b"."  # fmt: skip


@FORMATS
@pytest.mark.parametrize(
    "kind, named",
    [
        ("storage", "4000000000000"),
        ("tensor", "tensor of [1000000000000] in a storage of 1 elements"),
        ("expanded", "tensor of [1000000000000] in a storage of 1 elements"),
        ("offset", "in a storage of 1 elements"),
        ("stride", "in a storage of 2 elements"),
        ("array", "array of [1000000000000] float32, but holds 4 bytes"),
        ("bytes", "is damaged"),
        ("string", "is damaged"),
        ("memo", "is damaged"),
    ],
)
def test_announcements_are_compared_with_what_is_there(tmp_path, kind, named, is_zip):
    numbers = b"abcd" if is_zip else struct.pack("<q", 1) + b"abcd"
    path = wrap(tmp_path / "file.pth", announce(kind), is_zip, ["0"], numbers)
    assert named in refusal(path)


@FORMATS
@pytest.mark.parametrize("protocol", [2, 4])
def test_arrays_that_are_nearly_all_of_a_file(tmp_path, is_zip, protocol):
    """As binarized text is: at protocol 2, text that bytes are made from, and their array."""
    expected = np.arange(50_000, dtype=np.uint16)
    path = save({"sentences": expected}, tmp_path / "a.pth", is_zip, protocol)
    assert path.stat().st_size < 4 * expected.nbytes
    assert np.array_equal(read_torch_file(path)["sentences"], expected)


@FORMATS
def test_bytes_made_again_and_again(tmp_path, is_zip):
    long = b"X" + struct.pack("<I", 1 << 16) + b"a" * (1 << 16)
    pickled = b"\x80\x04c_codecs\nencode\n\x94" + long + text("latin1") + b"\x86\x940"
    pickled += b"h\x00h\x01R0" * 10_000 + b"N."
    message = refusal(wrap(tmp_path / "file.pth", pickled, is_zip))
    assert "more bytes than the file holds" in message


# Containers


def test_bombs_are_not_inflated(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
        archive.writestr("archive/data/0", b"\0" * (1 << 24))
    assert path.stat().st_size < 1 << 15
    message = refusal(path)
    assert "'archive/data.pkl' is compressed" in message and "not read" in message


def edit_directory(path, offset, value):
    """Change a field of the last entry in the zip's directory."""
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02") + offset
    content[at : at + len(value)] = value
    path.write_bytes(content)
    return path


def test_entries_that_overlap_or_lie_about_their_size(tmp_path):
    path = wrap(tmp_path / "file.pth", pickle.dumps({}, 2), True, ["0"], b"abcd")
    gigabytes = struct.pack("<II", 3 << 30, 3 << 30)
    message = refusal(edit_directory(path, 20, gigabytes))
    assert f"{3 << 30}" in message or "claim 3221225" in message
    path = wrap(tmp_path / "file.pth", pickle.dumps({}, 2), True, ["0"], b"abcd")
    assert "compressed (4 bytes to 5)" in refusal(edit_directory(path, 24, struct.pack("<I", 5)))
    path = wrap(tmp_path / "file.pth", pickle.dumps({}, 2), True, ["0"], b"abcd")
    assert "encrypted" in refusal(edit_directory(path, 8, b"\x01\x00"))


@pytest.mark.parametrize(
    "name",
    ["../../outside", "/etc/outside", "archive/data/../../../outside", "archive\\..\\outside",
     "archive/new\nline"],
)  # fmt: skip
def test_paths_that_lead_out(tmp_path, name):
    path = tmp_path / "folder" / "file.pth"
    path.parent.mkdir()
    with zipfile.ZipFile(wrap(path, pickle.dumps({}, 2), True), "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"x")
    assert "points outside of the file" in refusal(path)
    assert sorted(tmp_path.rglob("*")) == [path.parent, path]


def test_other_archives(tmp_path):
    path = tmp_path / "file.pth"

    def archive_of(*names):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, pickle.dumps({}, 2))
        return refusal(path)

    assert "zip file without data.pkl" in archive_of("archive/model.json")
    assert "TorchScript" in archive_of("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py")
    assert "also holds 'other/data/0'" in archive_of("m/data.pkl", "other/data/0")
    with pytest.warns(UserWarning, match="Duplicate"):
        assert "appears twice" in archive_of("m/data.pkl", "m/data.pkl")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps({}, 2))
        archive.writestr("m/byteorder", "big")
    assert "byte order is not little" in refusal(path)


def test_storages_that_are_not_as_announced(tmp_path):
    content = {"a": torch.arange(4.0)}
    path = save(content, tmp_path / "file.pth")
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read("file/data.pkl")
    assert "is missing, but data.pkl says 16" in refusal(wrap(path, pickled, True))
    assert "holds 15 bytes" in refusal(wrap(path, pickled, True, ["0"], b"x" * 15))
    path = save(content, path, False)
    content = path.read_bytes()
    path.write_bytes(content[:-16] + b"\0" * 16)
    assert read_torch_file(path)["a"].sum() == 0
    path.write_bytes(content[:-24] + struct.pack("<q", 5) + b"\0" * 16)
    assert "does not hold the 4 elements" in refusal(path)


@FORMATS
def test_damage_is_one_line_wherever_it_is(tmp_path, is_zip):
    """Cut anywhere, or any bytes changed: an error of ours, or a value."""
    content = {"a": torch.arange(4.0), "b": np.arange(3), "c": [argparse.Namespace(x=1), {2: "z"}]}
    path = save(content, tmp_path / "file.pth", is_zip)
    whole = path.read_bytes()
    for at in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:at])
        refusal(path)
    generator, num_refused = random.Random(0), 0
    for _ in range(400):
        changed = bytearray(whole)
        for _ in range(generator.randint(1, 4)):
            changed[generator.randrange(len(changed))] = generator.randrange(256)
        path.write_bytes(changed)
        try:
            read_torch_file(path)
        except CheckpointError as error:
            num_refused += 1
            assert len(str(error).splitlines()) == 1
    assert num_refused > 100


def test_files_that_are_something_else(tmp_path):
    path = tmp_path / "file.pth"
    for content, named in (
        (b"", "is empty"),
        (b"the cat sat\non the mat", "starts with b'the cat sat\\non t'"),
        (pickle.dumps([1, 2], 4), "is a pickle, but not one written by torch.save"),
        (pickle.dumps([1, 2], 0), "starts with"),
        (b"PK\x03\x04", "is a damaged zip file"),
        (b"PK\x05\x06" + b"\0" * 18, "starts with"),
        (b"\x80", "is damaged"),
    ):
        path.write_bytes(content)
        assert named in refusal(path)
    assert "is a folder" in refusal(tmp_path)
    assert "cannot be read (No such file" in refusal(tmp_path / "absent.pth")
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in refusal(tmp_path / "pipe")
