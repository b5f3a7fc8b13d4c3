"""A program as a user writes it, held against mypy --strict and pyright strict.

``reveal`` lines are assignments with a type: if an annotation of belljar's were ``Any`` where
it promises more, or missing, these would not check.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import belljar
from belljar import ChannelEnd, Limits, Policy, Result


def totals(numbers: list[int], listen: Callable[[str, bytes], None]) -> int:
    policy = (
        Policy()
        .allow(
            read=["/srv/data", Path("/srv/more")],
            write={"/tmp/out": "/out"},
            env={"LANG": "C.UTF-8"},
            argv=["--fast"],
            packages=["numpy"],
            modules=["_curses", "numpy.*"],
            stand_ins={"readline": "/srv/readline.py"},
            python="/srv/venv",
            jit=True,
            system_info=True,
            abilities={"send_mail": True, "spend_cents": 500, "tables": {"a"}, "tenant": "acme"},
        )
        .block(modules=["*"], packages=["scipy"], functions=["os:system"], builtins=["eval"])
        .limit(wall_s=2, cpu_s=2.5, memory_bytes=256 * 2**20, output_bytes=2**20)
    )
    strict: Policy = policy & Policy()
    assert strict <= policy
    limits: Limits = policy.limits
    wall_s: float = limits.wall_s
    result: Result = belljar.run(
        "sum(numbers)",
        policy=policy,
        inputs={"numbers": numbers},
        argv=["a", "b"],
        stdin="text",
        files={"a.txt": "text", "b.bin": b"bytes"},
        name="totals.py",
        on_output=listen,
        preload=["json"],
    )
    stages: dict[str, float] = dict(result.usage.stages)
    peak: int = result.usage.peak_memory_bytes
    if result.limit is not None:
        name: str = result.limit.name
        used: float | None = result.limit.used
        print(name, used, wall_s, stages, peak)
    for artifact in result.artifacts:
        data: bytes = artifact.data
        words: str = artifact.media_type + artifact.text + artifact.name
        print(len(data), words, sorted(artifact.representations))
    for denial in result.denials:
        grant: str = denial.grant
        print(grant)
    if result.error is not None:
        trace: str = result.error.traceback
        print(trace)
    return int(result.unwrap())


def talk(code: str) -> str:
    with belljar.stream(code, stdin=belljar.PIPE) as stream:
        for name, data in stream:
            stream.write(name.encode() + data)
        for _, line in stream.lines():
            stream.write(line)
        stream.close_stdin()
    with belljar.Sandbox() as sandbox, sandbox.stream(code, stdin=iter([b"x", b"y"])) as taken:
        pieces: list[tuple[str, bytes]] = list(taken)
        print(pieces)
    with open("input", "rb") as file:
        belljar.run(code, stdin=file)
    return stream.result.stdout


async def talk_in_a_task(code: str) -> str:
    async with belljar.astream(code, stdin=belljar.PIPE) as stream:
        async for name, data in stream:
            stream.write(name.encode() + data)
        texts = [text async for _, text in stream.text()]
        print(texts)
        return (await stream.finish()).stdout


def outcome(code: str) -> str:
    try:
        belljar.run(code).unwrap()
    except belljar.LimitExceeded as error:
        hit = error.result.limit
        return "limit" if hit is None else hit.name
    except belljar.GuestError as error:
        status: str = error.result.status
        return status
    except belljar.UnsupportedError as error:
        missing: tuple[str, ...] = error.missing
        return "; ".join(missing + error.remedy)
    except belljar.PolicyError as error:
        return error.key
    except belljar.SandboxFailure as error:
        return error.stage if not error.retryable else "again"
    finally:
        belljar.close()
    return "ok"


async def through_a_channel(code: str) -> bool:
    ends: tuple[ChannelEnd, ChannelEnd] = belljar.channel(capacity=4, item_bytes=1000)
    ours, theirs = ends
    with ours, belljar.Sandbox(channels={"jobs": theirs}) as sandbox:
        ours.send({"n": 1}, timeout=2.5)
        sandbox.run(code)
        try:
            print(ours.recv(timeout=0), await ours.arecv())
            await ours.asend([1])
        except (TimeoutError, belljar.ChannelClosed):
            return ours.closed
        return [*ours] == [item async for item in ours]
