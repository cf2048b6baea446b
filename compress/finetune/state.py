"""A training run's state on disk: safetensors and JSON, written so that a cut-off write leaves the older one."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from compress.finetune.settings import FineTuning
from hwmodels.errors import InputError

STATE_FILE = "finetune.safetensors"
_FACTS = "tightfit"


class State:
    """Where a run keeps its state, and which run that is.

    Args:
        folder: Made when the first state is written.
        settings: The run's.
        origin: Digest of what the run starts from (``origin.origin``).
    """

    def __init__(self, folder: Path, settings: FineTuning, origin: str) -> None:
        self._folder = folder
        self._run = {"settings": settings.to_json(), "origin": origin}

    def save(self, student: nn.Module, optimizer: torch.optim.Optimizer, step: int, losses: float) -> None:
        """Write parameters, running statistics, the optimizer's moments and the next step into one file."""
        self._folder.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Tensor] = {}
        for name, parameter in student.named_parameters():
            tensors[f"parameter/{name}"] = parameter.detach().cpu().contiguous()
            for role, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{role}/{name}"] = value.detach().cpu().contiguous()
        buffers = student.named_buffers()
        tensors.update({f"buffer/{name}": value.detach().cpu().contiguous() for name, value in buffers})
        facts = json.dumps({**self._run, "step": step, "losses": losses})
        written = self._folder / f"{STATE_FILE}.part"
        save_file(tensors, written, metadata={_FACTS: facts})
        written.replace(self._folder / STATE_FILE)

    def load(self, student: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, float] | None:
        """Restore a state; return the next step and the epoch's summed losses, ``None`` if there is no state.

        Raises:
            InputError: The state is damaged, or another run's.
        """
        path = self._folder / STATE_FILE
        if not path.is_file():
            return None
        try:
            tensors = load_file(path)
            facts = json.loads(_metadata(path)[_FACTS])
            step, losses = int(facts["step"]), float(facts["losses"])
            settings, origin = facts["settings"], facts["origin"]
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError("checkpoint", "must be a fine-tuning state", str(error)) from error
        if settings != self._run["settings"]:
            raise InputError("checkpoint", "must be of a run with equal settings", settings)
        if origin != self._run["origin"]:
            raise InputError("checkpoint", "must be of a run from the same network, teacher and images", origin)
        _restore(tensors, student, optimizer)
        return step, losses


@torch.no_grad()
def _restore(tensors: Mapping[str, Tensor], student: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for name, buffer in student.named_buffers():
        if f"buffer/{name}" not in tensors or tensors[f"buffer/{name}"].shape != buffer.shape:
            raise InputError("checkpoint", f"must have the network's buffer {name}")
        buffer.copy_(tensors[f"buffer/{name}"])
    for name, parameter in student.named_parameters():
        stored = tensors.get(f"parameter/{name}")
        if stored is None or stored.shape != parameter.shape:
            raise InputError("checkpoint", f"must have the network's parameter {name}")
        parameter.copy_(stored)
        roles = {role for role in ("step", "exp_avg", "exp_avg_sq") if f"{role}/{name}" in tensors}
        if roles:
            optimizer.state[parameter] = {
                role: tensors[f"{role}/{name}"].to(parameter.device) for role in sorted(roles)
            }


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})
