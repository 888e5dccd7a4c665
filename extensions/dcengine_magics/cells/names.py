"""Which names a cell needs from the notebook and which it makes, read from its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from . import magic_text
from .scopes import Bindings, ClassScope, ComprehensionScope, Scope, arguments_of, is_local, leaves, type_parameters_of

PYTHON_MAGICS = {"time", "timeit", "prun", "capture", "memit", "mprun", "lprun"}  #: run Python text of theirs
TEXT_MAGICS = {"bash", "sh", "script", "writefile", "html", "HTML", "markdown", "latex", "javascript", "js", "svg"}
BINDS_UNSEEN = {"exec", "eval", "globals", "locals", "vars", "setattr"}
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Import, ast.ImportFrom)

Transform = Callable[[str], str]  #: IPython's syntax to Python


@dataclass
class Names:
    """What a cell does with the names of its module."""

    needed: dict[str, int] = field(default_factory=dict)  #: read and not surely bound before, with the first line
    certain: set[str] = field(default_factory=set)  #: those of them that it cannot end well without
    made: dict[str, None] = field(default_factory=dict)  #: bound at top level, in order
    lent: set[str] = field(default_factory=set)  #: those of *made* that nothing but a ``with`` binds
    submodules: list[str] = field(default_factory=list)  #: imported as ``import a.b``, which binds only a
    is_open: bool = False  #: it can bind names that nobody sees here


def names_of(tree: ast.Module, transform: Transform) -> Names:
    """Return the names of the cell *tree*; *transform* translates code inside its magics."""
    reader = Reader(transform)
    reader.block(tree.body)
    reader.settle()
    return reader.names


class Reader(ast.NodeVisitor):
    """Walks a cell in the order in which it runs."""

    def __init__(self, transform: Transform) -> None:
        self.names = Names()
        self._transform = transform
        self._bound: set[str] = set()  #: surely bound by now
        self._scopes: list[Scope] = []
        self._later: dict[str, int] = {}  #: read in functions that nobody can have called yet
        self._doubts = 0  #: how many conditions the present place depends on
        self._in_function = 0
        self._is_lending = False  #: the targets of a ``with`` are read
        self._shift = 0  #: lines to add: the code stands inside a magic

    # ---- what is read, what is bound ---------------------------------------------------------

    def read(self, name: str, line: int) -> None:
        """Note that *name* is read here."""
        if is_local(name, self._scopes):
            return
        if self._in_function:
            self._later.setdefault(name, line + self._shift)
        elif name not in self._bound:
            self.names.needed.setdefault(name, line + self._shift)
            if not self._doubts:
                self.names.certain.add(name)

    def bind(self, name: str) -> None:
        """Note that *name* is bound here."""
        if self._scopes and name not in self._scopes[-1].globals:
            self._scopes[-1].names.add(name)
            return
        if not self._is_lending:
            self.names.lent.discard(name)
        elif name not in self.names.made:
            self.names.lent.add(name)
        self.names.made.setdefault(name)
        if not self._in_function:
            self._bound.add(name)

    def settle(self) -> None:
        """Need what functions read, since from here on somebody may call them."""
        if self._in_function:
            return
        for name, line in self._later.items():
            if name not in self._bound:
                self.names.needed.setdefault(name, line)
        self._later.clear()

    @contextmanager
    def _doubt(self) -> Iterator[None]:
        self._doubts += 1
        yield
        self._doubts -= 1

    @contextmanager
    def _inside(self, scope: Scope) -> Iterator[None]:
        self._scopes.append(scope)
        yield
        self._scopes.pop()

    # ---- statements in their order -----------------------------------------------------------

    def block(self, statements: list[ast.stmt]) -> None:
        """Read *statements* one after the other."""
        for statement in statements:
            if not isinstance(statement, DEFINITIONS):
                self.settle()
            self.visit(statement)

    def _branches(self, *branches: list[ast.stmt] | ast.ExceptHandler) -> None:
        """Read *branches* of which one will run; bound is what each of them binds that goes on after it."""
        before, ends = set(self._bound), []
        with self._doubt():
            for branch in branches:
                self._bound = set(before)
                if isinstance(branch, ast.ExceptHandler):
                    self.visit(branch)
                    branch = branch.body
                else:
                    self.block(branch)
                if not leaves(branch):
                    ends.append(self._bound)
        self._bound = set.intersection(*ends) if ends else before

    def _perhaps(self, statements: list[ast.stmt]) -> None:
        self._branches(statements, [])

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        self._branches(node.body, node.orelse)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        before = set(self._bound)
        with self._doubt():
            self.visit(node.target)
            self.block(node.body)
        self._bound = before
        self._perhaps(node.orelse)

    visit_AsyncFor = visit_For

    def visit_While(self, node: ast.While) -> None:
        self.visit(node.test)
        self._perhaps(node.body)
        self._perhaps(node.orelse)

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            self.visit(item.context_expr)
            if item.optional_vars is not None:
                self._is_lending = True
                self.visit(item.optional_vars)
                self._is_lending = False
        self._perhaps(node.body)  # the context may swallow an exception

    visit_AsyncWith = visit_With

    def visit_Try(self, node: ast.Try) -> None:
        self._branches([*node.body, *node.orelse], *node.handlers)
        self.block(node.finalbody)

    visit_TryStar = visit_Try

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type is not None:
            self.visit(node.type)
        made = dict(self.names.made)
        if node.name is not None:
            self.bind(node.name)
        if node.name not in made:  # it goes with the end of the handler
            self.names.made.pop(node.name or "", None)
        self.block(node.body)
        self._bound.discard(node.name or "")

    def visit_Match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        before, ends, is_certain = set(self._bound), [], False
        with self._doubt():
            for case in node.cases:
                self._bound = set(before)
                self.visit(case.pattern)
                if case.guard is not None:
                    self.visit(case.guard)
                self.block(case.body)
                ends.append(self._bound)
                is_certain |= case.guard is None and isinstance(case.pattern, ast.MatchAs) and not case.pattern.pattern
        self._bound = set.intersection(*ends) if is_certain else before

    # ---- names -------------------------------------------------------------------------------

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.read(node.id, node.lineno)
        elif isinstance(node.ctx, ast.Store):
            self.bind(node.id)
        else:
            self.read(node.id, node.lineno)
            self._bound.discard(node.id)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.read(node.target.id, node.lineno)
        self.visit(node.value)
        self.visit(node.target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._annotation(node.annotation)
        if node.value is not None:
            self.visit(node.value)
            self.visit(node.target)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        comprehensions = []
        while self._scopes and isinstance(self._scopes[-1], ComprehensionScope):
            comprehensions.append(self._scopes.pop())
        self.bind(node.target.id)
        self._scopes.extend(reversed(comprehensions))

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self.visit(node.values[0])
        with self._doubt():
            for value in node.values[1:]:
                self.visit(value)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.visit(node.test)
        with self._doubt():
            self.visit(node.body)
            self.visit(node.orelse)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.bind(alias.asname or alias.name.partition(".")[0])
            if "." in alias.name:
                self.names.submodules.append(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name == "*":
                self.names.is_open = True
            else:
                self.bind(alias.asname or alias.name)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self.generic_visit(node)
        if node.name:
            self.bind(node.name)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        if node.name:
            self.bind(node.name)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self.generic_visit(node)
        if node.rest:
            self.bind(node.rest)

    def visit_Global(self, node: ast.Global) -> None:
        if self._scopes:
            self._scopes[-1].globals.update(node.names)

    # ---- scopes ------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)
        self._defaults(node.args)
        with self._inside(type_parameters_of(node)):
            for annotated in [*arguments_of(node.args), node]:
                self._annotation(getattr(annotated, "annotation", None) or getattr(annotated, "returns", None))
            self._body(node.args, node.body)
        self.bind(node.name)
        if node.decorator_list:
            self.settle()

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._defaults(node.args)
        self._body(node.args, [ast.Expr(node.body)])
        self.settle()  # it may be called within this very statement

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)
        with self._inside(type_parameters_of(node)):
            for base in [*node.bases, *(keyword.value for keyword in node.keywords)]:
                self.visit(base)
            with self._inside(ClassScope()):
                self.block(node.body)
        self.bind(node.name)

    def visit_TypeAlias(self, node: ast.AST) -> None:
        with self._inside(type_parameters_of(node)):
            self._annotation(node.value)  # type: ignore[attr-defined]  # Python 3.12
        self.bind(node.name.id)  # type: ignore[attr-defined]

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        first, *others = node.generators
        self.visit(first.iter)
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        with self._inside(ComprehensionScope()), self._doubt():
            self.visit(first.target)
            for condition in first.ifs:
                self.visit(condition)
            for generator in others:
                self.visit(generator.iter)
                self.visit(generator.target)
                for condition in generator.ifs:
                    self.visit(condition)
            for part in parts:
                self.visit(part)

    visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_ListComp

    def _defaults(self, arguments: ast.arguments) -> None:
        for default in [*arguments.defaults, *arguments.kw_defaults]:
            if default is not None:
                self.visit(default)

    def _annotation(self, annotation: ast.expr | None) -> None:
        if annotation is not None:
            with self._doubt():  # the newest Pythons read annotations when somebody asks for them
                self.visit(annotation)

    def _body(self, arguments: ast.arguments, body: list[ast.stmt]) -> None:
        """Read a function's body: what it binds anywhere is its own everywhere."""
        scope = Scope(argument.arg for argument in arguments_of(arguments))
        bindings = Bindings()
        for statement in body:
            bindings.visit(statement)
        scope.globals = bindings.globals
        scope.names |= bindings.names - bindings.globals - bindings.nonlocals
        self._in_function += 1
        with self._inside(scope):
            self.block(body)
        self._in_function -= 1

    # ---- IPython's own syntax, translated to calls -------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in BINDS_UNSEEN:
            self.names.is_open = True
        method, texts = magic_text.call_of(node)
        if method in ("system", "getoutput"):
            self._expanded(texts[0], node.lineno)
        elif method == "run_line_magic":
            self._magic(texts[0], texts[1], "", node.lineno)
        elif method == "run_cell_magic":
            self._magic(texts[0], texts[1], texts[2], node.lineno)

    def _magic(self, name: str, line: str, body: str, at: int) -> None:
        if name in PYTHON_MAGICS:
            code = magic_text.without_options(line)
            if name == "capture":
                for word in code.split():
                    self.bind(word)
            elif name == "timeit":
                with self._inside(Scope()):
                    self._code(code, at - 1)
                    self._code(body, at)
                return
            else:
                self._code(code, at - 1)
            self._code(body, at)
            return
        self._expanded(line, at)
        if name not in TEXT_MAGICS:
            self.names.is_open = True
        for output in magic_text.outputs_on(line):
            self.bind(output)

    def _code(self, text: str, shift: int) -> None:
        """Read the Python *text* of a magic as if it stood here, *shift* lines further down."""
        try:
            tree = ast.parse(self._transform(text))
        except SyntaxError:
            self.names.is_open = True  # the magic knows what it means
            return
        self._shift += shift
        self.block(tree.body)
        self._shift -= shift

    def _expanded(self, text: str, at: int) -> None:
        """Read ``{expression}`` and ``$name`` in *text*; what cannot be expanded there stays as it is."""
        with self._doubt():
            for name in magic_text.dollar_names(text):
                self.read(name, at)
            for expression in magic_text.expressions_in(text):
                self.visit(expression)
