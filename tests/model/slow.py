"""A slow transformer written from the papers: one row, one head, one query at a time."""

import math

import torch


class Slow:
    """One side of a model, its weights read by name (section B5 of the facts, and each field's
    own paper)."""

    def __init__(self, model, side):
        self.config = model.config
        self.weights = {
            name.removeprefix(side + "."): value
            for name, value in model.named_parameters()
            if name.startswith(side)
        }

    def linear(self, x, name, part=0, parts=1):
        weight, bias = self.weights[name + ".weight"], self.weights.get(name + ".bias")
        size = len(weight) // parts
        rows = slice(part * size, (part + 1) * size)
        return x @ weight[rows].T + (0 if bias is None else bias[rows])

    def norm(self, x, name):
        if name + ".weight" not in self.weights:
            return x
        if self.config.norm_kind == "rms":
            size = torch.sqrt((x**2).mean(-1, keepdim=True) + self.config.layer_norm_eps)
            return x / size * self.weights[name + ".weight"]
        mean = x.mean(-1, keepdim=True)
        variance = ((x - mean) ** 2).mean(-1, keepdim=True)
        normal = (x - mean) / torch.sqrt(variance + self.config.layer_norm_eps)
        return normal * self.weights[name + ".weight"] + self.weights.get(name + ".bias", 0)

    def turned(self, vector, position, base):
        """A head's vector, each pair of its features turned by hand."""
        half = len(vector) // 2
        out = vector.clone()
        for k in range(half):
            angle = int(position) / base ** (k / half)
            one, other = vector[k], vector[half + k]
            out[k] = one * math.cos(angle) - other * math.sin(angle)
            out[half + k] = one * math.sin(angle) + other * math.cos(angle)
        return out

    def heads(self, x, norm, positions, base):
        """``[T, D]`` by head, normalized and turned as the configuration says."""
        size = self.config.dim // self.config.num_heads
        found = []
        for head in x.split(size, dim=-1):
            head = self.norm(head, norm)
            if positions is not None and self.config.positions == "rotary":
                head = torch.stack(
                    [self.turned(*both, base) for both in zip(head, positions, strict=True)]
                )
            found.append(head)
        return found

    def attend(self, query, key, value, causal, prefix, positions=None, window=None):
        size = self.config.dim // self.config.num_heads
        base = self.config.rotary_base if window is None else self.config.local_rotary_base
        base = base or self.config.rotary_base
        queries = self.heads(query, prefix + "query_norm", positions, base)
        keys = self.heads(key, prefix + "key_norm", positions, base)
        out = []
        for at in range(len(query)):
            heads = []
            for head in range(self.config.num_heads):
                cut = slice(head * size, (head + 1) * size)
                first, last = 0, at + 1 if causal else len(key)
                if window is not None:
                    first, last = max(0, at - window // 2), min(last, at + window // 2 + 1)
                scores = keys[head][first:last] @ (queries[head][at] / math.sqrt(size))
                weights = torch.exp(scores) / torch.exp(scores).sum()
                heads.append((weights[:, None] * value[first:last, cut]).sum(0))
            out.append(torch.cat(heads))
        return self.linear(torch.stack(out), prefix + "output")

    def activate(self, x):
        kind = self.config.activation
        if kind in ("geglu", "swiglu"):
            x, gate = x.split(x.shape[-1] // 2, dim=-1)
        else:
            gate = 1
        if kind in ("gelu", "geglu"):
            return gate * x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
        return gate * x / (1 + torch.exp(-x)) if kind in ("silu", "swiglu") else x.clamp(min=0)

    def layer(self, x, prefix, causal, source, positions):
        def added(x, name, part):
            if self.config.norm == "pre":
                return x + part(self.norm(x, name))
            return self.norm(x + part(x), name)

        def look_at_itself(x):
            name = prefix + "attention.query_key_value"
            query, key, value = (self.linear(x, name, part, 3) for part in range(3))
            number = int(prefix.split(".")[1])
            local = self.config.window is not None and number % self.config.global_every
            return self.attend(
                query, key, value, causal, prefix + "attention.", positions,
                self.config.window if local else None,
            )  # fmt: skip

        def look_at_source(x):
            query = self.linear(x, prefix + "cross_attention.query")
            name = prefix + "cross_attention.key_value"
            key, value = (self.linear(source, name, part, 2) for part in range(2))
            return self.attend(query, key, value, False, prefix + "cross_attention.")

        def feed_forward(x):
            inner = self.activate(self.linear(x, prefix + "feed_forward.expand"))
            return self.linear(inner, prefix + "feed_forward.contract")

        x = added(x, prefix + "attention_norm", look_at_itself)
        if source is not None:
            x = added(x, prefix + "cross_attention_norm", look_at_source)
        return added(x, prefix + "feed_forward_norm", feed_forward)

    def place(self, position):
        """The sinusoids of one position."""
        dim = self.config.dim
        values = []
        for j in range(dim):
            angle = int(position) / 10_000 ** ((j - j % 2) / dim)
            values.append(math.cos(angle) if j % 2 else math.sin(angle))
        return torch.tensor(values, dtype=torch.float64)

    def __call__(self, row, length, causal, source=None):
        """Logits and hidden states of one row's real cells."""
        positions = row["positions"][:length]
        x = self.weights["words.weight"][row["tokens"][:length]]
        if self.config.embedding_scale:
            x = x * math.sqrt(self.config.dim)
        if self.config.positions == "learned":
            x = x + self.weights["positions.weight"][positions]
        elif self.config.positions == "sinusoidal":
            x = x + torch.stack([self.place(position) for position in positions])
        if "languages.weight" in self.weights:
            x = x + self.weights["languages.weight"][row["langs"][:length]]
        x = self.norm(x, "embedding_norm")
        num = self.config.num_decoder_layers if source is not None else self.config.num_layers
        for at in range(num):
            x = self.layer(x, f"layers.{at}.", causal, source, positions)
        x = self.norm(x, "final_norm")
        last = x
        if self.config.output_transform:
            base = {"geglu": "gelu", "swiglu": "silu"}.get(
                self.config.activation, self.config.activation
            )
            assert base == "gelu", "the only one that is tested"
            last = self.linear(x, "output_transform.dense")
            last = last * 0.5 * (1 + torch.erf(last / math.sqrt(2)))
            last = self.norm(last, "output_transform.norm")
        matrix = self.weights.get("output_weight", self.weights["words.weight"])
        return last @ matrix.T + self.weights["output_bias"], x
