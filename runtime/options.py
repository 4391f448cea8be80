"""TensorFlow's options of sessions and runs, as far as one device has a use for them.

They are accepted so that programs run; what has a counterpart is applied: no GPU in
`device_count` or `visible_device_list`, and the number of threads.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, ClassVar

from graphc.ir.errors import SettingError, UnsupportedOp
from graphc.ir.loop import Kernel, Program

_log = logging.getLogger("graphc")


class _Options:
    """Fields with defaults; ones that TensorFlow has and that mean nothing here may be set too."""

    def CopyFrom(self, other: Any) -> None:
        """Take over all fields of another."""
        self.__dict__.update(other.__dict__)


@dataclass
class GPUOptions(_Options):
    """How TensorFlow takes a GPU's memory; only `visible_device_list` "-1" means something here."""

    per_process_gpu_memory_fraction: float = 0.0
    allow_growth: bool = False
    allocator_type: str = ""
    deferred_deletion_bytes: int = 0
    visible_device_list: str = ""
    polling_active_delay_usecs: int = 0
    force_gpu_compatible: bool = False


@dataclass
class OptimizerOptions(_Options):
    """What TensorFlow's own compiler may do; graphc's is told by Session's settings."""

    do_common_subexpression_elimination: bool = False
    do_constant_folding: bool = False
    do_function_inlining: bool = False
    opt_level: int = 0
    global_jit_level: int = 0
    L0: ClassVar[int] = -1
    L1: ClassVar[int] = 0
    OFF: ClassVar[int] = -1
    ON_1: ClassVar[int] = 1
    ON_2: ClassVar[int] = 2


@dataclass
class GraphOptions(_Options):
    """TensorFlow's options of graphs."""

    enable_recv_scheduling: bool = False
    optimizer_options: OptimizerOptions = field(default_factory=OptimizerOptions)
    build_cost_model: int = 0
    infer_shapes: bool = False
    place_pruned_graph: bool = False


@dataclass
class ConfigProto(_Options):
    """Options of a session.

    `device_count={"GPU": 0}` and `gpu_options.visible_device_list="-1"` choose the CPU;
    `intra_op_parallelism_threads` is the number of threads; `log_device_placement` logs the
    device. The rest has no meaning here.
    """

    device_count: dict[str, int] = field(default_factory=dict)
    intra_op_parallelism_threads: int = 0
    inter_op_parallelism_threads: int = 0
    use_per_session_threads: bool = False
    session_inter_op_thread_pool: Any = None
    placement_period: int = 0
    device_filters: list[str] = field(default_factory=list)
    gpu_options: GPUOptions = field(default_factory=GPUOptions)
    allow_soft_placement: bool = False
    log_device_placement: bool = False
    graph_options: GraphOptions = field(default_factory=GraphOptions)
    operation_timeout_in_ms: int = 0
    rpc_options: Any = None
    cluster_def: Any = None
    isolate_session_state: bool = False

    @property
    def wants_cpu(self) -> bool:
        """True when the options leave no GPU."""
        return self.device_count.get("GPU") == 0 or self.gpu_options.visible_device_list == "-1"


@dataclass
class RunOptions(_Options):
    """Options of a run: what TensorFlow should trace. RunMetadata is filled in any case."""

    trace_level: int = 0
    timeout_in_ms: int = 0
    inter_op_thread_pool: int = 0
    output_partition_graphs: bool = False
    debug_options: Any = None
    report_tensor_allocations_upon_oom: bool = False

    NO_TRACE: ClassVar[int] = 0
    SOFTWARE_TRACE: ClassVar[int] = 1
    HARDWARE_TRACE: ClassVar[int] = 2
    FULL_TRACE: ClassVar[int] = 3


def apply_config(config: Any, device: str, settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Device and settings of a session, with what the config says where they say nothing."""
    if config is None:
        return device, settings
    if not isinstance(config, ConfigProto):
        raise SettingError(f"a session's config is a ConfigProto, got {config!r}")
    if config.wants_cpu and device == "auto":
        device = "numpy"
    if config.intra_op_parallelism_threads > 0:
        settings = {"threads": config.intra_op_parallelism_threads, **settings}
    if config.log_device_placement:
        _log.info("all ops run on the session's device: %s", device)
    return device, settings


class RunMetadata:
    """What a run tells of itself when given as `run_metadata`.

    `device`; `kernels`, in the order of their running, with the ops that each covers; `start`
    in seconds since the epoch, and `seconds` the whole run took, compilation included.
    """

    def __init__(self) -> None:
        self.device = ""
        self.kernels: tuple[tuple[str, tuple[str, ...]], ...] = ()
        self.start = 0.0
        self.seconds = 0.0

    def fill(self, device: str, program: Program, start: float, seconds: float) -> None:
        """Take over what a session knows after the run."""
        self.device, self.start, self.seconds = device, start, seconds
        self.kernels = tuple((k.name, _covered(k)) for k in program.kernels)

    @property
    def step_stats(self) -> Any:
        """The run as TensorFlow's StepStats proto: one entry per kernel, without times."""
        return self.to_proto().step_stats

    def to_proto(self) -> Any:
        """TensorFlow's RunMetadata proto; UnsupportedOp when tensorboard is not installed."""
        try:
            from tensorboard.compat.proto import config_pb2
        except ImportError as error:
            raise UnsupportedOp(
                "this needs the package tensorboard: pip install graphc[tensorboard]"
            ) from error
        proto = config_pb2.RunMetadata()
        device = proto.step_stats.dev_stats.add(device=f"/device:{self.device}")
        for name, covers in self.kernels:
            for op in covers or (name,):
                entry = device.node_stats.add(node_name=op)
                entry.all_start_micros = int(self.start * 1e6)
                entry.timeline_label = name
        return proto

    def SerializeToString(self) -> bytes:
        """The bytes of the proto."""
        data: bytes = self.to_proto().SerializeToString()
        return data

    def __repr__(self) -> str:
        return f"<run of {len(self.kernels)} kernels on {self.device or 'no device'}>"


def _covered(kernel: Kernel) -> tuple[str, ...]:
    return kernel.covers or tuple(op for part in kernel.parts for op in part.covers)
