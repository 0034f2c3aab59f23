"""Compare a model with the same one in transformers: logits, hidden states, ids of lines.

    ours   Transformer  --random batches-->  logits, hidden states  --|difference|--> Parity
    theirs its class in transformers, loaded from the files under test

The peer is independent code, so agreement shows that weights, shape and layouts are right. Nothing
is fetched, and no code from a model's folder runs.
"""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xlm.batch import Batch
from xlm.errors import CheckpointError, one_line
from xlm.interchange.tokenizer_parity import Lines, compare_raw, compare_tokenizers
from xlm.interchange.transformers.files import read_config
from xlm.interchange.translator_parity import compare_sources, compare_translators
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer

TOLERANCE = 1e-4
"""Largest difference of a logit, in fp32, that still counts as the same model."""
PEERS = {
    "xlm": "XLMWithLMHeadModel",
    "xlm-roberta": "XLMRobertaForMaskedLM",
    "roberta": "RobertaForMaskedLM",
    "camembert": "CamembertForMaskedLM",
    "bert": "BertForMaskedLM",
    "roformer": "RoFormerForMaskedLM",
    "modernbert": "ModernBertForMaskedLM",
    "eurobert": "EuroBertForMaskedLM",
    "mbart": "MBartForConditionalGeneration",
    "m2m_100": "M2M100ForConditionalGeneration",
}
"""Class of transformers that each ``model_type`` is compared with."""
_HEADS = ("pred_layer.", "lm_head.", "cls.")
_ROWS, _LENGTH = 4, 24
_LONGEST = 1024
"""Tokens of the longest row compared: eager attention takes memory quadratic in its length."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Result of comparing a model with a peer: the largest differences, and their scope."""

    peer: str | None = None
    """Name of the peer's class; None if nothing was compared, and ``notes`` say why."""
    logits: float | None = None
    """Largest absolute difference of a logit in fp32; None if the peer has no output."""
    hidden: float | None = None
    """Largest absolute difference of a hidden state of the last layer."""
    cells: int = 0
    """Number of tokens whose logits and hidden states were compared."""
    batches: tuple[str, ...] = ()
    tokenizer: tuple[Lines, ...] = ()
    notes: tuple[str, ...] = ()
    """A line for each comparison that was left out, with the reason."""
    opened: bool = True
    """False if transformers is installed but could not open the files."""

    @property
    def agrees(self) -> bool:
        """Return True if nothing that was compared differs by more than ``TOLERANCE``."""
        found = [value for value in (self.logits, self.hidden) if value is not None]
        return all(value <= TOLERANCE for value in found)

    def describe(self) -> list[str]:
        """Return lines for a person to read."""
        lines = []
        if self.peer is not None and self.hidden is not None:
            what = "logits" if self.logits is not None else "hidden states"
            worst = self.hidden if self.logits is None else self.logits
            lines.append(
                f"parity with {self.peer}: max |difference| of {what} {worst:.2g} over "
                f"{self.cells:,} tokens ({', '.join(self.batches)})"
            )
        lines += [f"tokenizer, {part.describe()}" for part in self.tokenizer]
        return lines + list(self.notes)

    def to_json(self) -> dict[str, Any]:
        """Return the content of parity.json.

        A difference that is not finite is null, and ``agrees`` is then false.
        """
        content = {**asdict(self), "tolerance": TOLERANCE, "agrees": self.agrees}
        for name in ("logits", "hidden"):
            value = content[name]
            content[name] = value if value is not None and math.isfinite(value) else None
        return content


@dataclass(frozen=True)
class TaskScores:
    """Scores of a fine-tuned model, compared in place of logits over the vocabulary."""

    peer: str
    """Name of the peer's class in transformers."""
    score: Callable[[Transformer, Batch], Tensor]
    """Function for the scores ``[B, K]`` of the rows, or ``[N, K]`` of the cells in ``predict``."""
    of_rows: bool


def measure(model: PretrainedModel, folder: str | Path, scores: TaskScores | None = None) -> Parity:
    """Compare ``model`` with the one that transformers loads from the files in ``folder``.

    ``folder`` is a transformers directory of the same model, of a type in ``PEERS``; with
    ``scores``, one that has the head of a task. The peer's configuration decides if both are
    causal. Needs the extra ``hf``; without it, and for a folder that transformers cannot open, the
    result says that nothing was measured, and why.
    """
    try:
        transformers = importlib.import_module("transformers")
    except ImportError:
        note = "parity was not measured: transformers is not installed (the extra hf brings it)"
        return Parity(notes=(note,))
    kind = read_config(folder)["model_type"]
    if kind not in PEERS:
        known = ", ".join(PEERS)
        return Parity(notes=(f"parity was not measured: model_type {kind!r} is none of {known}",))
    with quiet(transformers):
        try:
            peer, missing = _open(transformers, scores.peer if scores else PEERS[kind], folder)
        except Exception as error:  # other libraries raise anything over a folder
            reason = one_line(error, most=200)
            note = f"parity was not measured: transformers cannot open {folder} ({reason})"
            return Parity(notes=(note,), opened=False)
        is_translator = kind in ("mbart", "m2m_100")
        if is_translator:
            found = _translators(model, peer)
        else:
            pair = _Pair(model, peer, kind, scores)
            found = pair.compare(missing)
        try:
            theirs = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:
            reason = one_line(error, most=200)
            note = f"tokenizers were not compared: transformers cannot open it ({reason})"
            return replace(found, notes=(*found.notes, note))
        if is_translator:
            return replace(found, tokenizer=(compare_sources(model, theirs),))
        judged = (model.tokenizer, theirs, pair.ids, pair.classes)
        return replace(found, tokenizer=(*compare_tokenizers(*judged), compare_raw(*judged)))


def _translators(model: PretrainedModel, peer: Any) -> Parity:
    logits, hidden, cells, names = compare_translators(model, _in_fp32(model.transformer), peer)
    return Parity(
        peer=f"{type(peer).__name__} of transformers {_version()}",
        logits=logits,
        hidden=hidden,
        cells=cells,
        batches=tuple(names),
    )


def _open(transformers: Any, name: str, folder: str | Path) -> tuple[Any, list[str]]:
    """Return the peer in fp32, and the names of its tensors that the files lack."""
    peer, info = getattr(transformers, name).from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, output_loading_info=True,
        attn_implementation="eager",
    )  # fmt: skip
    return peer.eval(), sorted(info["missing_keys"])


@contextlib.contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Silence transformers' progress bars and advice on standard error inside the block."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


@dataclass(frozen=True)
class _Inputs:
    """A random batch: int64 ``[B, T]`` each, lengths ``[B]``; positions None: 0..T-1."""

    name: str
    tokens: Tensor
    lengths: Tensor
    langs: Tensor
    segments: Tensor
    positions: Tensor | None = None

    @property
    def real(self) -> Tensor:
        """Mask of real tokens: bool ``[B, T]``, False at padding."""
        return torch.arange(self.tokens.shape[1]) < self.lengths[:, None]

    def batch(self, cells: Tensor) -> Batch:
        """Return the batch for an objective that predicts at the flat ``cells`` (int64 ``[N]``)."""
        positions = self.positions
        if positions is None:
            positions = torch.arange(self.tokens.shape[1]).expand_as(self.tokens)
        return Batch(
            tokens=self.tokens, positions=positions, langs=self.langs, segments=self.segments,
            lengths=self.lengths, rows=torch.arange(len(self.tokens)), predict=cells,
            targets=torch.zeros_like(cells),
        )  # fmt: skip


class _Pair:
    """A model of this library and its peer, which get the same input."""

    def __init__(
        self, model: PretrainedModel, peer: Any, kind: str, scores: TaskScores | None = None
    ):
        self.ours, self.peer, self.kind = _in_fp32(model.transformer), peer, kind
        self.scores = scores
        self.ids, self.classes = _matching_ids(model, peer)
        self.causal = bool(getattr(peer.config, "causal", False))

    @torch.no_grad()
    def compare(self, missing: Sequence[str]) -> Parity:
        """Return the largest differences over all batches.

        ``missing`` names the peer's tensors that the files lack.
        """
        without_head = bool(missing) and all(name.startswith(_HEADS) for name in missing)
        notes = []
        if without_head:
            notes.append("the peer's files have no output layer: hidden states were compared alone")
        elif missing:
            notes.append(f"the peer's files lack {', '.join(missing[:5])}")
        logits, hidden, cells, names = 0.0, 0.0, 0, []
        for inputs in self._batches():
            names.append(inputs.name)
            cells += int(inputs.real.sum())
            own = self._encode(inputs)
            given = self._arguments(inputs)
            theirs = self.peer.base_model(**given)[0]
            hidden = _worst(hidden, own[inputs.real], theirs[inputs.real])
            # for a whole window compare hidden states only: its logits would take too much memory
            if inputs.tokens.shape[1] > _LENGTH or without_head:
                continue
            logits = _worst(logits, *self._logits(inputs, own, self.peer(**given)))
        return Parity(
            peer=f"{type(self.peer).__name__} of transformers {_version()}",
            logits=None if without_head else logits,
            hidden=hidden,
            cells=cells,
            batches=tuple(names),
            notes=tuple(notes),
        )

    def _logits(self, inputs: _Inputs, own: Tensor, found: Any) -> tuple[Tensor, Tensor]:
        """Return our logits over the vocabulary and the peer's, or the scores of the task."""
        flat = inputs.real.flatten().nonzero()[:, 0]
        if self.scores is None:
            common = self.ids >= 0
            projected = found.logits[inputs.real][:, self.ids[common]]
            return self.ours.predict(own, flat)[:, common], projected
        if hasattr(found, "logits"):
            theirs = found.logits
        else:
            theirs = torch.stack([found.start_logits, found.end_logits], dim=-1)
        ours = self.scores.score(self.ours, inputs.batch(flat))
        return ours, theirs if self.scores.of_rows else theirs[inputs.real]

    def _encode(self, inputs: _Inputs) -> Tensor:
        langs = inputs.langs if self.ours.encoder.languages is not None else None
        return self.ours.encode(
            inputs.tokens, inputs.lengths, inputs.positions, langs, inputs.segments,
            causal=self.causal,
        )  # fmt: skip

    def _arguments(self, inputs: _Inputs) -> dict[str, Tensor]:
        """Return the batch as arguments of the peer."""
        pad_id = int(self.peer.config.pad_token_id)
        tokens = torch.where(inputs.real, self.ids[inputs.tokens], pad_id)
        given = {"input_ids": tokens}
        if self.kind == "xlm":
            given["lengths"] = inputs.lengths
            if self.ours.encoder.languages is not None:
                given["langs"] = inputs.langs
            offset = 0
        else:
            given["attention_mask"] = inputs.real.long()
            offset = 0 if self.kind in ("bert", "modernbert", "eurobert") else pad_id + 1
        if self.kind in ("bert", "roformer"):
            given["token_type_ids"] = inputs.segments
        if inputs.positions is not None:
            given["position_ids"] = inputs.positions + offset
        return given

    def _batches(self) -> Iterator[_Inputs]:
        """Yield full rows, padded rows (one language each), pairs that restart, a whole window."""
        random = torch.Generator().manual_seed(0)
        most = self.ours.config.max_positions
        length = min(_LENGTH, most)
        yield self._draw("full rows", [length] * _ROWS, random)
        yield self._draw("padding", [max(1, length - 5 * row) for row in range(_ROWS)], random)
        if length > 3:
            half = length // 2
            pairs = self._draw("pairs", [length - row for row in range(_ROWS)], random, half)
            yield pairs
        if most > length:
            name = "a whole window" if most <= _LONGEST else f"a row of {_LONGEST}"
            yield self._draw(name, [min(most, _LONGEST)], random)

    def _draw(
        self, name: str, lengths: Sequence[int], random: torch.Generator, half: int = 0
    ) -> _Inputs:
        """Return random ids without padding; positions restart at ``half`` if it is not 0."""
        shape = (len(lengths), max(lengths))
        ours, pad_id = self.ours, int(self.peer.config.pad_token_id)
        allowed = torch.arange(ours.vocab_size)
        allowed = allowed[(allowed != ours.pad_id) & (self.ids != pad_id) & (self.ids >= 0)]
        tokens = allowed[torch.randint(len(allowed), shape, generator=random)]
        langs = torch.randint(ours.num_languages, (shape[0], 1), generator=random).repeat(
            1, shape[1]
        )
        segments, positions = torch.zeros(shape, dtype=torch.int64), None
        if half:
            langs[:, half:] = (langs[:, half:] + 1) % ours.num_languages
            segments[:, half:] = 1 if ours.config.num_segments > 1 else 0
            if self.kind != "roformer":  # RoFormer accepts no positions: they run on
                positions = torch.arange(shape[1]).repeat(shape[0], 1)
                positions[:, half:] -= half
        size = torch.tensor(lengths)
        tokens[torch.arange(shape[1]) >= size[:, None]] = ours.pad_id
        return _Inputs(name, tokens, size, langs, segments, positions)


def _in_fp32(transformer: Transformer) -> Transformer:
    """Return the transformer, or a copy if it is not in fp32, in evaluation mode."""
    if all(p.dtype == torch.float32 for p in transformer.parameters()):
        return transformer.eval()
    copy = Transformer(
        transformer.config,
        vocab_size=transformer.vocab_size,
        num_languages=transformer.num_languages,
        pad_id=transformer.pad_id,
    )
    copy.load_state_dict({n: t.float() for n, t in transformer.state_dict().items()})
    return copy.eval()


def _matching_ids(model: PretrainedModel, peer: Any) -> tuple[Tensor, Tensor]:
    """Map our ids to the peer's by equal rows, as an export may have reordered them.

    Returns the peer's id of each of ours (int64 ``[V]``), and, for each id of the peer, the lowest
    id with an equal row (int64 ``[V of the peer]``). A special token that never occurs in our text
    has -1 if the peer lacks its row. If the tables have one size, but a row that matters is missing
    from the peer's, ids map to themselves: the logits then show how far the two differ. Raises
    CheckpointError if nothing fits.
    """
    ours = model.transformer.encoder.words.weight.detach().float()
    theirs = peer.get_input_embeddings().weight.detach().float()
    same, classes = torch.arange(len(ours)), torch.arange(len(theirs))
    if ours.shape == theirs.shape and torch.equal(ours, theirs):
        return same, classes
    keys = [row.tobytes() for row in theirs.numpy()]
    rows = {key: at for at, key in reversed(list(enumerate(keys)))}
    found = [rows.get(row.tobytes(), -1) for row in ours.numpy()]
    tokenizer = model.tokenizer
    needed = {getattr(tokenizer, f"{role}_id") for role in ("begin", "end", "pad", "unk", "mask")}
    missing = {at for at, row in enumerate(found) if row < 0}
    if missing <= tokenizer.special_ids - needed:
        return torch.tensor(found), torch.tensor([rows[key] for key in keys])
    if ours.shape != theirs.shape:
        raise CheckpointError(
            f"the word table in transformers is {list(theirs.shape)}, the model's is "
            f"{list(ours.shape)}, and row {min(missing)} of the former is nowhere in the "
            "latter"
        )
    return same, classes


def _worst(so_far: float, ours: Tensor, theirs: Tensor) -> float:
    """Return the larger of ``so_far`` and the largest difference; infinity for NaN or infinity."""
    if not ours.numel():
        return so_far
    found = float((ours - theirs).abs().max())
    return max(so_far, found) if math.isfinite(found) else math.inf


def _version() -> str:
    return str(importlib.import_module("transformers").__version__)
