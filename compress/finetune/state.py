"""A training run's state on disk: safetensors and JSON, written so that a cut-off write leaves the older one."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from compress.finetune.settings import FineTuning
from hwmodels.errors import InputError

STATE_FILE = "finetune.safetensors"
_FACTS = "tightfit"


def save_state(
    folder: Path,
    student: nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: FineTuning,
    step: int,
    losses: float,
) -> None:
    """Write parameters, running statistics, the optimizer's moments and the next step into one file."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for name, parameter in student.named_parameters():
        tensors[f"parameter/{name}"] = parameter.detach().cpu().contiguous()
        for role, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{role}/{name}"] = value.detach().cpu().contiguous()
    tensors.update({f"buffer/{name}": value.detach().cpu().contiguous() for name, value in student.named_buffers()})
    facts = json.dumps({"settings": settings.to_json(), "step": step, "losses": losses})
    written = folder / f"{STATE_FILE}.part"
    save_file(tensors, written, metadata={_FACTS: facts})
    written.replace(folder / STATE_FILE)


def load_state(
    folder: Path, student: nn.Module, optimizer: torch.optim.Optimizer, settings: FineTuning
) -> tuple[int, float] | None:
    """Restore a state; return the next step and the epoch's summed losses, ``None`` if there is no state.

    Raises:
        InputError: The state is damaged, or another network's or other settings'.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        return None
    try:
        tensors = load_file(path)
        facts = json.loads(_metadata(path)[_FACTS])
        step, losses, found = int(facts["step"]), float(facts["losses"]), facts["settings"]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError("checkpoint", "must be a fine-tuning state", str(error)) from error
    if found != settings.to_json():
        raise InputError("checkpoint", "must be of a run with equal settings", found)
    with torch.no_grad():
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
    return step, losses


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})
