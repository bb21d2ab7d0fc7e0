"""A network of dense layers alone as the arrays that serving multiplies, see `ranking.serving.dense`."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from recsys_cli.ranking.networks.network import LOG_VARIANCE_RANGE, HeavyNetwork, InputSpec, ServedNetwork
from recsys_cli.ranking.networks.trunks import SharedBottom
from recsys_cli.ranking.serving.dense import DenseLayers


def dense_layers(network: ServedNetwork, spec: InputSpec, columns: int) -> DenseLayers | None:
    """The arrays of a network whose heads stand on one trunk of dense layers; None for any other, which stays a graph.

    columns: features that the network takes. Batch normalisation is folded into the products before it, embeddings of
    codes into the first of them.
    """
    member = network.members[0]
    if len(network.members) > 1 or not _is_dense(member):
        return None
    with torch.no_grad():
        layers = _folded(member.trunk.layers)
        weights, bias = layers[0]
        plain, dim = len(spec.numeric), member.input.embedding.embedding_dim if spec.sizes else 0
        codes = [
            part.double() @ weights[plain + i * dim : plain + (i + 1) * dim]
            for i, part in enumerate(torch.split(member.input.embedding.weight, spec.sizes) if spec.sizes else ())
        ]
        heads = member.heads.weight[:, :, 0].t(), member.heads.bias[:, 0, 0].clone()
        if member.place_embedding is not None:
            heads = heads[0], heads[1] + member.place_share @ member.place_embedding.weight
        if member.dwell_head is not None:
            heads = (
                torch.cat([heads[0], member.dwell_head.weight[0]], dim=1),
                torch.cat([heads[1], member.dwell_head.bias[0, 0]]),
            )
        scale = member.input.scale
        return DenseLayers(
            columns=columns, numeric=np.array(spec.numeric, np.int64), logged=np.array(spec.logged, bool),
            mean=_numpy(member.input.mean), scale=_numpy(scale), numbers=_numpy(weights[:plain]),
            categorical=np.array(spec.categorical, np.int64), sizes=np.array(spec.sizes, np.int64),
            codes=_numpy(torch.cat(codes) if codes else weights[:0]),
            layers=((_numpy(weights[:0]), _numpy(bias)), *((_numpy(w), _numpy(b)) for w, b in layers[1:])),
            heads=(_numpy(heads[0]), _numpy(heads[1])), clip=member.input.clip,
            dwell_max=None if member.dwell_head is None else network.dwell_max, quantile=member.quantile,
            log_variance=LOG_VARIANCE_RANGE,
        )


def _is_dense(member: HeavyNetwork) -> bool:
    staged = any(stage >= 0 for stage in member.behind)
    heads = [head for head in (member.heads, member.dwell_head) if head is not None]
    plain = isinstance(member.trunk, SharedBottom) and member.sides is None and not staged
    return plain and not any(len(head.hidden) for head in heads) and len(member.trunk.layers) > 0


def _folded(layers: nn.Sequential) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(weights float[in, out], bias) of each layer, batch normalisation within them."""
    out: list[tuple[torch.Tensor, torch.Tensor]] = []
    for layer in layers:
        if isinstance(layer, nn.Linear):
            weights = layer.weight.double().t()
            out.append((weights, weights.new_zeros(weights.shape[1]) if layer.bias is None else layer.bias.double()))
        elif isinstance(layer, nn.BatchNorm1d):
            factor = layer.weight.double() / torch.sqrt(layer.running_var.double() + layer.eps)
            weights, bias = out[-1]
            out[-1] = weights * factor, (bias - layer.running_mean.double()) * factor + layer.bias.double()
    return out


def _numpy(values: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.detach().float().cpu().numpy())
