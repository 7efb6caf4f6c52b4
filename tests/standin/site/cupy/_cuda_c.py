"""Runs a small part of CUDA C++ on NumPy's arrays: the bodies of kernels, as they are given to CuPy.

All elements are computed at once: a variable holds an array with the value of every thread. The part of the language is
that which has one meaning for all threads: declarations, assignments, calls, `?:`, structs, functions that end with
their only `return`, and `for` loops that every thread runs equally often. Everything else is refused when a kernel is
made, as are names that nothing declares and assignments to what is const. An index out of bounds is an error.

Numbers have C's types: a literal with a point is a double, integers divide towards zero.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Value = Any  # an array or number, or a Struct of them
Code = Callable[["Frame"], Value]


class CompileError(RuntimeError):
    """What NVRTC would not compile, or what is beyond the part of the language that is known here."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"CompileException: {reason}")


@dataclass
class Struct:
    """A value with named parts."""

    name: str
    parts: dict[str, Value]


@dataclass
class Frame:
    """The variables of a call, and which threads are at work: all, or those of one branch of `?:`."""

    names: dict[str, Value]
    types: Mapping[str, np.dtype[Any]]
    active: Any = True


@dataclass
class Memory:
    """An array parameter without `raw`: each thread has its element. It is read and written where it lies."""

    array: np.ndarray


@dataclass
class Raw:
    """An array parameter with `raw`: indexed by the kernel, by the position of an element in C order."""

    array: np.ndarray

    def read(self, index: Any, active: Any) -> np.ndarray:
        return self.array.reshape(-1)[self._within(index, active)]

    def write(self, index: Any, value: Any, active: Any) -> None:
        self.array.flat[self._within(index, active)] = value

    def add(self, index: Any, value: Any, active: Any) -> None:
        flat = self.array.reshape(-1)
        if not np.may_share_memory(flat, self.array):
            raise NotImplementedError("the stand-in adds atomically to contiguous arrays alone")
        place = self._within(index, active)
        np.add.at(flat, place, np.broadcast_to(value, np.shape(place)))

    def _within(self, index: Any, active: Any) -> Any:
        outside = active & ((np.asarray(index) < 0) | (np.asarray(index) >= self.array.size))
        if np.any(outside):
            raise IndexError(f"cudaErrorIllegalAddress: index beyond {self.array.size} elements")
        return np.where(active, index, 0)


_TYPES = {
    "float": np.dtype("f4"), "double": np.dtype("f8"), "int": np.dtype("i4"), "bool": np.dtype("?"),
    "ptrdiff_t": np.dtype("i8"), "size_t": np.dtype("u8"),
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "exp": np.exp, "log": np.log, "log1p": np.log1p, "sqrt": np.sqrt, "tanh": np.tanh, "fabs": np.abs,
    "max": np.maximum, "min": np.minimum, "rsqrt": lambda x: 1 / np.sqrt(x),
}  # fmt: skip
_CONSTANTS = {"CUDART_INF": np.float64(np.inf)}  # cupy/math_constants.h


def _is_integer(value: Any) -> bool:
    return np.asarray(value).dtype.kind in "iub"


def _divide(a: Any, b: Any) -> Any:
    return np.trunc(np.true_divide(a, b)).astype(np.int64) if _is_integer(a) and _is_integer(b) else a / b


def _remainder(a: Any, b: Any) -> Any:
    return np.fmod(a, b)


_BINARY: list[dict[str, Callable[[Any, Any], Any]]] = [  # from the loosest to the tightest
    {"||": np.logical_or},
    {"&&": np.logical_and},
    {"==": lambda a, b: a == b, "!=": lambda a, b: a != b},
    {"<": lambda a, b: a < b, ">": lambda a, b: a > b, "<=": lambda a, b: a <= b, ">=": lambda a, b: a >= b},
    {"+": lambda a, b: a + b, "-": lambda a, b: a - b},
    {"*": lambda a, b: a * b, "/": _divide, "%": _remainder},
]
_OPERATORS = {name: function for level in _BINARY for name, function in level.items()}

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][-+]?\d+)?f?)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign>\+\+|--|[-+*/%=!<>]=|&&|\|\||[-+*/%<>=!?:;,.(){}\[\]&]))"
)


def _tokens(text: str) -> list[str]:
    found, at = [], 0
    text = re.sub(r"//[^\n]*", "", text).rstrip()
    while at < len(text):
        token = _TOKEN.match(text, at)
        if not token:
            raise CompileError(f"unknown to the stand-in: {text[at : at + 20]!r}")
        found.append(token[token.lastgroup or 0])
        at = token.end()
    return found


@dataclass
class _Function:
    result: str
    parameters: list[tuple[str, str]]
    body: list[Code]


@dataclass
class Source:
    """A preamble: its structs and functions. letters: the types that are found out for each call."""

    letters: frozenset[str] = frozenset()
    structs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    functions: dict[str, _Function] = field(default_factory=dict)

    @classmethod
    def parsed(cls, preamble: str, letters: Sequence[str]) -> Source:
        source = cls(frozenset(letters))
        parser = _Parser(preamble, source, {}, set())
        while parser.left():
            parser.top_level()
        return source

    def statements(self, text: str, names: set[str], const: set[str]) -> list[Code]:
        """Return the statements of a body; names: the parameters, const: those that must not be assigned to."""
        parser = _Parser(text, self, dict.fromkeys(names), const)
        found = []
        while parser.left():
            found += parser.statement(closed=False)
        return found

    def expression(self, text: str, names: set[str]) -> Code:
        parser = _Parser(text, self, dict.fromkeys(names), names)
        found = parser.ternary()
        parser.end()
        return found

    def assignments(self, text: str, names: set[str], const: set[str]) -> list[Code]:
        """Return `a = ..., b = ...`, which is one expression in C++."""
        parser = _Parser(text, self, dict.fromkeys(names), const)
        found = [parser.assignment()]
        while parser.accept(","):
            found.append(parser.assignment())
        parser.end()
        return found

    def converted(self, kind: str, value: Value, types: Mapping[str, np.dtype[Any]]) -> Value:
        """Return a value as a variable of a type holds it."""
        if kind in self.structs:
            if not isinstance(value, Struct) or value.name != kind:
                raise CompileError(f"no {kind}: {value!r}")
            return value
        dtype = _TYPES.get(kind) or types[kind]
        if isinstance(value, Struct):
            raise CompileError(f"a {value.name} is no {kind}")
        return np.asarray(value).astype(dtype)


class _Parser:
    """Reads tokens and returns code that runs on a frame."""

    def __init__(self, text: str, source: Source, names: dict[str, None], const: set[str]) -> None:
        self._tokens, self._at, self._source = _tokens(text), 0, source
        self._names, self._const = dict(names), const

    # Tokens.

    def left(self) -> bool:
        return self._at < len(self._tokens)

    def peek(self, ahead: int = 0) -> str:
        return self._tokens[self._at + ahead] if self._at + ahead < len(self._tokens) else ""

    def take(self) -> str:
        if not self.left():
            raise CompileError("expected an expression")
        self._at += 1
        return self._tokens[self._at - 1]

    def accept(self, token: str) -> bool:
        if self.peek() != token:
            return False
        self._at += 1
        return True

    def need(self, token: str) -> None:
        if not self.accept(token):
            raise CompileError(f"expected {token!r}, not {self.peek()!r}")

    def end(self) -> None:
        if self.left():
            raise CompileError(f"unexpected {self.peek()!r}")

    def _is_type(self, token: str) -> bool:
        return token in _TYPES or token in self._source.structs or token in self._source.letters

    # Definitions.

    def top_level(self) -> None:
        if self.accept("struct"):
            name = self.take()
            self.need("{")
            parts: list[tuple[str, str]] = []
            while not self.accept("}"):
                kind = self.take()
                parts.append((kind, self.take()))
                while self.accept(","):
                    parts.append((kind, self.take()))
                self.need(";")
            self.need(";")
            self._source.structs[name] = parts
            return
        self.need("__device__")
        result, name = self.take(), self.take()
        parameters = []
        self.need("(")
        while not self.accept(")"):
            self.accept("const")
            kind = self.take()
            self.accept("&")
            parameters.append((kind, self.take()))
            self.accept(",")
        inner = _Parser("", self._source, dict.fromkeys(parameter for _, parameter in parameters), set())
        inner._tokens, inner._at = self._tokens, self._at
        body = inner.block()
        self._at = inner._at
        self._source.functions[name] = _Function(result, parameters, body)

    # Statements.

    def block(self) -> list[Code]:
        self.need("{")
        found: list[Code] = []
        while not self.accept("}"):
            found += self.statement()
        return found

    def statement(self, *, closed: bool = True) -> list[Code]:
        """Return one statement. closed: whether it must end with a semicolon; the last one of a kernel need not."""
        if self.accept(";"):
            return []
        if self.peek() == "for":
            return [self._loop()]
        if self.accept("return"):
            value = self.ternary()
            self.need(";")
            if self.peek() != "}":
                raise CompileError("the stand-in knows functions that end with their only return")
            return [value]
        is_declaration = self.peek() == "const" or (self._is_type(self.peek()) and self.peek(1) not in {"(", "{"})
        found = self._declarations() if is_declaration else [self.assignment()]
        if closed or self.left():
            self.need(";")
        return found

    def _declarations(self) -> list[Code]:
        const, kind = self.accept("const"), self.take()
        if not self._is_type(kind):
            raise CompileError(f"{kind!r} is no type")
        found = []
        while True:
            name = self.take()
            self.need("=")
            value = self.ternary()
            self._names[name] = None
            if const:
                self._const = self._const | {name}
            found.append(self._declaration(kind, name, value))
            if not self.accept(","):
                return found

    def _declaration(self, kind: str, name: str, value: Code) -> Code:
        def declare(frame: Frame) -> None:
            frame.names[name] = self._source.converted(kind, value(frame), frame.types)

        return declare

    def assignment(self) -> Code:
        """Return an assignment, or a call for its effect."""
        name = self.peek()
        if name == "atomicAdd":
            return self._atomic()
        if name not in self._names or self.peek(1) not in {"=", "+=", "-=", "*=", "/=", "["}:
            raise CompileError(
                f"no statement that the stand-in knows: {' '.join(self._tokens[self._at : self._at + 4])}"
            )
        self.take()
        index = self._index() if self.peek() == "[" else None
        sign = self.take()
        if sign not in {"=", "+=", "-=", "*=", "/="} or name in self._const:
            raise CompileError(
                f"{name!r} is const: assign to an output" if name in self._const else f"no {sign!r} here"
            )
        value, old = self.ternary(), self._read(name, index)

        def assign(frame: Frame) -> None:
            new = value(frame) if sign == "=" else _OPERATORS[sign[0]](old(frame), value(frame))
            _store(frame, name, index(frame) if index else None, new)

        return assign

    def _atomic(self) -> Code:
        """Return `atomicAdd(&a[...], value)`."""
        for token in ("atomicAdd", "(", "&"):
            self.need(token)
        name, index = self.take(), self._index()
        self.need(",")
        value = self.ternary()
        self.need(")")
        if name not in self._names or name in self._const:
            raise CompileError(f"{name!r} is no output")
        return lambda frame: frame.names[name].add(index(frame), value(frame), frame.active)

    def _loop(self) -> Code:
        """Return `for (int k = a; k < b; ++k) { ... }`."""
        for token in ("for", "(", "int"):
            self.need(token)
        name = self.take()
        self.need("=")
        first = self.ternary()
        self.need(";")
        outer = dict(self._names)
        self._names[name] = None
        condition = self.ternary()
        for token in (";", "++", name, ")"):
            self.need(token)
        self._const = self._const | {name}
        body = self.block()
        self._names, self._const = outer, self._const - {name}

        def run(frame: Frame) -> None:
            frame.names[name] = np.int32(first(frame))
            while _same_for_all(condition(frame)):
                for statement in body:
                    statement(frame)
                frame.names[name] += np.int32(1)

        return run

    # Expressions.

    def ternary(self) -> Code:
        condition = self._binary(0)
        if not self.accept("?"):
            return condition
        yes = self.ternary()
        self.need(":")
        no = self.ternary()

        def choose(frame: Frame) -> Value:
            chosen, before = np.asarray(condition(frame)), frame.active
            frame.active = before & chosen
            first = yes(frame)
            frame.active = before & ~chosen
            second = no(frame)
            frame.active = before
            return _where(chosen, first, second)

        return choose

    def _binary(self, level: int) -> Code:
        if level == len(_BINARY):
            return self._unary()
        found = self._binary(level + 1)
        while self.peek() in _BINARY[level]:
            function, left, right = _BINARY[level][self.take()], found, self._binary(level + 1)
            found = self._operation(function, left, right)
        return found

    @staticmethod
    def _operation(function: Callable[[Any, Any], Any], left: Code, right: Code) -> Code:
        return lambda frame: function(left(frame), right(frame))

    def _unary(self) -> Code:
        if self.accept("-"):
            negated = self._unary()
            return lambda frame: -negated(frame)
        if self.accept("!"):
            inverted = self._unary()
            return lambda frame: np.logical_not(inverted(frame))
        return self._postfix(self._primary())

    def _postfix(self, found: Code) -> Code:
        while self.accept("."):
            found = self._part(found, self.take())
        return found

    @staticmethod
    def _part(owner: Code, name: str) -> Code:
        def part(frame: Frame) -> Value:
            value = owner(frame)
            if not isinstance(value, Struct) or name not in value.parts:
                raise CompileError(f"no member {name!r}")
            return value.parts[name]

        return part

    def _primary(self) -> Code:
        if self.accept("("):
            inner = self.ternary()
            self.need(")")
            return inner
        token = self.take()
        if token[0].isdigit():
            number = _number(token)
            return lambda frame: number
        if token in self._source.structs and self.peek() == "{":
            return self._made(token)
        if self.peek() == "(":
            return self._call(token)
        if token in _CONSTANTS:
            return lambda frame: _CONSTANTS[token]
        if token not in self._names:
            raise CompileError(f"identifier {token!r} is undefined")
        return self._read(token, self._index() if self.peek() == "[" else None)

    def _index(self) -> Code:
        self.need("[")
        index = self.ternary()
        self.need("]")
        return index

    @staticmethod
    def _read(name: str, index: Code | None) -> Code:
        def read(frame: Frame) -> Value:
            value = frame.names[name]
            if index is not None:
                if not isinstance(value, Raw):
                    raise CompileError(f"{name!r} is not raw: it has no elements")
                return value.read(index(frame), frame.active)
            if isinstance(value, Raw):
                raise CompileError(f"{name!r} is raw: it has elements alone")
            return value.array if isinstance(value, Memory) else value

        return read

    def _made(self, name: str) -> Code:
        """Return `Name{a, b}`."""
        self.need("{")
        values = self._list("}")
        parts = self._source.structs[name]
        if len(values) != len(parts):
            raise CompileError(f"{name} has {len(parts)} members")

        def make(frame: Frame) -> Struct:
            given = zip(parts, values, strict=True)
            made = {part: self._source.converted(kind, value(frame), frame.types) for (kind, part), value in given}
            return Struct(name, made)

        return make

    def _call(self, name: str) -> Code:
        self.need("(")
        values = self._list(")")
        if self._is_type(name):
            (value,) = values
            return lambda frame: self._source.converted(name, value(frame), frame.types)
        if name in _FUNCTIONS:
            function = _FUNCTIONS[name]
            return lambda frame: function(*(value(frame) for value in values))
        if name not in self._source.functions:
            raise CompileError(f"identifier {name!r} is undefined")
        own = self._source.functions[name]
        if len(values) != len(own.parameters):
            raise CompileError(f"{name} takes {len(own.parameters)} arguments")

        def call(frame: Frame) -> Value:
            given = zip(own.parameters, values, strict=True)
            names = {part: self._source.converted(kind, value(frame), frame.types) for (kind, part), value in given}
            inner, result = Frame(names, frame.types, frame.active), None
            for statement in own.body:
                result = statement(inner)
            return self._source.converted(own.result, result, frame.types)

        return call

    def _list(self, end: str) -> list[Code]:
        found: list[Code] = []
        while not self.accept(end):
            found.append(self.ternary())
            if self.peek() != end:
                self.need(",")
        return found


def _number(token: str) -> Any:
    """Return a literal: an int, a float with the suffix f, else a double."""
    if token.endswith("f"):
        return np.float32(token[:-1])
    return int(token) if token.isdigit() else np.float64(token)


def _where(chosen: np.ndarray, first: Value, second: Value) -> Value:
    if isinstance(first, Struct):
        parts = {name: np.where(chosen, value, second.parts[name]) for name, value in first.parts.items()}
        return Struct(first.name, parts)
    return np.where(chosen, first, second)


def _store(frame: Frame, name: str, index: Any, value: Value) -> None:
    """Assign to a variable, to an output, or to an element of a raw output."""
    target = frame.names[name]
    if isinstance(target, Raw) != (index is not None):
        raise CompileError(f"{name!r} is raw: assign to an element" if index is None else f"{name!r} has no elements")
    if isinstance(target, Raw):
        target.write(index, value, frame.active)
    elif isinstance(target, Memory):
        target.array[...] = value
    else:
        frame.names[name] = value if isinstance(target, Struct) else np.asarray(value).astype(np.asarray(target).dtype)


def _same_for_all(condition: Any) -> bool:
    values = np.asarray(condition)
    if values.any() != values.all():
        raise NotImplementedError("the stand-in runs loops that every thread runs equally often")
    return bool(values.all())


def each_part(value: Value, function: Callable[[np.ndarray], np.ndarray]) -> Value:
    """Return a value with a function applied to it, or to each of its parts."""
    if isinstance(value, Struct):
        return Struct(value.name, {name: function(np.asarray(part)) for name, part in value.parts.items()})
    return function(np.asarray(value))


def joined(values: Sequence[Value]) -> Value:
    """Return values end to end along their first axis."""
    if isinstance(values[0], Struct):
        parts = {name: np.concatenate([value.parts[name] for value in values]) for name in values[0].parts}
        return Struct(values[0].name, parts)
    return np.concatenate(values)


def part(value: Value, index: Any) -> Value:
    """Return some of the values along the first axis."""
    return each_part(value, lambda whole: whole[index])


def length(value: Value) -> int:
    """Return how many values there are along the first axis."""
    return len(next(iter(value.parts.values())) if isinstance(value, Struct) else value)
