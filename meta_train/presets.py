"""Configurations to begin with, by name."""

from dataclasses import replace
from pathlib import Path

from meta_train.board.options import BoardOptions
from meta_train.config import Config
from meta_train.inner_stacks import Lengths
from meta_train.meta_loss import MetaLoss
from meta_train.outer import OuterOptions
from meta_train.spec import look_up
from meta_train.tasks.augmentation import Augmentation
from meta_train.unroll.options import UnrollOptions

_DEFAULT = Config()
"""For rules like `light`: they learn directions; sizes of steps are those of the base update."""

_LEARNED_SIZES = replace(_DEFAULT, frozen=())
"""The same, but what a rule decides on sizes of steps is learned too."""

_LIGHT = replace(
    _LEARNED_SIZES,
    rule="MatrixGNN:positions=depth|fans|ends|axes|taps,base_update={'weight_reference':0.0}",
    families=(
        "mlp:data=fashion_mnist|mnist,size=8,width=16|32|48,depth=1|2|3,"
        "activation=relu|tanh|gelu,norm=none|none|layer,batch=32|64|128",
        "mlp:data=fashion_mnist|mnist,size=14,width=32|48,depth=1,activation=relu|gelu,batch=64|128",
        "convnet:data=fashion_mnist|mnist,size=8,width=8|12,depth=2,activation=relu|gelu,"
        "norm=none|none|batch,batch=32",
    ),
    stacks=4,
    problems=8,
    estimator="pes",
    sigma=0.05,
    truncation=50,
    lengths=Lengths(200, 1000),
    unroll=UnrollOptions(lr=1e-3, lr_spread=1.5),
    outer=OuterOptions(lr=0.01, beta1=0.95),
    frozen=("start", "source", "rounds", "scale"),
    board=BoardOptions(every=0),
    checkpoint_every=10,
)
"""For the rules `light` and `no_graph`, on real data: PES of the network of entries, which hears
neurons whose states are those of a fresh graph network. With steps in proportion to small weights,
which the wheel's rule takes, meta-training was no better than without (see docs/log_archive.md)."""

_SIZES = replace(
    _LIGHT,
    rule="MatrixGNN:context_every=8,square_dtype=bfloat16,graph_sizes=True",
    families=(
        "mlp:data=fashion_mnist|mnist,size=8,width=16|24|48,depth=1|2|3,"
        "activation=relu|tanh|gelu,norm=none|none|layer,batch=32|64|128",
        "mlp:data=fashion_mnist|mnist,size=8,width=20|32,depth=5|7|12,activation=tanh|relu|gelu",
        "convnet:data=fashion_mnist|mnist,size=8,width=8|12,depth=2|3,activation=relu|gelu,"
        "norm=none|batch,batch=32",
        "residual:data=fashion_mnist|mnist,size=8,width=6|10,depth=1|2,norm=batch|layer,batch=32",
        "transformer_lm:width=16|24|40,depth=1|2,length=16,heads=4,batch=8|16",
        "rnn_lm:cell=gru,width=24|40,length=16,batch=8|16",
        "autoencoder:data=fashion_mnist|mnist,size=8,width=32|48,depth=1|2,code=4|8,"
        "activation=relu|gelu,batch=32|64",
    ),
    steps=600,
    stacks=14,
    active=2,
    mixed=False,
    problems=32,
    entries=6 * 10**5,
    estimator="activity_pes",
    sigma=0.03,
    sigma_outputs=0.2,
    standardize=True,
    segment=100,
    truncation=100,
    lengths=Lengths(200, 5000),
    augment=Augmentation(
        rescale=(*["none"] * 5, "tensor"), factors=(10.0, 3.0), labels=0.1, wrong=0.3, few=0.15
    ),
    unroll=UnrollOptions(lr=1e-3, lr_spread=1.5, looks="due"),
    outer=OuterOptions(lr=1.5e-3, final=0.1, warmup=10, inputs=4, factors={"head": 3.0}),
    frozen=("head",),
    checkpoint_every=20,
)
"""For the graph network and what it decides of whole tensors, on tasks of the kinds that people
train. None of them is in a suite. The network of entries stays as it is, unless `--frozen` has
nothing after it; it then learns three times as fast."""

_PRETRAINED = replace(
    _SIZES,
    rule="MatrixGNN:context_every=8,square_dtype=bfloat16,graph_sizes=True,linear_sizes=True,"
    "learned_slow=True,base_update={'whitening_limit':4096,'late_slow':4,'whitened_orthogonal':3,"
    "'boost':5.0,'slow_power':0.5,'late_decay':2.0}",
    families=(
        "mlp:data=fashion_mnist|mnist,size=8,width=16|24|32,depth=1|2|3,"
        "activation=relu|tanh|gelu,norm=none|none|layer,batch=32|64",
        "gpt_lm:width=16|24,depth=1|2,length=16,heads=2,batch=4|8",
        "convnet:data=fashion_mnist|mnist,size=8,width=8,depth=2,activation=relu|gelu,"
        "norm=none|batch,batch=16|32",
        "rnn_lm:cell=gru,width=16|24,length=16,batch=4|8",
        "residual:data=fashion_mnist|mnist,size=8,width=6|8,depth=1,norm=batch|layer,batch=16|32",
        "autoencoder:data=fashion_mnist|mnist,size=8,width=24|32,depth=1|2,code=4|8,"
        "activation=relu|gelu,batch=32",
        "mlp:data=fashion_mnist|mnist,size=8,width=16|20,depth=4|6,activation=tanh|relu|gelu,"
        "batch=32",
    ),
    steps=500,
    active=7,
    problems=48,
    entries=2 * 10**6,
    estimator="pes",
    sigma=0.02,
    augment=Augmentation(labels=0.2, few=0.2),
    outer=OuterOptions(lr=1e-3, final=0.1, warmup=20, beta1=0.95, inputs=4, factors={"head": 3.0}),
    frozen=(),
    checkpoint_every=10,
)
"""For the rule `default`: everything is learned, on tasks of the kinds that people train. None of
them is in a suite."""

_AT_SCALE = replace(
    _PRETRAINED,
    families=(
        "mlp:data=fashion_mnist,size=8,width=32,depth=1,activation=relu,batch=64",
        "transformer_lm:width=16,depth=1,length=16,heads=2,batch=16",
        "mlp:data=mnist,size=8,width=48,depth=2,activation=gelu,batch=32",
        "convnet:data=fashion_mnist,size=8,width=8,depth=2,activation=relu,batch=32",
        "mlp:data=fashion_mnist,size=8,width=32,depth=3,activation=tanh,batch=64",
        "rnn_lm:cell=gru,width=40,length=16,batch=16",
        "mlp:data=mnist,size=8,width=48,depth=3,activation=relu,norm=layer,batch=128",
        "residual:data=fashion_mnist,size=8,width=10,depth=1,norm=batch,batch=32",
        "mlp:data=fashion_mnist,size=14,width=48,depth=1,activation=gelu,batch=64",
        "gpt_lm:width=40,depth=2,length=16,heads=4,batch=16",
        "mlp:data=fashion_mnist,size=8,width=20,depth=7,activation=tanh,batch=64",
        "convnet:data=mnist,size=8,width=12,depth=3,activation=gelu,norm=batch,batch=32",
        "autoencoder:data=fashion_mnist,size=8,width=32,depth=1,code=8,batch=64",
        "mlp:data=mnist,size=14,width=64,depth=2,activation=relu,batch=16",
        "residual:data=mnist,size=8,width=6,depth=2,norm=layer,batch=32",
        "autoencoder:data=mnist,size=8,width=48,depth=2,code=8,activation=gelu,batch=32",
    ),
    stacks=16,
    active=0,
    problems=192,
    entries=3 * 10**6,
    augment=Augmentation(),
    checkpoint_every=1000,
)
"""The same for a GPU, where each stack keeps to one task, whose steps are recorded once."""

_SMOKE = replace(
    _LEARNED_SIZES,
    steps=20,
    problems=4,
    truncation=10,
    lengths=Lengths(20, 100),
    checkpoint_every=10,
    board=BoardOptions(inner_steps=50, problems=2),
)

_PAPER = replace(
    _LEARNED_SIZES,
    steps=1000,
    families=("convnet:data=fashion_mnist,size=28,width=16,depth=3,activation=relu,batch=128",),
    estimator="greedy",
    problems=1,
    truncation=100,
    lengths=Lengths(100, 100),
    unroll=UnrollOptions(lr=0.01, measure="same"),
    meta_loss=MetaLoss(ceiling=100.0, scale="relative"),
    outer=OuterOptions(lr=3e-4, weight_decay=1e-4, warmup=0, beta2=0.999),
)
"""The setup of Kofinas et al. (ICLR 2024): 1,000 outer steps of 100 greedy inner steps."""

_RULES = {
    "matrix_gnn": "MatrixGNN",
    "no_graph": "MatrixGNN:graph_context=False",
    "ng_gnn": "NGGNN",
    "ng_t": "NGT",
    "nfn": "NFN",
    "dws": "DWS",
    "deep_sets": "DeepSets",
    "stat_nn": "StatNN",
    "across_lstm": "AcrossLSTM",
    "ff": "FF",
    "lstm": "LSTM",
    "mlp": "SmallFC",
    "celo2": "Celo2",
}

_ENTRIES = replace(
    _LEARNED_SIZES,
    steps=800,
    problems=16,
    truncation=20,
    lengths=Lengths(60, 600),
    outer=OuterOptions(lr=4e-3),
)
"""For networks of single entries, which cost more than a graph of neurons."""

_CHANGES: dict[str, Config] = {
    "lstm": replace(_ENTRIES, steps=1600, problems=6, unroll=UnrollOptions(0.01, 2.0)),
    "mlp": replace(_ENTRIES, unroll=UnrollOptions(1.0, 2.0)),
    "celo2": replace(_ENTRIES, unroll=UnrollOptions(1e-3, 2.0)),
    "matrix_gnn": _DEFAULT,
    "no_graph": _DEFAULT,
}

_PAPER_RULES = {
    "ng_gnn": "NGGNN:width=64,layers=8,head_layers=8,scalers=False,recipe=paper",
    "ng_t": "NGT:recipe=paper",
    "nfn": "NFN:recipe=paper",
    "across_lstm": "AcrossLSTM:recipe=paper",
    "ff": "FF:hidden=64,recipe=paper",
}
"""Of the sizes that the paper meta-trains, as far as they are known."""

_SMALL_PAPER = replace(
    _PAPER,
    families=("convnet:data=fashion_mnist,size=14,width=8,depth=3,activation=relu,batch=128",),
    problems=4,
    truncation=5,
    outer=replace(_PAPER.outer, lr=3e-3),
    board=BoardOptions(every=0),
)
"""The same for a CPU: fewer pixels and channels, four runs side by side, theta moves more often."""

_SMALL_PAPER_RULES = {
    "ng_gnn": ("NGGNN:width=16,layers=4,scalers=False,recipe=paper", 250),
    "ng_t": ("NGT:width=16,recipe=paper", 270),
    "nfn": ("NFN:width=16,recipe=paper", 540),
    "across_lstm": ("AcrossLSTM:recipe=paper", 660),
    "ff": ("FF:recipe=paper", 700),
}
"""With the numbers of outer steps that take about five minutes on one quiet CPU core."""


def _presets() -> dict[str, Config]:
    presets = {
        "default": _DEFAULT,
        "smoke": _SMOKE,
        "sizes": _SIZES,
        "pretrained": _PRETRAINED,
        "at_scale": _AT_SCALE,
        "pretrained_light": _LIGHT,
        "pretrained_no_graph": replace(
            _LIGHT,
            rule=f"{_LIGHT.rule},graph_context=False",
            frozen=(*_LIGHT.frozen, "head.out_neuron", "head.in_neuron"),
        ),
    }
    for name, rule in _RULES.items():
        presets[name] = replace(_CHANGES.get(name, _LEARNED_SIZES), rule=rule)
    presets |= {f"paper_{n}": replace(_PAPER, rule=rule) for n, rule in _PAPER_RULES.items()}
    for name, (rule, steps) in _SMALL_PAPER_RULES.items():
        presets[f"small_paper_{name}"] = replace(_SMALL_PAPER, rule=rule, steps=steps)
    # As the rules in the wheel are: for as many inner steps as the others, or for as many minutes.
    by_pes = replace(_LIGHT, rule="MatrixGNN", stacks=1, outer=replace(_LIGHT.outer, lr=5e-3))
    presets["paper_matrix_gnn"] = replace(by_pes, families=_PAPER.families, steps=250)
    presets["small_paper_matrix_gnn"] = replace(by_pes, families=_SMALL_PAPER.families, steps=55)
    return {
        name: replace(config, preset=name, folder=Path("runs") / name)
        for name, config in presets.items()
    }


PRESETS = _presets()
"""By name."""

_SUMMARIES = {
    "default": "a graph network learns directions of steps; twenty minutes on one CPU core",
    "smoke": "20 short outer steps, to see that everything works",
    "sizes": "it learns sizes of steps too, on eight kinds of tasks",
    "pretrained": "all of the rule `default`, by evolution strategies; ten hours on one core",
    "at_scale": "the same with larger stacks, for a GPU",
    "pretrained_light": "entries of the rule `light`, by PES; 44 minutes on one core",
    "pretrained_no_graph": "the same without graph context",
}


def summary(name: str) -> str:
    """What a preset is for, in one line.

    Raises:
        MetaTrainError: if there is no such preset.
    """
    rule = look_up(PRESETS, name, "preset").rule.partition(":")[0]
    if name.startswith("small_paper_"):
        return f"{rule} in the setup of the neural-graphs paper, made small: five minutes on a CPU"
    if name.startswith("paper_"):
        return f"{rule} in the setup of the neural-graphs paper"
    return _SUMMARIES.get(name, f"{rule} on small perceptrons")


def listed() -> str:
    """All presets, a line each."""
    width = max(map(len, PRESETS))
    lines = [f"  {name:{width}}  {summary(name)}" for name in PRESETS]
    return "\n".join(["Presets (--preset):", *lines])
