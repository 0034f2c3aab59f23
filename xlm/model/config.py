"""The shape of a model, its named sizes, and their cost in parameters and arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from xlm.config.hints import check_types
from xlm.errors import ConfigError
from xlm.model.presets import PRESETS

_T = TypeVar("_T")
if TYPE_CHECKING:
    Filled = Annotated[_T, "null only until the preset or the default has filled it"]
else:
    Filled = _T | None
_UNSET: Any = None
_DEFAULTS: dict[str, Any] = {
    "num_decoder_layers": 0,
    "language_embeddings": True,
    "num_segments": 0,
    "shared_words": False,
    "embedding_scale": False,
    "max_positions": 512,
    "positions": "learned",
    "rotary_base": 10_000.0,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "global_every": 1,
    "norm": "post",
    "first_norm": True,
    "activation": "gelu",
    "biases": True,
    "initialization": "xlm",
    "output_transform": False,
    "layer_norm_eps": 1e-12,
}
"""The values of fields that neither the user nor the preset gives: XLM's architecture of 2019."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of a transformer; ``preset`` fills the sizes that are not given.

    Vocabulary, languages and padding id are not here: they belong to the data and are given when
    the model is built. Raises ConfigError for sizes that are missing or do not fit each other.

    A tree of settings must not give this class a default *instance*: its sizes are filled by then,
    and would count as given beside another preset.
    """

    preset: str | None = None
    """Named shape that fills in all fields that are null: xlm-15, xlm-17, xlm-100, mt-6, mmte,
    mbart, base, mbert, tiny; rotary-tiny, rotary-small, rotary-base; modernbert-tiny,
    modernbert-small, modernbert-base, modernbert-large."""
    dim: Filled[int] = _UNSET
    """Width of the hidden states; a multiple of num_heads (null: the preset's)."""
    num_layers: Filled[int] = _UNSET
    """Layers of the encoder (null: the preset's)."""
    num_heads: Filled[int] = _UNSET
    """Attention heads of each layer (null: the preset's)."""
    num_decoder_layers: Filled[int] = _UNSET
    """Layers of the decoder; 0: an encoder alone (null: the preset's, else 0)."""
    shared_words: Filled[bool] = _UNSET
    """Share one word table between encoder and decoder ("Attention Is All You Need", section 3.4);
    the original XLM has two. Each side keeps its own output bias (null: the preset's, else
    false)."""
    language_embeddings: Filled[bool] = _UNSET
    """Add a learned vector of its language to each token; a model of one language has none (null:
    the preset's, else true)."""
    num_segments: Filled[int] = _UNSET
    """Rows of an additional table of segments (token types): BERT has 2, XLM-R 1, XLM none; with 1
    every token gets the same row (null: the preset's, else 0)."""
    feed_forward: int | None = None
    """Width inside the feed-forward layers (null: the preset's, else 4 x dim)."""
    word_size: int | None = None
    """Width of the table of words, with a linear layer from it to dim and one back before the
    output (MonoTrans, section 3.1: vectors of 300 in a model of 768; null: dim)."""
    max_positions: Filled[int] = _UNSET
    """Longest row, and the number of learned positions if positions is learned (null: the preset's,
    else 512)."""
    positions: Filled[Literal["learned", "sinusoidal", "rotary"]] = _UNSET
    """Encoding of positions (null: the preset's, else learned). learned: a table, as in XLM and
    BERT. sinusoidal: fixed vectors ("Attention Is All You Need", section 3.5). rotary: queries and
    keys of self-attention are rotated by position (RoFormer, Su et al. 2021), which small models
    learn to use much earlier."""
    rotary_base: Filled[float] = _UNSET
    """Base of the rotary wavelengths, larger for rows of thousands of tokens (null: the preset's,
    else 10,000 as in RoFormer)."""
    dropout: Filled[float] = _UNSET
    """Probability of dropping a cell of the embeddings and of each sub-layer's output (null: the
    preset's, else 0.1)."""
    attention_dropout: Filled[float] = _UNSET
    """Probability of dropping an attention weight; 0 is faster (null: the preset's, else 0.1)."""
    embedding_noise: float = 0.0
    """Standard deviation of the noise that training adds to each word, position and segment vector
    (MonoTrans, appendix: 0.075 in fine-tuning)."""
    window: int | None = None
    """Number of tokens that each token sees in a local layer, half on either side (null: the
    preset's, else every layer sees whole rows; ModernBERT, Warner et al. 2024: 128). Distances are
    counted in the row."""
    global_every: Filled[int] = _UNSET
    """With a window: every n-th layer, starting with the first, sees whole rows (ModernBERT: 3); 1:
    all layers do (null: the preset's, else 1)."""
    local_rotary_base: float | None = None
    """Rotary base of local layers (null: the preset's, else rotary_base; ModernBERT: 10,000, and
    160,000 in global layers)."""
    plain_first: bool = False
    """Add neither a position nor a segment vector to the opening symbol (MonoTrans, section 2.2);
    this needs a separate begin symbol, as XLM-R and BERT have."""
    embedding_norm: bool = True
    """Normalize the sum of the embeddings, as XLM and BERT do."""
    embedding_scale: Filled[bool] = _UNSET
    """Multiply word vectors by sqrt(dim) before anything is added to them ("Attention Is All You
    Need", section 3.4; null: the preset's, else false)."""
    norm: Filled[Literal["post", "pre"]] = _UNSET
    """Place of normalization. post: on each sum of a part's input and output, as in XLM. pre: on
    each part's input, and once more on the last layer's output (Xiong et al. 2020, "On Layer
    Normalization"; null: the preset's, else post)."""
    first_norm: Filled[bool] = _UNSET
    """With norm pre: also normalize the input of the first layer's attention; ModernBERT does not,
    since its embeddings are normalized (null: the preset's, else true)."""
    norm_kind: Literal["layer", "rms"] = "layer"
    """layer: layer normalization. rms: division by the root mean square alone (Zhang and Sennrich
    2019)."""
    qk_norm: bool = False
    """Normalize queries and keys within each head (Henry et al. 2020; Dehghani et al. 2023,
    section 2), which allows higher learning rates."""
    activation: Filled[Literal["gelu", "relu", "silu", "geglu", "swiglu"]] = _UNSET
    """Activation inside the feed-forward layers; gelu is the exact one (erf). geglu and swiglu
    multiply it by a second projection of the input, which makes these layers half again as large
    (Shazeer 2020; null: the preset's, else gelu)."""
    biases: Filled[bool] = _UNSET
    """Give linear layers and layer normalizations biases; the output always has one (null: the
    preset's, else true)."""
    initialization: Filled[Literal["xlm", "normal"]] = _UNSET
    """Initial weights (null: the preset's, else xlm). xlm: as the original XLM. normal: normal with
    deviation 0.02 for tables and sqrt(2 / (5 dim)) for matrices (Nguyen and Salazar 2019), divided
    by the root of the number of parts for matrices that end a part of a layer (GPT-2); the output
    transform starts as the identity, and biases at 0."""
    tied_output: bool = True
    """Use the word embeddings as the output matrix; the output bias is separate in any case."""
    output_transform: Filled[bool] = _UNSET
    """Add a linear layer, the activation and a normalization before the output, as in BERT and
    XLM-R but not in XLM (null: the preset's, else false)."""
    layer_norm_eps: Filled[float] = _UNSET
    """Added to the variance (or the mean square) in each normalization (null: the preset's, else
    1e-12)."""
    fused_layer_norm: bool = False
    """Use FusedLayerNorm of NVIDIA apex, which must be installed."""

    def __post_init__(self) -> None:
        try:
            check_types(self)
        except ConfigError as error:
            raise ConfigError(f"model.{error}") from None
        self._fill()
        self._check()

    @property
    def inner_dim(self) -> int:
        """Width inside the feed-forward layers."""
        return self.feed_forward or 4 * self.dim

    @property
    def word_width(self) -> int:
        """Width of the table of words."""
        return self.word_size or self.dim

    def is_local(self, layer: int) -> bool:
        """Return whether the layer of that number, from 0, sees a window alone."""
        return self.window is not None and layer % self.global_every != 0

    @property
    def gated(self) -> bool:
        """True if the feed-forward layers have a second product of their input."""
        return self.activation in ("geglu", "swiglu")

    def _fill(self) -> None:
        if self.preset is not None and self.preset not in PRESETS:
            expected = ", ".join(PRESETS)
            raise ConfigError(f"unknown model preset {self.preset!r}: expected one of {expected}")
        values = {**_DEFAULTS, **(PRESETS[self.preset] if self.preset else {})}
        # a preset's settings that belong to another value than the given one are left out
        without: list[str] = []
        if self.global_every == 1:
            without += ["window", "local_rotary_base"]
        if self.positions not in (None, "rotary"):
            without += ["rotary_base", "local_rotary_base"]
        if self.norm not in (None, "pre"):
            without += ["first_norm"]
        values |= {name: _DEFAULTS.get(name) for name in without}
        for name, value in values.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)

    def _check(self) -> None:
        for name in ("dim", "num_layers", "num_heads"):
            if getattr(self, name) is None:
                raise ConfigError(
                    f"model.{name} is missing: give it, or name a preset ({', '.join(PRESETS)})"
                )
        for name in (
            "dim", "num_layers", "num_heads", "max_positions", "feed_forward", "word_size"
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(
                    f"model.{name} is {value}: expected at least 1; leave it out (null) for the "
                    "preset's"
                )
        if self.num_segments < 0:
            raise ConfigError(f"model.num_segments is {self.num_segments}: expected 0 or more")
        if self.num_decoder_layers < 0:
            raise ConfigError(
                f"model.num_decoder_layers is {self.num_decoder_layers}: expected at least 0 "
                "(0: an encoder alone)"
            )
        if self.word_size is not None and (self.num_decoder_layers or not self.tied_output):
            raise ConfigError(
                f"model.word_size is {self.word_size}: expected an encoder alone "
                f"(num_decoder_layers 0, found {self.num_decoder_layers}) whose output matrix is "
                f"its words (tied_output true, found {str(self.tied_output).lower()})"
            )
        if self.dim % self.num_heads:
            raise ConfigError(
                f"model.dim {self.dim} is not divisible by model.num_heads {self.num_heads}: "
                f"change one of them"
            )
        for name in ("dropout", "attention_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(f"model.{name} is {getattr(self, name)}: expected 0 <= p < 1")
        if not self.embedding_noise >= 0:
            raise ConfigError(
                f"model.embedding_noise is {self.embedding_noise}: expected 0 or more"
            )
        self._check_combinations()
        if not self.layer_norm_eps > 0:
            raise ConfigError(
                f"model.layer_norm_eps is {self.layer_norm_eps}: expected a number above 0"
            )

    def _check_combinations(self) -> None:
        width = self.dim // self.num_heads
        if self.positions == "rotary" and width % 2:
            raise ConfigError(
                "model.positions is rotary, which rotates pairs of features, but heads are "
                f"{width} wide (model.dim {self.dim} / model.num_heads {self.num_heads}): "
                "expected an even width"
            )
        if self.positions == "sinusoidal" and self.dim % 2:
            raise ConfigError(
                "model.positions is sinusoidal, which fills pairs of features: expected an "
                f"even model.dim, found {self.dim}"
            )
        if not self.rotary_base > 1:
            raise ConfigError(f"model.rotary_base is {self.rotary_base}: expected a number above 1")
        if self.rotary_base != 10_000.0 and self.positions != "rotary":
            raise ConfigError(
                f"model.rotary_base is {self.rotary_base}, but model.positions is "
                f"{self.positions}: set it to rotary, or leave the base out"
            )
        if not self.first_norm and self.norm != "pre":
            raise ConfigError(
                f"model.first_norm is false, but model.norm is {self.norm}: expected norm "
                "pre, whose first normalization acts on the embeddings"
            )
        self._check_window()
        if self.fused_layer_norm and (self.norm_kind != "layer" or not self.biases):
            raise ConfigError(
                "model.fused_layer_norm needs a layer normalization with biases: expected "
                f"model.norm_kind layer and model.biases true, found {self.norm_kind} and "
                f"{str(self.biases).lower()}"
            )

    def _check_window(self) -> None:
        if self.window is None:
            for name, default in (("global_every", 1), ("local_rotary_base", None)):
                if getattr(self, name) != default:
                    raise ConfigError(
                        f"model.{name} is {getattr(self, name)}, but model.window is not "
                        "set, so no layer is local: give a window, or leave it out"
                    )
            return
        if self.window < 2:
            raise ConfigError(f"model.window is {self.window}: expected 2 tokens or more")
        if self.global_every < 2:
            raise ConfigError(
                f"model.window is {self.window}, but model.global_every is "
                f"{self.global_every}: expected global_every to be at least 2, since "
                "otherwise every layer sees whole rows"
            )
        base = self.local_rotary_base
        if base is not None and (self.positions != "rotary" or not base > 1):
            raise ConfigError(
                f"model.local_rotary_base is {base} and model.positions is {self.positions}: "
                "expected a base above 1 and rotary positions"
            )


def flops_per_token(
    config: ModelConfig,
    vocab_size: int,
    length: float,
    predicted_share: float,
    causal: bool = False,
) -> float:
    """Return the arithmetic that one training token *needs*: the numerator of every utilization.

    The convention: matrix products only, a multiplication and an addition being two operations;
    forward and backward together three times the forward; of the vocabulary projection only
    ``predicted_share`` of the tokens, even if a program executes more; a causal row attends to half
    of ``length`` on average. For an encoder with an inner width of 4 d, not gated, that is

        3 * [ layers * (24 d^2 + 4 length d) + predicted_share * 2 d vocab_size ]

    An encoder-decoder is counted per token of either side, both being ``length`` long: half of a
    source token's encoder and a target token's decoder, cross-attention included. For an objective
    that uses its encoder alone, give the same config with ``num_decoder_layers=0``.

    A local layer attends to ``window`` + 1 tokens, if its rows are longer.

    ``length`` is the attended length (of rows of differing length: sum of squares / sum).
    """
    d = config.dim
    linears = 8 * d * d + (6 if config.gated else 4) * d * config.inner_dim
    causal_attention, full_attention = 2 * length * d, 4 * length * d
    attention = causal_attention if causal else full_attention
    near = 1.0 if config.window is None else min((config.window + 1) / length, 1.0)

    def attending(num_layers: int, whole: float) -> float:
        num_local = sum(config.is_local(layer) for layer in range(num_layers))
        return whole * (num_layers - num_local + near * num_local)

    body = config.num_layers * linears + attending(config.num_layers, attention)
    if config.num_decoder_layers:
        cross = 8 * d * d + full_attention
        body += config.num_decoder_layers * (linears + cross)
        body += attending(config.num_decoder_layers, causal_attention)
        body /= 2
    output = 2 * config.word_width * vocab_size
    if config.word_size is not None:
        body += 2 * d * config.word_size
        output += 2 * d * config.word_size
    return 3.0 * (body + predicted_share * output)
