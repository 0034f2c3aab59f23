"""The shape of a model, its named sizes, and what they cost in parameters and in arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from xlm.config.hints import check_types
from xlm.errors import ConfigError

UNSET = 0
UNSET_DECODER = -1

_ROTARY: dict[str, Any] = {
    "positions": "rotary",
    "initialization": "normal",
    "output_transform": True,
    "language_embeddings": False,
}
_SIZES: dict[str, dict[str, Any]] = {
    # XLM section 5.1; the 17- and 100-language models as released, without language embeddings
    "xlm-15": {"dim": 1024, "num_layers": 12, "num_heads": 8},
    "xlm-17": {"dim": 1280, "num_layers": 16, "num_heads": 16, "language_embeddings": False},
    "xlm-100": {"dim": 1280, "num_layers": 16, "num_heads": 16, "language_embeddings": False},
    "mt-6": {"dim": 1024, "num_layers": 6, "num_heads": 8, "num_decoder_layers": 6},
    "base": {"dim": 768, "num_layers": 12, "num_heads": 12},
    "tiny": {"dim": 128, "num_layers": 4, "num_heads": 4},
    # for little text: 2019's layers, but positions that are learned within a million tokens
    "rotary-tiny": {"dim": 128, "num_layers": 4, "num_heads": 4, **_ROTARY},
    "rotary-small": {"dim": 256, "num_layers": 6, "num_heads": 4, **_ROTARY},
    "rotary-base": {"dim": 768, "num_layers": 12, "num_heads": 12, **_ROTARY},
}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of a transformer; ``preset`` fills the sizes that are not given.

    Vocabulary, languages and padding id are not here: they belong to the data and are given when
    the model is built. Raises ConfigError for sizes that are missing or do not fit each other.

    A tree of settings must not give this class a default *instance*: its sizes are filled by then,
    and would count as given beside another preset.
    """

    preset: str | None = None
    """Named shape (xlm-15, xlm-17, xlm-100, mt-6, base, tiny, rotary-tiny, rotary-small,
    rotary-base) for those of the fields dim, num_layers, num_heads, num_decoder_layers,
    language_embeddings, positions, initialization and output_transform that are not given."""
    dim: int = UNSET
    """Width of the hidden states; a multiple of num_heads (0: the preset's)."""
    num_layers: int = UNSET
    """Layers of the encoder (0: the preset's)."""
    num_heads: int = UNSET
    """Attention heads of each layer (0: the preset's)."""
    num_decoder_layers: int = UNSET_DECODER
    """Layers of the decoder; 0 is an encoder alone (-1: the preset's, else 0)."""
    language_embeddings: bool | None = None
    """Add a learned vector per language to each token; with a single language there is none
    (null: the preset's, else true)."""
    num_segments: int = 0
    """Rows of a table of segments (token types) that is added too: BERT has 2, XLM-R 1, XLM none;
    with 1 every token gets the same row."""
    feed_forward: int | None = None
    """Width inside the feed-forward layers (null: 4 x dim)."""
    max_positions: int = 512
    """Rows of the table of learned positions; whatever the positions, no row may be longer."""
    positions: Literal["learned", "sinusoidal", "rotary"] | None = None
    """How a token's place is told (null: the preset's, else learned). learned: a table, as in XLM
    and BERT. sinusoidal: fixed vectors ("Attention Is All You Need", section 3.5). rotary: queries
    and keys of self-attention turn by their place (RoFormer, Su et al. 2021), which small models
    learn to use far earlier."""
    rotary_base: float = 10_000.0
    """Base of the rotary wavelengths (RoFormer: 10,000); larger for rows of thousands of tokens."""
    dropout: float = 0.1
    """Probability of dropping a cell of the embeddings and of each sub-layer's output."""
    attention_dropout: float = 0.1
    """Probability of dropping an attention weight; 0 is faster."""
    embedding_noise: float = 0.0
    """Standard deviation of the noise that training adds to each looked-up word, position and
    segment vector (MonoTrans, appendix: 0.075 in fine-tuning)."""
    window: int | None = None
    """Tokens in sight of each in a local layer, half on either side (null: every layer sees whole
    rows; ModernBERT, Warner et al. 2024: 128). Distances are those in the row."""
    global_every: int = 1
    """With a window: every so many layers, the first among them, see whole rows (ModernBERT: 3)."""
    local_rotary_base: float | None = None
    """Base of local layers (null: rotary_base; ModernBERT has 10,000 there, 160,000 elsewhere)."""
    embedding_norm: bool = True
    """Normalize the sum of the embeddings, as XLM and BERT do."""
    embedding_scale: bool = False
    """Multiply word vectors by sqrt(dim) before anything is added to them ("Attention Is All You
    Need", section 3.4)."""
    norm: Literal["post", "pre"] = "post"
    """Normalize each sum of a part's input and output (post, as in XLM), or each part's input, and
    the last layer's output once more (pre; Xiong et al. 2020, "On Layer Normalization")."""
    first_norm: bool = True
    """Pre-norm alone: normalize the input of the first layer's attention too; ModernBERT, whose
    embeddings are normalized, does not."""
    norm_kind: Literal["layer", "rms"] = "layer"
    """Layer normalization, or the root mean square alone (Zhang and Sennrich 2019)."""
    qk_norm: bool = False
    """Normalize queries and keys within each head (Henry et al. 2020; Dehghani et al. 2023,
    section 2), which stands higher learning rates."""
    activation: Literal["gelu", "relu", "silu", "geglu", "swiglu"] = "gelu"
    """Inside the feed-forward layers; GELU is the exact one (erf). geglu and swiglu multiply it by
    a second product of the input, which adds half again to these layers (Shazeer 2020)."""
    biases: bool = True
    """Biases of linear layers and layer normalizations; the output bias is there in any case."""
    initialization: Literal["xlm", "normal"] | None = None
    """First values (null: the preset's, else xlm). xlm: the original's. normal: tables 0.02,
    matrices sqrt(2 / (5 dim)) (Nguyen and Salazar 2019), those that end a part of a layer divided
    by the root of the number of parts (GPT-2), the output transform's the identity, biases 0."""
    tied_output: bool = True
    """The output matrix is the word embeddings; the output bias is always its own."""
    output_transform: bool | None = None
    """A linear layer, the activation and a normalization before the projection onto the
    vocabulary, as BERT and XLM-R have and XLM has not (null: the preset's, else false)."""
    layer_norm_eps: float = 1e-12
    """Added to the variance, or to the mean square, in each normalization."""
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

    def is_local(self, layer: int) -> bool:
        """Return whether the layer of that number, from 0, sees a window alone."""
        return self.window is not None and layer % self.global_every != 0

    @property
    def gated(self) -> bool:
        """Whether the feed-forward layers have a second product of their input."""
        return self.activation in ("geglu", "swiglu")

    def _fill(self) -> None:
        if self.preset is not None and self.preset not in _SIZES:
            expected = ", ".join(_SIZES)
            raise ConfigError(f"unknown model preset {self.preset!r}: expected one of {expected}")
        sizes = _SIZES.get(self.preset, {}) if self.preset else {}

        def fill(name: str, unset: Any, otherwise: Any) -> None:
            if getattr(self, name) == unset:
                object.__setattr__(self, name, sizes.get(name, otherwise))

        for name in ("dim", "num_layers", "num_heads"):
            fill(name, UNSET, UNSET)
        fill("num_decoder_layers", UNSET_DECODER, 0)
        fill("language_embeddings", None, True)
        fill("positions", None, "learned")
        fill("initialization", None, "xlm")
        fill("output_transform", None, False)

    def _check(self) -> None:
        for name in ("dim", "num_layers", "num_heads", "max_positions", "inner_dim"):
            value = getattr(self, name)
            if value < 1:
                field = "feed_forward" if name == "inner_dim" else name
                raise ConfigError(
                    f"model.{field} is {value}: expected at least 1; give it, or name a preset "
                    f"({', '.join(_SIZES)})"
                )
        if self.num_segments < 0:
            raise ConfigError(f"model.num_segments is {self.num_segments}: expected 0 or more")
        if self.num_decoder_layers < 0:
            raise ConfigError(
                f"model.num_decoder_layers is {self.num_decoder_layers}: expected 0 (an encoder "
                f"alone) or more"
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
            raise ConfigError(f"model.layer_norm_eps is {self.layer_norm_eps}: expected above 0")

    def _check_combinations(self) -> None:
        width = self.dim // self.num_heads
        if self.positions == "rotary" and width % 2:
            raise ConfigError(
                f"model.positions is rotary, which turns pairs of features, but a head is {width} "
                f"wide (model.dim {self.dim} / model.num_heads {self.num_heads}): expected an even "
                "width"
            )
        if self.positions == "sinusoidal" and self.dim % 2:
            raise ConfigError(
                f"model.positions is sinusoidal, which fills pairs of features: expected an even "
                f"model.dim, found {self.dim}"
            )
        if not self.rotary_base > 1:
            raise ConfigError(f"model.rotary_base is {self.rotary_base}: expected above 1")
        if self.rotary_base != 10_000.0 and self.positions != "rotary":
            raise ConfigError(
                f"model.rotary_base is {self.rotary_base}, but model.positions is "
                f"{self.positions}: set it to rotary, or leave the base out"
            )
        if not self.first_norm and self.norm != "pre":
            raise ConfigError(
                f"model.first_norm is false and model.norm {self.norm}: expected norm pre, whose "
                "first norm acts on the embeddings"
            )
        self._check_window()
        if self.fused_layer_norm and (self.norm_kind != "layer" or not self.biases):
            raise ConfigError(
                "model.fused_layer_norm is a layer normalization with biases: expected "
                f"model.norm_kind layer and model.biases true, found {self.norm_kind} and "
                f"{str(self.biases).lower()}"
            )

    def _check_window(self) -> None:
        if self.window is None:
            for name, default in (("global_every", 1), ("local_rotary_base", None)):
                if getattr(self, name) != default:
                    raise ConfigError(
                        f"model.{name} is {getattr(self, name)}, but model.window is not set: no "
                        "layer is local; give a window, or leave it out"
                    )
            return
        if self.window < 2:
            raise ConfigError(f"model.window is {self.window}: expected 2 tokens or more")
        if self.global_every < 2:
            raise ConfigError(
                f"model.window is {self.window} and model.global_every {self.global_every}: "
                "expected global_every 2 or more, or every layer sees whole rows"
            )
        base = self.local_rotary_base
        if base is not None and (self.positions != "rotary" or not base > 1):
            raise ConfigError(
                f"model.local_rotary_base is {base} and model.positions {self.positions}: expected "
                "a base above 1 and rotary positions"
            )


def flops_per_token(
    config: ModelConfig,
    vocab_size: int,
    length: float,
    predicted_share: float,
    causal: bool = False,
) -> float:
    """Arithmetic that one training token *needs*: the numerator of every utilization we report.

    The convention: matrix products only, a multiplication and an addition being two operations;
    forward and backward together three times the forward; of the vocabulary projection only
    ``predicted_share`` of the tokens, whatever a program really executes; a causal row attends to
    half of ``length`` on average. For an encoder with an inner width of 4 d, not gated, that is

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
    return 3.0 * (body + predicted_share * 2 * d * vocab_size)
