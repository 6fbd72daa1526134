"""Relational attention in its slow and obvious version."""

import torch


def attention_by_loops(layer, x, relations):
    """Attention as the formulas have it: node by node, edge by edge, head by head."""
    width = x.shape[1]
    wq, wk = layer.node_score(x).split(width, -1)
    wv = layer.node_value(x)
    rows = []
    for i in range(len(x)):
        queries, keys, values = [wq[i]], [wk[i]], [wv[i]]
        for receivers, senders, edges in relations:
            for g, r in (receivers == i).nonzero().tolist():
                for s, j in enumerate(senders[g].tolist()):
                    uq, uk = layer.edge_score(edges[g, r, s]).split(width, -1)
                    um, uv = layer.edge_value(edges[g, r, s]).split(width, -1)
                    queries.append(wq[i] + uq)
                    keys.append(wk[j] + uk)
                    values.append(wv[j] * um + uv)
        heads = []
        for part in torch.arange(width).chunk(layer.heads):
            scores = torch.stack([q[part] @ k[part] for q, k in zip(queries, keys, strict=True)])
            alpha = torch.softmax(scores / len(part) ** 0.5, 0)
            heads.append(alpha @ torch.stack([v[part] for v in values]))
        rows.append(torch.cat(heads))
    return layer.output(torch.stack(rows))
