"""Write adapters.json: states and logits of the package ``adapters`` (1.3.0, Apache-2.0).

    python -m venv adapters && adapters/bin/pip install adapters==1.3.0 torch
    adapters/bin/python tests/golden/make_adapters.py

It pins transformers 4.57, hence an environment of its own. Every parameter is drawn from its name,
so that the test makes the same ones without a file of weights.
"""

import json
import zlib
from pathlib import Path

import adapters
import numpy as np
import torch
from adapters import DoubleSeqBnConfig, SeqBnConfig, SeqBnInvConfig
from transformers import BertConfig, BertForMaskedLM

SIZE, DIM = 4, 16
SHAPE = {
    "vocab_size": 20,
    "hidden_size": DIM,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 12,
    "pad_token_id": 0,
}
TOKENS = [[3, 7, 1, 12, 19], [5, 5, 2, 0, 0]]
LENGTHS = [5, 3]
FACTOR = DIM / SIZE
KINDS = {
    "houlsby": DoubleSeqBnConfig(reduction_factor=FACTOR, non_linearity="gelu"),
    "pfeiffer": SeqBnConfig(reduction_factor=FACTOR, non_linearity="relu"),
    "mad-x": SeqBnInvConfig(reduction_factor=FACTOR, non_linearity="relu", leave_out=[1]),
}


def drawn(name: str, shape: torch.Size) -> torch.Tensor:
    """Return the values of a parameter: those of a norm near 1, all others of deviation 0.2."""
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(shape)) * 0.2
    return torch.tensor(values + ("LayerNorm.weight" in name))


def rounded(values: torch.Tensor) -> list:
    """Return the values to eight decimals, in one list."""
    return [round(value, 8) for value in values.flatten().tolist()]


def main() -> None:
    """Write the file."""
    result = {}
    for kind, config in KINDS.items():
        model = BertForMaskedLM(BertConfig(**SHAPE)).double().eval()
        adapters.init(model)
        model.add_adapter("ne", config=config)
        model.set_active_adapters("ne")
        model.double().eval()
        inverse = model.bert.get_invertible_adapter()
        if inverse is not None:
            # 1.3.0 puts the inverse before the output of its own classes alone
            model.get_output_embeddings().register_forward_pre_hook(
                lambda module, inputs, inverse=inverse: (inverse(inputs[0], rev=True),)
            )
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(drawn(name, parameter.shape))
            mask = torch.arange(len(TOKENS[0]))[None] < torch.tensor(LENGTHS)[:, None]
            output = model(
                torch.tensor(TOKENS), attention_mask=mask.long(), output_hidden_states=True
            )
        result[kind] = {
            "hidden": rounded(output.hidden_states[-1]),
            "logits": rounded(output.logits),
        }
    path = Path(__file__).with_name("adapters.json")
    path.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
