"""The cases of ``benchmarks.speed.gpu`` beside a model of transformers, on the same batches.

Updates of both alternate, so that clocks that change meet both. The memory of each is its own peak,
parameters and moments included.
"""

from __future__ import annotations

import importlib.util
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from benchmarks.support.gpu_place import Figures, Place, Updates, gib, row
from xlm.batch import Batch
from xlm.model.config import ModelConfig
from xlm.objective import Objective
from xlm.objectives import MaskedLM, Translation
from xlm.training.precision import autocast

Model = torch.nn.Module
FIRST = 3
"""Updates of a peer before it is timed."""


def labels_of(batch: Batch) -> torch.Tensor:
    """Return the targets as transformers takes them: -100 if a cell is not predicted."""
    labels = torch.full_like(batch.tokens, -100)
    real = batch.targets >= 0
    labels.view(-1)[batch.predict[real]] = batch.targets[real]
    return labels


def updating(
    place: Place, model: Model, inputs: Callable[[], dict[str, Any]]
) -> Callable[[], None]:
    """Return a whole update of a peer, as ours is."""
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    def update() -> None:
        with autocast(place.device, place.precision):
            loss = model(**inputs()).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return update


def compared(
    place: Place,
    name: str,
    objective: Objective,
    shape: ModelConfig,
    make: Callable[[], Model],
    inputs: Callable[[Batch], dict[str, Any]],
) -> Figures:
    """Yield a line for our updates, eager and compiled, each in turn with the peer's."""
    if importlib.util.find_spec("transformers") is None:
        yield {"peer": name, "skipped": "transformers is not installed"}
        return
    data = place.data()
    for compiled in ("all", "no"):
        before = place.allocated()
        ours = Updates(place, objective, data, compiled=compiled, model=shape)
        ours.warm_up()
        own = place.peak(before)
        yield {"peer": name, "compiled": compiled, "memory_gib": gib(own),
               **_in_turn(place, ours, make, inputs, own)}  # fmt: skip
        del ours


def _in_turn(
    place: Place,
    ours: Updates,
    make: Callable[[], Model],
    inputs: Callable[[Batch], dict[str, Any]],
    own: float | None,
) -> dict[str, Any]:
    """Return how our updates, which take ``own`` bytes, compare with the peer's."""
    before = place.allocated()
    theirs = updating(place, make().to(place.device).train(), lambda: inputs(ours.last))
    for _ in range(FIRST):
        theirs()
    peers = place.peak(before)
    seconds: list[tuple[float, float, int]] = []
    for _ in range(place.updates):
        mine, started = ours.seconds()[0], time.perf_counter()
        theirs()
        place.wait()
        seconds.append((mine, time.perf_counter() - started, ours.last.num_tokens))
    return {
        "times_faster": round(statistics.median(peer / mine for mine, peer, _ in seconds), 2),
        "peer_tokens_per_second": round(
            statistics.median(tokens / peer for _, peer, tokens in seconds)
        ),
        "peer_memory_gib": gib(peers),
        "share_of_memory": round(own / peers, 2) if own and peers else None,
    }


def mlm_of(place: Place) -> MaskedLM:
    """Return the objective of full rows of two languages."""
    return MaskedLM(languages=["la", "lb"], rows=place.rows, length=place.length)


def xlm_model(place: Place) -> Model:
    """Return transformers' XLM of the place's shape."""
    from transformers import XLMConfig, XLMWithLMHeadModel

    config = XLMConfig(
        vocab_size=place.vocab, emb_dim=place.model.dim, n_layers=place.model.num_layers,
        n_heads=place.model.num_heads, dropout=0.1, attention_dropout=0.1, n_langs=2,
        use_lang_emb=True, gelu_activation=True,
    )  # fmt: skip
    model: Model = XLMWithLMHeadModel(config)
    return model


def peer(place: Place) -> Figures:
    """Beside transformers' XLM, MLM."""
    yield from compared(
        place, "XLMWithLMHeadModel", mlm_of(place), place.model, lambda: xlm_model(place),
        lambda batch: {
            "input_ids": batch.tokens, "langs": batch.langs, "labels": labels_of(batch)
        },
    )  # fmt: skip


def modern(place: Place) -> Figures:
    """Beside transformers' ModernBERT of our modern shape, both with a head of predicted cells."""
    sizes: dict[str, Any] = {n: getattr(place.model, n) for n in ("dim", "num_layers", "num_heads")}
    shape = ModelConfig(
        preset="modernbert-small", **sizes, feed_forward=3 * place.model.dim // 2, max_positions=512
    )

    def model() -> Model:
        from transformers import ModernBertConfig, ModernBertForMaskedLM

        config = ModernBertConfig(
            vocab_size=place.vocab, hidden_size=shape.dim, num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads, intermediate_size=shape.inner_dim,
            max_position_embeddings=shape.max_positions, local_attention=shape.window,
            global_attn_every_n_layers=shape.global_every, sparse_prediction=True,
            pad_token_id=2, bos_token_id=0, eos_token_id=1, cls_token_id=0, sep_token_id=1,
            attn_implementation="sdpa",
        )  # fmt: skip
        found: Model = ModernBertForMaskedLM(config)
        return found

    yield from compared(
        place, "ModernBertForMaskedLM", mlm_of(place), shape, model,
        lambda batch: {"input_ids": batch.tokens, "labels": labels_of(batch)},
    )  # fmt: skip


def trainer(place: Place) -> Figures:
    """transformers' XLM in its ``Trainer``, on batches that are made beforehand."""
    for name in ("transformers", "accelerate"):
        if importlib.util.find_spec(name) is None:
            yield {"peer": "Trainer", "skipped": f"{name} is not installed"}
            return
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    objective, data = mlm_of(place), place.data()
    made = Updates(place, objective, data).batches
    rows = [{"input_ids": b.tokens, "langs": b.langs, "labels": labels_of(b)} for b in made]
    before, times = place.allocated(), [0.0]

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            place.wait()
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        own = Trainer(
            model=xlm_model(place),
            args=TrainingArguments(
                output_dir=folder, per_device_train_batch_size=1, max_steps=FIRST + place.updates,
                max_grad_norm=5.0, use_cpu=place.device.type == "cpu", report_to=[],
                bf16=place.precision == "bf16", logging_steps=10**6, save_strategy="no",
                disable_tqdm=True, optim="adamw_torch_fused", remove_unused_columns=False,
            ),
            train_dataset=rows,
            data_collator=lambda examples: examples[0],
            callbacks=[Clock()],
        )  # fmt: skip
        own.remove_callback(PrinterCallback)
        own.train()
    seconds = statistics.median(b - a for a, b in itertools.pairwise(times[FIRST:]))
    tokens = statistics.fmean(batch.num_tokens for batch in made)
    yield {
        "peer": "XLMWithLMHeadModel in Trainer",
        "peer_tokens_per_second": round(tokens / seconds),
        "peer_memory_gib": gib(place.peak(before)),
    }


def translator(place: Place) -> Figures:
    """Translation; then in turn with transformers' M2M100 of the same size on the same batches."""
    layers = place.model.num_decoder_layers or place.model.num_layers
    shape = replace(place.model, num_decoder_layers=layers)
    own = Translation(pairs=["la-lb"], tokens=place.rows * 64, length=64)

    def model() -> Model:
        from transformers import M2M100Config, M2M100ForConditionalGeneration

        config = M2M100Config(
            vocab_size=place.vocab, d_model=shape.dim, encoder_layers=shape.num_layers,
            decoder_layers=layers, encoder_attention_heads=shape.num_heads,
            decoder_attention_heads=shape.num_heads, encoder_ffn_dim=shape.inner_dim,
            decoder_ffn_dim=shape.inner_dim, dropout=0.1, attention_dropout=0.1,
            activation_function="gelu", encoder_layerdrop=0.0, decoder_layerdrop=0.0,
            pad_token_id=2, eos_token_id=1, bos_token_id=0, decoder_start_token_id=1,
        )  # fmt: skip
        found: Model = M2M100ForConditionalGeneration(config)
        return found

    def inputs(batch: Batch) -> dict[str, Any]:
        assert batch.source is not None
        source = batch.source.tokens
        return {"input_ids": source, "attention_mask": (source != 2).long(),
                "decoder_input_ids": batch.tokens, "labels": labels_of(batch)}  # fmt: skip

    ceiling = place.ceiling()
    for compiled in ("all", "no"):
        figures = Updates(place, own, place.data(), compiled=compiled, model=shape).measured(
            ceiling
        )
        yield row(place, "translation", compiled, **figures)
    for line in compared(place, "M2M100ForConditionalGeneration", own, shape, model, inputs):
        yield line
        if line.get("compiled") == "no":
            yield row(
                place, "translation, M2M100 of transformers", "no",
                tokens_per_second=line["peer_tokens_per_second"],
                memory_gib=line["peer_memory_gib"], ours_times_faster=line["times_faster"],
            )  # fmt: skip
