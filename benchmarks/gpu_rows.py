"""The rows of `make bench-gpu`, and groups of them. Nothing heavy is imported here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.gpu_peers import Manner
from benchmarks.workload import Workload
from benchmarks.workloads.lenet import DEMO

BANDWIDTH: Final = (
    "pointwise_chain", "gelu_chain", "softmax", "layer_norm", "layer_norm_with_gradient",
    "rms_norm", "rms_norm_with_gradient", "cross_entropy_with_gradient",
    "sum_all", "sum_rows", "sum_columns", "transposed_add",
)  # fmt: skip
PRODUCTS: Final = (
    "matmul_bfloat16", "matmul_tf32", "matmul_float32",
    "matmul_bias_gelu_bfloat16", "matmul_bias_gelu_tf32", "matmul_bias_gelu_float32",
    "matmul_bias_gelu_k1024", "matmul_bias_gelu_k256",
)  # fmt: skip
ATTENTION: Final = (
    "attention_64", "attention_64_causal", "attention_128", "attention_128_causal",
    "attention_masked", "attention_with_gradient",
)  # fmt: skip
KERNEL_ROWS: Final = (*BANDWIDTH, *PRODUCTS, *ATTENTION)
ADAM: Final = "adam"


_QUICK: Final = Manner(compile_mode="reduce-overhead")


@dataclass(frozen=True)
class StepRow:
    """A network's row: the module of benchmarks.workloads, what of it makes the workload with
    which arguments, how it is run, and how far first values may lie apart."""

    module: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    maker: str = "workload"
    manner: Manner = _QUICK
    tolerance: float = 1e-3

    def load(self, tiny: bool = False) -> Workload:
        """The workload; `tiny`: of sizes for tests."""
        module = importlib.import_module(f"benchmarks.workloads.{self.module}")
        kept = {n: a for n, a in self.arguments.items() if not (tiny and n == "batch")}
        made: Workload = getattr(module, self.maker)(tiny=tiny, **kept)
        return made


# As `make demo` has them, without dropout; and a deeper one.
_DIGITS: Final = {"sizes": (64, 128, 128, 10)}
_LENET: Final = {"sizes": DEMO}
_DEEP: Final = {"sizes": (256, *(256,) * 12, 10)}
SMALL: Final[Mapping[str, StepRow]] = {
    "step_softmax_regression": StepRow("softmax_regression"),
    "step_perceptron": StepRow("perceptron", {"batch": 32, **_DIGITS}),
    "step_lenet": StepRow("lenet", {"batch": 32, **_LENET}),
    "infer_perceptron": StepRow("perceptron", _DIGITS, "inference"),
    "infer_lenet": StepRow("lenet", _LENET, "inference"),
    "infer_deep_perceptron": StepRow("perceptron", _DEEP, "inference"),
}
_TF32: Final = Manner("tf32", fed=False)
_TF32_QUICK: Final = Manner("tf32", fed=False, compile_mode="reduce-overhead")
_HALF: Final = Manner("bfloat16", fed=False)
NETWORKS: Final[Mapping[str, StepRow]] = {
    "infer_resnet50_batch1": StepRow("resnet50", {"batch": 1}, manner=_TF32_QUICK, tolerance=2e-2),
    "infer_resnet50_batch128": StepRow("resnet50", {"batch": 128}, manner=_TF32, tolerance=2e-2),
    "step_resnet50": StepRow("resnet50_training", {"batch": 128}, manner=_TF32, tolerance=1e-2),
    "step_bert": StepRow("language", {"network": "bert"}, manner=_HALF, tolerance=1e-2),
    "step_gpt2": StepRow("language", {"network": "gpt2"}, manner=_HALF, tolerance=1e-2),
}
STEP_ROWS: Final = {**SMALL, **NETWORKS}
# Per suite its parts.
SUITES: Final[Mapping[str, Mapping[str, Sequence[str]]]] = {
    "training": {
        "small batches": ("step_softmax_regression", "step_perceptron", "step_lenet"),
        "large batches": ("step_resnet50", "step_bert", "step_gpt2"),
    },
    "inference": {
        "small batches": (
            "infer_perceptron", "infer_lenet", "infer_deep_perceptron", "infer_resnet50_batch1",
        ),
        "large batches": ("infer_resnet50_batch128",),
    },
}  # fmt: skip
TRAINING: Final = tuple(n for names in SUITES["training"].values() for n in names)
ROWS: Final = (*KERNEL_ROWS, ADAM, *STEP_ROWS)
GROUPS: Final[Mapping[str, Sequence[str]]] = {
    "kernels": (*KERNEL_ROWS, ADAM), "bandwidth": (*BANDWIDTH, ADAM), "products": PRODUCTS,
    "attention": ATTENTION, "small": tuple(SMALL), "networks": tuple(NETWORKS),
}  # fmt: skip


def rows_of(names: Sequence[str]) -> list[str]:
    """The rows that these names of rows and groups mean, each once; all for none."""
    wanted = [row for name in names for row in GROUPS.get(name, (name,))]
    return list(dict.fromkeys(wanted)) or list(ROWS)


__all__ = [
    "ADAM", "GROUPS", "KERNEL_ROWS", "NETWORKS", "ROWS", "SMALL", "STEP_ROWS", "SUITES", "TRAINING",
    "StepRow", "rows_of",
]  # fmt: skip
