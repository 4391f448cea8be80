"""Options of sessions and runs, and what a run tells of itself."""

from __future__ import annotations

import pytest

import graphc as gc
from graphc.errors import SettingError


def test_options_are_accepted_and_applied() -> None:
    config = gc.ConfigProto(
        allow_soft_placement=True,
        log_device_placement=True,
        device_count={"GPU": 0},
        intra_op_parallelism_threads=1,
        gpu_options=gc.GPUOptions(per_process_gpu_memory_fraction=0.3),
    )
    config.gpu_options.allow_growth = True
    config.graph_options.optimizer_options.global_jit_level = gc.OptimizerOptions.ON_1
    with gc.Session(config=config) as session:
        assert session.device.name == "numpy" and session.settings.threads == 1
    with gc.Session(config=config, threads=2) as session:
        assert session.settings.threads == 2
    hidden = gc.ConfigProto()
    hidden.gpu_options.visible_device_list = "-1"
    with gc.Session(config=hidden) as session:
        assert session.device.name == "numpy"


def test_options_of_two_sessions_are_not_shared() -> None:
    one, two = gc.ConfigProto(), gc.ConfigProto()
    one.gpu_options.allow_growth = True
    one.device_count["GPU"] = 0
    assert not two.gpu_options.allow_growth and not two.device_count
    two.CopyFrom(one)
    assert two == one


def test_what_is_no_config_is_refused() -> None:
    with pytest.raises(SettingError, match="ConfigProto"):
        gc.Session(config={"allow_growth": True})
    with pytest.raises(TypeError):
        gc.ConfigProto(allow_hard_placement=True)


def test_a_run_tells_its_kernels() -> None:
    pytest.importorskip("tensorboard")
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        x = gc.placeholder(gc.float32, [None, 3])
        y = gc.matmul(gc.exp(x, name="grow"), gc.ones([3, 2]))
        metadata = gc.RunMetadata()
        options = gc.RunOptions(trace_level=gc.RunOptions.FULL_TRACE)
        for rows in (2, 5):
            session.run(y, {x: [[1, 2, 3]] * rows}, options, metadata)
        assert metadata.device == "numpy" and metadata.seconds > 0 and metadata.kernels
        covered = {op for _, ops in metadata.kernels for op in ops}
        assert "grow" in covered
        (device,) = metadata.step_stats.dev_stats
        assert device.device == "/device:numpy"
        assert "grow" in {n.node_name for n in device.node_stats}


def test_sessions_tell_their_graph_and_device() -> None:
    pytest.importorskip("tensorboard")
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        gc.constant(1.0, name="one")
        assert [n.name for n in session.graph_def.node] == ["one"]
        assert session.list_devices() == ["numpy"]
