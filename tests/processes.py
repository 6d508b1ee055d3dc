"""Processes for tests, forked from a server that has imported PyTorch once.

A fork of the test process itself would copy its threads' locks without its threads.
"""

import multiprocessing
import os
import socket
import sys
from functools import partial

import pytest

if sys.platform == "win32":
    pytest.skip("Windows can neither fork nor kill", allow_module_level=True)

_CONTEXT = multiprocessing.get_context("forkserver")
# Not our package: the server may know another one than the tests do.
_CONTEXT.set_forkserver_preload(
    ["torch.distributed.fsdp", "torch.distributed.checkpoint.state_dict"]
)


def start(function, *arguments):
    """Begin `function` in a process of its own; it has to be one of a module."""
    process = _CONTEXT.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def launch(function, count, *arguments):
    """What `function` returns in each of `count` processes, as torchrun would start them.

    Of a process that raises, the error as a text.
    """
    port, ends, processes = free_port(), [], []
    for rank in range(count):
        here, there = _CONTEXT.Pipe(duplex=False)
        environment = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": str(port),
        }
        call = partial(function, *arguments)
        processes.append(start(_report, there, environment, call))
        there.close()
        ends.append(here)
    try:
        return [end.recv() for end in ends]
    finally:
        for process in processes:
            process.join(60)
            process.kill()


def _report(end, environment, call):
    import torch

    torch.set_num_threads(1)
    os.environ.update(environment)
    try:
        end.send(call())
    except Exception as error:
        end.send(f"{type(error).__name__}: {error}")
        raise SystemExit(1) from None
