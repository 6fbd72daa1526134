"""The axes of every tensor of some entries, written by hand: the truth in full."""

from tests.reference_permute import Named

EMBEDDED = {"embed.weight": "model", "embed.bias": "model", "last.weight": ". model"}
OUT = {"out.weight": "model head*vo", "out.bias": "model"}
SEPARATE = Named(
    "model=10 head=3 qk=5:head vo=4:head",
    EMBEDDED
    | OUT
    | {"q.weight": "head*qk model", "k.weight": "head*qk model", "v.weight": "head*vo model"}
    | {"q.bias": "head*qk", "k.bias": "head*qk", "v.bias": "head*vo"},
)
QKV = "head*qk+head*qk+head*vo"
GROUPED_QUERY = Named(
    "model=10 kv=2 query=3:kv qk=5:kv vo=4:kv",
    EMBEDDED
    | {"q.weight": "kv*query*qk model", "k.weight": "kv*qk model", "v.weight": "kv*vo model"}
    | {"q.bias": "kv*query*qk", "k.bias": "kv*qk", "v.bias": "kv*vo"}
    | {"out.weight": "model kv*query*vo", "out.bias": "model"},
)
ENCODER = Named(
    "model=15 head=3 qk=5:head vo=5:head inner=7",
    EMBEDDED
    | {"layer.self_attn.in_proj_weight": f"{QKV} model", "layer.self_attn.in_proj_bias": QKV}
    | {"layer.self_attn.out_proj.weight": "model head*vo"}
    | {"layer.linear1.weight": "inner model", "layer.linear1.bias": "inner"}
    | {"layer.linear2.weight": "model inner"}
    | dict.fromkeys(
        ["layer.self_attn.out_proj.bias", "layer.linear2.bias"]
        + [f"layer.norm{i}.{part}" for i in (1, 2) for part in ("weight", "bias")],
        "model",
    ),
)


def _lstm(layer: str, inputs: str, hidden: str) -> dict[str, str]:
    gates = {f"layer.bias_{kind}_{layer}": f"4*{hidden}" for kind in ("ih", "hh")}
    recurrent = {f"layer.weight_hh_{layer}": f"4*{hidden} {hidden}"}
    return {f"layer.weight_ih_{layer}": f"4*{hidden} {inputs}"} | recurrent | gates


def _norm(name: str, axis: str, *parts: str) -> dict[str, str]:
    return {f"{name}.{part}": axis for part in ("weight", "bias", *parts)}


AXES = {
    "attention_sdpa": SEPARATE,
    "attention_matmul": SEPARATE,
    "attention_einsum": SEPARATE,
    "attention_fused": Named(
        "model=10 head=3 qk=5:head vo=5:head",
        EMBEDDED | OUT | {"qkv.weight": f"{QKV} model", "qkv.bias": QKV},
    ),
    "attention_unbind": Named(
        "model=10 head=2 qk=5:head vo=5:head",
        EMBEDDED | OUT | {"qkv.weight": f"{QKV} model", "qkv.bias": QKV},
    ),
    "attention_head_parameters": Named(
        "model=10 head=3 qk=5:head vo=4:head",
        EMBEDDED
        | {"q": "model head qk", "k": "model head qk", "v": "model head vo", "o": "head vo model"},
    ),
    "gqa_interleave": GROUPED_QUERY,
    "gqa_expand": GROUPED_QUERY,
    "gqa_native": GROUPED_QUERY,
    "multi_query": Named(
        "model=10 query=3 qk=5 vo=4",
        {name: axes.replace("kv*", "") for name, axes in GROUPED_QUERY.axes.items()},
    ),
    "multihead_attention": Named(
        "model=15 head=3 qk=5:head vo=5:head",
        EMBEDDED
        | {"attention.in_proj_weight": f"{QKV} model", "attention.in_proj_bias": QKV}
        | {"attention.out_proj.weight": "model head*vo", "attention.out_proj.bias": "model"},
    ),
    "multihead_attention_cross": Named(
        "a=15 b=15 head=3 qk=5:head vo=5:head k=7 v=8",
        {"query.weight": "a", "query.bias": "a", "key.weight": "k", "key.bias": "k"}
        | {"value.weight": "v", "value.bias": "v", "attention.in_proj_bias": QKV}
        | {"attention.q_proj_weight": "head*qk a", "attention.k_proj_weight": "head*qk k"}
        | {"attention.v_proj_weight": "head*vo v", "attention.out_proj.weight": "b head*vo"}
        | {"attention.out_proj.bias": "b", "last.weight": ". b"},
    ),
    "encoder_layer_eval": ENCODER,
    "encoder_layer_norm_first_eval": ENCODER,
    "hf_llama": Named(
        "model=12 kv=2 query=3:kv vo=6:kv inner=7",
        {"model.embed_tokens.weight": ". model", "lm_head.weight": ". model"}
        | {"model.norm.weight": "model"}
        | {
            f"model.layers.0.{name}.weight": axes
            for name, axes in {
                "self_attn.q_proj": "kv*query*6 model",
                "self_attn.k_proj": "kv*6 model",
                "self_attn.v_proj": "kv*vo model",
                "self_attn.o_proj": "model kv*query*vo",
                "mlp.gate_proj": "inner model",
                "mlp.up_proj": "inner model",
                "mlp.down_proj": "model inner",
                "input_layernorm": "model",
                "post_attention_layernorm": "model",
            }.items()
        },
    ),
    "group_norm": Named(
        "g=3 c=4:g h=2 d=5:h",
        {"0.weight": "g*c", "0.bias": "g*c", "3.weight": "h*d g*c", "3.bias": "h*d"}
        | {"8.weight": ". h*d"}
        | _norm("1", "g*c")
        | _norm("4", "h*d"),
    ),
    "grouped": Named(
        "g=3 in=4:g out=5:g last=10",
        {"0.weight": "g*in", "0.bias": "g*in", "2.weight": "g*out in", "2.bias": "g*out"}
        | {"4.weight": "last g*out", "4.bias": "last", "7.weight": ". last"},
    ),
    "depthwise_multiplier": Named(
        "c=6 m=2:c",
        {"0.weight": "c", "0.bias": "c", "1.weight": "c*m", "1.bias": "c*m", "5.weight": ". c*m"},
    ),
    "conv_flatten": Named(
        "a=6 b=10 c=13",
        {"0.weight": "a", "0.bias": "a", "3.weight": "b a", "3.bias": "b"}
        | {"6.weight": "c b*4", "6.bias": "c", "8.weight": ". c"},
    ),
    "pixel_shuffle": Named(
        "a=7 b=10",
        {"0.weight": "a*4", "0.bias": "a*4", "2.weight": "b a", "2.bias": "b", "5.weight": ". b"},
    ),
    "densenet": Named(
        "a=6 b=5 c=7",
        {"0.weight": "a", "0.bias": "a", "1.conv.weight": "b a", "2.conv.weight": "c a+b"}
        | {"6.weight": ". a+b+c"}
        | _norm("1.norm", "a", "running_mean", "running_var")
        | _norm("2.norm", "a+b", "running_mean", "running_var")
        | _norm("3", "a+b+c", "running_mean", "running_var"),
    ),
    "weight_norm": Named(
        "a=12 b=13",
        {"0.bias": "a", "2.bias": "b", "4.weight": ". b"}
        | {"0.parametrizations.weight.original0": "a", "0.parametrizations.weight.original1": "a"}
        | {"2.parametrizations.weight.original0": "b"}
        | {"2.parametrizations.weight.original1": "b a"},
    ),
    "spectral_norm": Named(
        "a=12 b=13",
        {"0.bias": "a", "2.bias": "b", "4.weight": ". b"}
        | {"0.parametrizations.weight.original": "a", "0.parametrizations.weight.0._u": "a"}
        | {"2.parametrizations.weight.original": "b a", "2.parametrizations.weight.0._u": "b"}
        | {"2.parametrizations.weight.0._v": "a"},
    ),
    "conv_spectral_norm": Named(
        "a=6 b=10",
        {"0.weight": "a", "0.bias": "a", "2.bias": "b", "5.weight": ". b"}
        | {"2.parametrizations.weight.original": "b a", "2.parametrizations.weight.0._u": "b"}
        | {"2.parametrizations.weight.0._v": "a*9"},
    ),
    "lstm": Named("h=12", _lstm("l0", ".", "h") | {"last.weight": ". h"}),
    "lstm_projected": Named(
        "h=12 p=7",
        _lstm("l0", ".", "h")
        | {"layer.weight_hh_l0": "4*h p", "layer.weight_hr_l0": "p h", "last.weight": ". p"},
    ),
    "lstm_bidirectional": Named(
        "a=6 b=6 c=6 d=6",
        _lstm("l0", ".", "a")
        | _lstm("l0_reverse", ".", "b")
        | _lstm("l1", "a+b", "c")
        | _lstm("l1_reverse", "a+b", "d")
        | {"last.weight": ". c+d"},
    ),
    "lstm_by_hand": Named(
        "h=12", {"gates.weight": "4*h 5+h", "gates.bias": "4*h", "last.weight": ". h"}
    ),
    "swiglu_chunk": Named(
        "model=10 inner=11",
        {"embed.weight": "model", "embed.bias": "model", "head.weight": ". model"}
        | {"gate_up.weight": "2*inner model", "gate_up.bias": "2*inner"}
        | {"down.weight": "model inner", "down.bias": "model"},
    ),
    "lora_merged": Named(
        "out=12 rank=3",
        {"base.weight": "out", "base.bias": "out", "a": "rank", "b": "out rank"}
        | {"last.weight": ". out"},
    ),
    "tied_autoencoder": Named(
        "a=12 b=7",
        {"outer.weight": "a", "outer.bias": "a", "inner.weight": "b a", "inner.bias": "b"}
        | {"bias": "a"},
    ),
    "experts_stacked": Named(
        "model=10 expert=3 inner=7:expert out=11",
        {"embed.weight": "model", "embed.bias": "model", "gate.weight": "expert model"}
        | {"gate.bias": "expert", "w1": "expert model inner", "b1": "expert inner"}
        | {"w2": "expert inner out", "last.weight": ". out"},
    ),
    "mixer": Named(
        "model=10 token=7 inner=13",
        {"embed.weight": "model", "embed.bias": "model", "last.weight": ". model"}
        | {"tokens.0.weight": "token", "tokens.0.bias": "token", "tokens.2.weight": ". token"}
        | {"channels.0.weight": "inner model", "channels.0.bias": "inner"}
        | {"channels.2.weight": "model inner", "channels.2.bias": "model"}
        | _norm("norm1", "model")
        | _norm("norm2", "model")
        | _norm("norm3", "model"),
    ),
    "maxout": Named(
        "a=12 piece=2:a",
        {"pieces.weight": "a*piece", "pieces.bias": "a*piece", "last.weight": ". a"},
    ),
    "glu_interleaved": Named(
        "a=12", {"first.weight": "a*2", "first.bias": "a*2", "last.weight": ". a"}
    ),
    "hypernetwork": Named(
        "code=6 out=12",
        {"code": "code", "make.weight": "out*5 code", "make.bias": "out*5", "last.weight": ". out"},
    ),
    "reversible": Named(
        "a=6 b=7",
        {"embed.weight": "a+b", "embed.bias": "a+b", "f.weight": "a b", "f.bias": "a"}
        | {"g.weight": "b a", "g.bias": "b", "last.weight": ". a+b"},
    ),
    "vae": Named(
        "a=12 code=7 b=13",
        {"encoder.0.weight": "a", "encoder.0.bias": "a", "encoder.2.weight": "2*code a"}
        | {"encoder.2.bias": "2*code", "decoder.0.weight": "b code", "decoder.0.bias": "b"}
        | {"decoder.2.weight": ". b"},
    ),
    "two_towers": Named(
        "a=12 b=13 joint=7",
        {"left.0.weight": "a", "left.0.bias": "a", "left.2.weight": "joint a"}
        | {"right.0.weight": "b", "right.0.bias": "b", "right.2.weight": "joint b"}
        | {"left.2.bias": "joint", "right.2.bias": "joint"},
    ),
    "decoder_unflatten": Named(
        "a=13 b=10 c=6",
        {"0.weight": "a", "0.bias": "a", "2.weight": "b*4 a", "2.bias": "b*4"}
        | {"4.weight": "b c", "4.bias": "c", "6.weight": ". c"},
    ),
    "pyg_gat": Named(
        "head=2 d=7:head",
        {"first.lin.weight": "head*d", "first.att_src": ". head d", "first.att_dst": ". head d"}
        | {"first.bias": "head*d", "second.lin.weight": ". head*d"},
    ),
}
