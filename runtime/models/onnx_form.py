"""A model that classifies in the form of onnxruntime: made, and used. It calculates on the CPU.

The artifact holds `model.onnx`, whose inputs are called as transformers calls them and whose output is `logits`; the
model's config and the tokenizer, so that the folder can be served as it is; and `conversion.json`: {model_type,
compute_type, largest_difference}.

Exported by tracing (`dynamo=False`): it takes seconds where torch.export takes minutes, and needs no package of its
own. What a trace takes for a constant is another model, which the proof of the conversion sees (`stages/convert.py`).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..available import require_packages
from .forward import label_logits, read_by_model
from .load import quiet

FILE = "model.onnx"
OPSET = 17
ENGINE = "onnx"


class OnnxModel:
    """The artifact at work. `config`: the model's, with the names of its classes."""

    device = "cpu"

    def __init__(self, folder: Path, num_threads: int) -> None:
        """Raises `Failure` R323: onnxruntime is not installed."""
        require_packages(ENGINE)
        from transformers import AutoConfig

        self.config = AutoConfig.from_pretrained(folder, local_files_only=True)
        self._session = _session(folder / FILE, num_threads)
        self._inputs = [found.name for found in self._session.get_inputs()]

    def logits(self, batch: Mapping[str, Tensor]) -> NDArray[np.float32]:
        """(B, classes) of a collated batch. Types of tokens that it does not have are 0, as in transformers."""
        missing = torch.zeros_like(batch["input_ids"])
        inputs = {name: batch.get(name, missing).long().cpu().numpy() for name in self._inputs}
        found: NDArray[np.float32] = self._session.run(["logits"], inputs)[0]
        return found


def _session(file: Path, num_threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = num_threads, 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


class _Exported(nn.Module):
    """Inputs by position, as the exporter gives them to a trace."""

    def __init__(self, model: Any, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> Tensor:
        return label_logits(self.model, dict(zip(self.names, inputs, strict=True)))


def export(model: Any, tokenizer: Any, batch: Mapping[str, Tensor], file: Path) -> None:
    """Write the fp32 form of a model in eval mode, with inputs for what its tokenizer gives. `batch`: any, as collated;
    it is traced with some padding."""
    has_types = "token_type_ids" in tokenizer("a")
    types = {"token_type_ids": torch.zeros_like(batch["input_ids"])} if has_types else {}
    names = list(read_by_model(model, {**types, **batch}))
    padding = {"input_ids": model.config.pad_token_id, "attention_mask": 0, "token_type_ids": 0}
    inputs = tuple(
        nn.functional.pad({**types, **batch}[name].long(), (0, 1), value=padding[name])  # (B, S + 1)
        for name in names
    )
    axes = {**{name: {0: "batch", 1: "tokens"} for name in names}, "logits": {0: "batch"}}
    with torch.no_grad(), _silent():
        torch.onnx.export(
            _Exported(model, names).eval(), inputs, str(file), input_names=names, output_names=["logits"],
            dynamic_axes=axes, opset_version=OPSET, dynamo=False,
        )  # fmt: skip


def quantize(source: Path, file: Path) -> None:
    """Matrices in 8 bits, activations rounded as they come (dynamic quantization)."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _silent():
        quantize_dynamic(source, file, weight_type=QuantType.QInt8)


def difference(exported: OnnxModel, model: Any, batch: Mapping[str, Tensor]) -> float:
    """The largest difference of a logit from the original's; NaN where one is none."""
    with torch.inference_mode():
        expected = label_logits(model, batch).float().numpy()
    return float(np.abs(exported.logits(batch) - expected).max())


@contextmanager
def _silent() -> Iterator[None]:
    """Without remarks of the exporter on Python values in a trace, and of the quantizer on its root logger."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), quiet():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
