"""Bad arguments: every one ends in a ValueError that names it, soon, and before memory is taken.

A `Call` is a function with arguments that are right. Each argument is replaced, one at a time, by values that
are wrong for its kind. `tests/test_refusals_*.py` hold the tables."""
import re
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from rhmdiff.core import shown

SECONDS = 5  # that a refusal may take

class Thing:
    "Of no kind that any function wants."
    def __repr__(self) -> str: return "<a thing>"

NAN = float("nan")
NUMBERS = ["two", None, [1], {"a": 1}, 1j, NAN, True, torch.ones(2), Thing()]
KINDS = {  # kind of an argument -> values that are wrong for it
    "int": [*NUMBERS, 2.5, -1, float("inf")],
    "number": [*NUMBERS, float("inf")],
    "flag": ["yes", None, [True], torch.ones(2), Thing()],
    "text": [3, None, ["text"], True, torch.ones(2), Thing()],
    "choice": ["nothing like it", 3, None, ["text"], {"a": 1}, torch.ones(2), Thing()],
    "object": ["text", 3, None, [1], {"a": 1}, torch.ones(2), Thing()],   # a grammar, a process, a model
    "symbols": ["text", 3, None, [[0, 1]], torch.ones(2, 2), torch.full((2, 2), -1),
                torch.full((2, 2), 10**6), torch.zeros(2, dtype=torch.bool),
                torch.zeros(1, 1, 1, 1, 1, dtype=torch.long), Thing()],
    "tensor": ["text", 3, None, [[0.5]], torch.full((2, 2), NAN), torch.ones(1, 1, 1, 1, 1),
               torch.ones(2, 2, dtype=torch.complex64), Thing()],
    "times": ["text", None, [0.5, "x"], -0.1, 1.1, NAN, 1j, torch.full((3,), 2.), torch.ones(2, 2), Thing()],
    "path": [3, ["a"], b"a\0b", "a\0b", {"a": 1}, torch.ones(2), Thing()],
    "list": [3, "text", None, {"a": 1}, [Thing()], [None], Thing()],
}

@dataclass(frozen=True)
class Call:
    "A function, and arguments that are right."
    function: Callable
    good: Mapping[str, Any]
    kinds: Mapping[str, str]                                     # argument -> key of KINDS
    more: Mapping[str, Iterable] = field(default_factory=dict)   # argument -> (more) wrong values
    fine: Mapping[str, Iterable] = field(default_factory=dict)   # argument -> values of its kind, yet right
    named: Mapping[str, str] = field(default_factory=dict)       # argument -> how the message calls it

    def cases(self) -> Iterator[tuple[str, Any]]:
        "Every argument with every value that is wrong for it."
        for name in dict.fromkeys([*self.kinds, *self.more]):
            fine = [written(x) for x in self.fine.get(name, [])]
            for value in [*KINDS.get(self.kinds.get(name, ""), []), *self.more.get(name, [])]:
                if written(value) not in fine: yield name, value

def written(value) -> str:
    "A value as Python writes it; one that is too deep or too long for that, in short."
    try: return repr(value)
    except (RecursionError, ValueError): return shown(value)

def names(message: str, name: str) -> bool:
    "Whether a message holds a name as a word of its own."
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", message) is not None

def outcome(call: Call, name: str, value) -> str:
    "What a call with one wrong argument came to: `refused`, or what else."
    def late(*_): raise TimeoutError(f"no answer in {SECONDS} s")
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        result = call.function(**{**call.good, name: value})
        if hasattr(result, "__next__"): next(result)
    except ValueError as why:
        said = call.named.get(name)
        named = names(str(why), name) if said is None else said in str(why)
        return "refused" if named else f"a ValueError that does not name {said or name}: {why}"
    except BaseException as why:
        return f"{type(why).__name__}: {why}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return "accepted"

def failures(calls: Iterable[Call]) -> list[str]:
    "A line for every wrong argument that is not refused."
    lines = []
    for call in calls:
        for name, value in call.cases():
            came = outcome(call, name, value)
            given = written(value).replace("\n", " ")[:60]
            if came != "refused": lines.append(f"{call.function.__qualname__}({name}={given}): {came[:200]}")
    return lines

def unfit(calls: Iterable[Call]) -> list[str]:
    "A line for every call whose right arguments are not accepted: what it refuses shows nothing."
    lines = []
    for call in calls:
        try:
            result = call.function(**call.good)
            if hasattr(result, "__next__"): next(result)
        except Exception as why:
            lines.append(f"{call.function.__qualname__}: {type(why).__name__}: {why}"[:200])
    return lines
