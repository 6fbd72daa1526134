"""Models of other libraries: transformers (from small configurations) and torch_geometric.

These take seconds to import, so each is imported by the entries that use it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.zoo.entry import Model, entry


def _words() -> dict[str, Tensor]:
    return {"input_ids": torch.randint(17, (2, 6))}


@entry("13", "15", "3", "5 in 3", "5 in 3")
def hf_gpt2() -> Model:
    import transformers

    config = transformers.GPT2Config(
        vocab_size=17,
        n_positions=8,
        n_embd=15,
        n_layer=1,
        n_head=3,
        n_inner=13,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
    )
    return transformers.GPT2LMHeadModel(config), (), _words()


@entry("15", "15", "3", "5 in 3", "5 in 3", "7", pinned="classifier.bias")
def hf_bert() -> Model:
    import transformers

    config = transformers.BertConfig(
        vocab_size=17,
        hidden_size=15,
        num_hidden_layers=1,
        num_attention_heads=3,
        intermediate_size=7,
        max_position_embeddings=8,
        num_labels=4,
    )
    return transformers.BertForSequenceClassification(config), (), _words()


# Rotary embeddings turn each query and key dimension at a frequency of its own: these are pinned.
@entry("12", "2", "3 in 2", "6 in 2", "7", tolerance=1e-5)
def hf_llama() -> Model:
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=17,
        hidden_size=12,
        intermediate_size=7,
        num_hidden_layers=1,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=6,
        max_position_embeddings=8,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
    )
    return transformers.LlamaForCausalLM(config), (), _words()


@entry("10", "2", "5 in 2", "5 in 2", "7", pinned="classifier.bias")
def hf_vit() -> Model:
    import transformers

    config = transformers.ViTConfig(
        hidden_size=10,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=7,
        image_size=8,
        patch_size=4,
        num_labels=4,
    )
    return transformers.ViTForImageClassification(config), (torch.randn(2, 3, 8, 8),), {}


class _GraphNetwork(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        return self.second(functional.relu(self.first(x, edges)), edges)


def _graph() -> tuple[Tensor, Tensor]:
    return torch.randn(6, 5), torch.tensor([[0, 1, 2, 3, 4, 5, 0, 2], [1, 2, 3, 4, 5, 0, 3, 5]])


@entry("12", pinned="second.bias")
def pyg_gcn() -> Model:
    from torch_geometric.nn import GCNConv

    return _GraphNetwork(GCNConv(5, 12), GCNConv(12, 4)), _graph(), {}


@entry("2", "7 in 2", pinned="second.att_dst second.att_src second.bias")
def pyg_gat() -> Model:
    from torch_geometric.nn import GATConv

    return _GraphNetwork(GATConv(5, 7, heads=2), GATConv(14, 4)), _graph(), {}
