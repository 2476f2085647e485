"""Where a node stands in its graph: eigenvectors of the graph's Laplacian.

Dwivedi and Bresson 2020 (arXiv:2012.09699, section 2.2). Graphs of a batch are padded to one number
of nodes first, and the positions are those of the padded graphs, as in the authors' code.

Shapes: B graphs, S nodes, E edges, P channels.
"""

import numpy as np
import torch
from torch import Tensor


def adjacency(edges: Tensor, num_nodes: int) -> Tensor:
    """How often a node sends to another: edges (B, E, 3) -> (B, S, S), from row to column.

    Args:
        edges: (subject, predicate, object), rows of -1 for padding.
        num_nodes: S.
    """
    count = torch.zeros(len(edges), num_nodes, num_nodes)
    valid = edges[..., 0] >= 0
    graph = torch.arange(len(edges))[:, None].expand_as(valid)[valid]
    where = (graph, edges[..., 0][valid], edges[..., 2][valid])
    return count.index_put_(where, torch.ones(len(graph)), accumulate=True)


def laplacian_positions(
    edges: Tensor, num_nodes: int, width: int, symmetric: bool = False
) -> Tensor:
    """Eigenvectors of I - D^-1/2 A D^-1/2, those of the smallest eigenvalues first.

    Args:
        edges: (B, E, 3), rows of -1 for padding.
        num_nodes: S, padding included.
        width: P; the first eigenvector is left out, and missing ones are zero.
        symmetric: count each edge in both directions. Edges point one way, so that A and L are not
            symmetric; where no path returns to its start, every eigenvalue is 1 and the vectors
            say little. The authors' code takes them all the same, real parts only. A symmetric
            matrix has real eigenvectors that do not depend on the solver's luck, and says more.

    Returns:
        (B, S, P) float32; the sign of each column is arbitrary.
    """
    a = adjacency(edges, num_nodes).double()
    if symmetric:
        a = torch.maximum(a, a.mT)
    degree = a.sum(1).clamp_min(1)  # edges that arrive, (B, S)
    scale = degree.rsqrt()
    laplacian = torch.eye(num_nodes).double() - scale[:, :, None] * a * scale[:, None]
    solve = np.linalg.eigh if symmetric else np.linalg.eig
    values, vectors = solve(laplacian.numpy())
    order = np.argsort(values.real, axis=-1, kind="stable")
    vectors = np.take_along_axis(vectors.real, order[:, None], axis=-1)  # columns
    found = torch.from_numpy(vectors[..., 1 : width + 1].copy()).float()
    return torch.nn.functional.pad(found, (0, width - found.shape[-1]))
