"""Which names a remote cell takes along and which it brings back."""

from __future__ import annotations

import ast
import sys
from textwrap import dedent
from typing import Any

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from dcengine_magics.cells.errors import InvalidCell, UndefinedName
from dcengine_magics.cells.names import Names, names_of
from dcengine_magics.cells.taking import taken_from

SHELL = {"get_ipython": "the shell's own"}
transform = TransformerManager().transform_cell


def read(cell: str) -> Names:
    return names_of(ast.parse(transform(dedent(cell))), transform)


def needs(cell: str) -> str:
    return " ".join(sorted(read(cell).needed.keys() - {"get_ipython"}))


def makes(cell: str) -> str:
    return " ".join(read(cell).made)


@pytest.mark.parametrize(
    ("cell", "needed"),
    [
        # plain reading and binding, in order
        ("y = x", "x"),
        ("x = 1; y = x", ""),
        ("y = x; x = 1", "x"),
        ("x += 1", "x"),
        ("x = x + 1", "x"),
        ("x: int = 1; x", "int"),
        ("x: T", "T"),
        ("a, (b, *c) = d; a; b; c", "d"),
        ("a[i] = v", "a i v"),
        ("a.b = v", "a v"),
        ("a.b += v", "a v"),
        ("del x", "x"),
        ("x = 1; del x; x", "x"),
        ("f'{x!r:{width}} {y + 1}'", "width x y"),
        ("(y := x) + y", "x"),
        ("import os.path; os", ""),
        ("from m import a as b; b; a", "a"),
        ("assert x, message", "message x"),
        ("await x", "x"),
        # functions: their bodies run later
        ("def f(): return g()", "g"),
        ("def f(): return g()\ndef g(): return 1\nf()", ""),
        ("def f(): return g()\nf()\ndef g(): return 1", "g"),
        ("def f(): return f()", ""),
        ("def f(a, *b, c=d, **e): return a, b, c, e", "d"),
        ("def f(a: T) -> R: pass", "R T"),
        ("@deco(arg)\ndef f(): pass", "arg deco"),
        ("@run\ndef f(): return g()\ndef g(): pass", "g run"),
        ("def f():\n    x = 1\n    return x", ""),
        ("def f():\n    print(x)\n    x = 1", "print"),
        ("def f():\n    global x\n    x = y", "y"),
        ("def f():\n    global x\n    return x", "x"),
        ("def f():\n    x = 1\n    def g():\n        nonlocal x\n        x = z\n    return g", "z"),
        ("def f():\n    x = 1\n    return lambda: x + y", "y"),
        ("def f():\n    def inner(): return helper\n    return inner", "helper"),
        ("def f():\n    class A:\n        x = 1\n        def m(self): return x", "x"),
        ("f = lambda a, b=c: a + b + d", "c d"),
        ("sorted(v, key=lambda a: a + k)", "k sorted v"),
        ("async def f():\n    async with a as b:\n        async for c in d: yield b, c", "a d"),
        # classes
        ("class A(B, metaclass=M): pass", "B M"),
        ("class A:\n    x = 1\n    y = x\n    z = w", "w"),
        ("class A:\n    x = 1\n    def m(self): return x", "x"),
        ("class A:\n    T = int\n    def m(self, a: T): pass", "int"),
        ("class A:\n    def m(self): return A", ""),
        ("class A:\n    def m(self): return super().m() + __class__.x", "__class__ super"),
        # comprehensions
        ("[a for a in b]", "b"),
        ("[a + c for a in b if d]", "b c d"),
        ("{k: v for k, v in items for w in k}", "items"),
        ("[(last := a) for a in b]; last", "b"),
        ("x = 1; [x for _ in range(n)]", "n range"),
        ("[[c for c in r] for r in rows]", "rows"),
        # branches, loops, exceptions
        ("if c: x = 1\nx", "c x"),
        ("if c: x = 1\nelse: x = 2\nx", "c"),
        ("if c: x = 1\nelse: raise E\nx", "E c"),
        ("for i in r: x = i\nx", "r x"),
        ("for i in r: pass\ni", "i r"),
        ("for i in r: i", "r"),
        ("while c: x = 1\nx", "c x"),
        ("with a as b: c = b\nb", "a"),
        ("with a as b: c = b\nc", "a c"),
        ("try: import q\nexcept ImportError: q = None\nq", "ImportError"),
        ("try: x = f()\nexcept E as e: print(e)\nx", "E f print x"),
        ("try: x = f()\nexcept E as e: raise\nx", "E f"),
        ("try: pass\nexcept E as e: pass\ne", "E e"),
        ("try: pass\nfinally: x = 1\nx", ""),
        ("match s:\n    case {'a': a, **rest}: print(a, rest)\n    case [x, *xs]: print(x, xs)", "print s"),
        ("match s:\n    case A(b=v) if v > limit: v", "A limit s"),
        ("match s:\n    case 1: x = 1\n    case _: x = 2\nx", "s"),
        ("match s:\n    case 1: x = 1\nx", "s x"),
        # IPython's own syntax
        ("!ls {folder} $name ${x} $$dollar", "folder name x"),
        ("files = !ls {folder}\nfiles", "folder"),
        ("!echo '{not an expression'", ""),
        ("%time y = f(x)", "f x"),
        ("%time y = f(x)\ny", "f x"),
        ("%timeit -n 10 -r3 f(x)", "f x"),
        ("%cd {place}", "place"),
        ("%%time\ny = f(x)\ny", "f x"),
        ("%%timeit s = setup\nf(s)", "f setup"),
        ("%%capture out\nprint(x)", "print x"),
        ("%%bash --out text\necho {not_expanded}", ""),
        ("x = %env HOME\nx", ""),
    ],
)  # fmt: skip
def test_a_cell_needs_what_it_reads_and_has_not_surely_bound(cell: str, needed: str) -> None:
    assert needs(cell) == needed


@pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of Python 3.12")
@pytest.mark.parametrize(
    ("cell", "needed"),
    [("def f[T](x: T) -> U: pass", "U"), ("class A[T](B[T]): pass", "B"), ("type L[T] = list[T] | M", "M list")],
)
def test_type_parameters_are_a_definitions_own(cell: str, needed: str) -> None:
    assert needs(cell) == needed


@pytest.mark.skipif(sys.version_info < (3, 11), reason="syntax of Python 3.11")
def test_exception_groups_are_handled_as_exceptions_are() -> None:
    assert needs("try: x = f()\nexcept* E as e: raise\nx") == "E f"


@pytest.mark.parametrize(
    ("cell", "made"),
    [
        ("a = b = 1", "a b"),
        ("a, (b, *c) = d", "a b c"),
        ("a += 1", "a"),
        ("a: int = 1\nb: int", "a"),
        ("a[0] = 1\na.b = 2", ""),
        ("for i, j in r: k = 1", "i j k"),
        ("with f() as (a, b): c = 1", "a b c"),
        ("(a := 1)", "a"),
        ("[(a := b) for b in c]", "a"),
        ("try: a = 1\nexcept E as e: b = 1\nelse: c = 1\nfinally: d = 1", "a c b d"),
        ("try: pass\nexcept E as e: e = 1", "e"),
        ("if x:\n    a = 1\nwhile y:\n    b = 1", "a b"),
        ("import a, b.c, d.e as f\nfrom g import h as i", "a b f i"),
        ("def f():\n    x = 1", "f"),
        ("class A:\n    x = 1", "A"),
        ("def f():\n    global x\n    x = 1", "x f"),
        ("lambda: (a := 1)", ""),
        ("match s:\n    case [a, *b] | {'c': a, **b}: pass\n    case A() as c: pass", "a b c"),
        ("%time a = 1", "a"),
        ("%%time\na = 1", "a"),
        ("%timeit a = 1", ""),
        ("%%capture out\na = 1", "out a"),
        ("a = !ls", "a"),
        ("%%bash --out a --err b\nls", "a b"),
    ],
)
def test_a_cell_makes_what_it_binds_at_top_level(cell: str, made: str) -> None:
    assert makes(cell) == made


@pytest.mark.parametrize(
    ("cell", "missing"),
    [
        ("nothing", {"nothing": 1}),
        ("x = 1\nprint(x)\nnothing(x)", {"nothing": 3}),
        ("with nothing as a: pass", {"nothing": 1}),
        ("for a in nothing: pass", {"nothing": 1}),
        ("class A(nothing): pass", {"nothing": 1}),
        ("%time nothing()", {"nothing": 1}),
        ("a = 1\n%time nothing()", {"nothing": 2}),
        ("%%time\na = 1\nnothing()", {"nothing": 3}),
    ],
)
def test_a_name_that_exists_nowhere_is_refused_with_its_line(cell: str, missing: dict[str, int]) -> None:
    with pytest.raises(UndefinedName) as refusal:
        taken_from(SHELL, SHELL, read(cell))

    assert refusal.value.names == missing
    assert isinstance(refusal.value, NameError)


@pytest.mark.parametrize(
    "cell",
    [
        "def f(): return nothing",
        "if x: nothing",
        "try: nothing\nexcept NameError: pass",
        "for a in []: nothing",
        "x and nothing",
        "nothing if x else 1",
        "[nothing for a in []]",
        "from m import *\nnothing",
        "exec('nothing = 1')\nnothing",
        "%run file.py\nnothing",
        "def f(a: nothing): pass",
        "if x: nothing = 1\nprint(nothing)",
        "__name__, __debug__, len",
        "!echo $nothing {nothing}",
    ],
)
def test_a_name_that_may_exist_when_its_turn_comes_is_not_refused(cell: str) -> None:
    assert taken_from({**SHELL, "x": 0}, SHELL, read(cell)).keys() <= {"x"}


@pytest.mark.parametrize(
    ("cell", "taken"),
    [
        ("len(x)", {"len": "mine", "x": 1}),
        ("open('f')", {}),
        ("get_ipython(), exit, quit", {}),
        ("_, __, _12", {"_": 5, "__": 6, "_12": 7}),
        ("print(x)", {"x": 1}),
        ("__name__, __builtins__", {}),
    ],
)
def test_values_come_from_the_notebook_but_for_what_its_shell_put_there(cell: str, taken: dict[str, Any]) -> None:
    hidden = dict.fromkeys(["open", "get_ipython", "In", "Out", "exit", "quit"], "the shell's") | {"_": 5, "_12": 7}
    notebook = {**hidden, "x": 1, "len": "mine", "__": 6, "__name__": "__main__", "__builtins__": {}}

    assert taken_from(notebook, hidden, read(cell)) == taken


@pytest.mark.parametrize("cell", ["Out[3]", "x = 1\nlen(In)"])
def test_the_notebooks_history_does_not_travel_and_is_refused(cell: str) -> None:
    hidden: dict[str, Any] = {"In": [], "Out": {}}

    with pytest.raises(InvalidCell, match="stays in the notebook; _3 travels"):
        taken_from({**hidden}, hidden, read(cell))
    assert taken_from({"In": 1, "Out": 2}, hidden, read(cell)) in ({"In": 1}, {"Out": 2})


def test_a_value_of_the_users_under_a_name_of_the_shells_travels() -> None:
    assert taken_from({"open": "mine"}, {"open": "the shell's"}, read("open")) == {"open": "mine"}


@pytest.mark.parametrize(
    ("cell", "lent"),
    [
        ("with open('a') as f: pass", "f"),
        ("with open('a') as f, open('b') as (g, h): pass\nwith open('c') as f: pass", "f g h"),
        ("with open('a') as f:\n    f = f.read()", ""),
        ("f = 1\nwith open('a') as f: pass", ""),
        ("def g():\n    with open('a') as f: pass", ""),
    ],
)
def test_a_name_is_lent_when_nothing_but_a_with_binds_it(cell: str, lent: str) -> None:
    assert sorted(read(cell).lent) == lent.split()
