"""What a fine-tuning run starts from, as one digest: a state of anything else must not be taken up."""

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor

from compress.network.graph import Network
from compress.quantize import Compressed


def origin(
    compressed: Compressed, start: Mapping[str, Tensor], teacher: Network, images: Tensor, labels: Tensor | None
) -> str:
    """Return a sha256 over the compressed network, the float weights, the teacher, the images and the labels.

    Codes need no place of their own: plan and decoded weights, which the network holds, determine them.
    """
    digest = hashlib.sha256(compressed.plan.digest().encode())
    for network in (compressed.network, teacher):
        digest.update(json.dumps(network.graph.to_json(), sort_keys=True).encode())
    for tensors in (compressed.network.tensors, start, teacher.tensors):
        for name, tensor in sorted(tensors.items()):
            digest.update(name.encode())
            _add(digest, tensor)
        digest.update(b"/")
    for tensor in (images,) if labels is None else (images, labels):
        _add(digest, tensor)
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", tensor: Tensor) -> None:
    digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    digest.update(plain.view(torch.uint8).numpy().data)
