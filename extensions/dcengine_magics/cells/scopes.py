"""Scopes inside a cell: functions, comprehensions and classes, and the names that are their own."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence


class Scope:
    """The names of one function or lambda."""

    hides_classes = True  #: what is inside does not see the names of a class around it

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = set(names)
        self.globals: set[str] = set()


class ClassScope(Scope):
    """The names of a class."""


class ComprehensionScope(Scope):
    """The names of a comprehension, which ``:=`` passes by."""


class TypeScope(Scope):
    """The type parameters of a function or class, such as the T of ``def f[T](x: T)``."""

    hides_classes = False


def is_local(name: str, scopes: Sequence[Scope]) -> bool:
    """Tell whether *name* belongs to one of *scopes*, the innermost last, rather than to the module."""
    sees_classes = True
    for scope in reversed(scopes):
        if name in scope.globals:
            return False
        if name in scope.names and (sees_classes or not isinstance(scope, ClassScope)):
            return True
        sees_classes = sees_classes and not scope.hides_classes
    return False


class Bindings(ast.NodeVisitor):
    """What the body of a function binds, those of functions and classes inside it left out."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.globals: set[str] = set()
        self.nonlocals: set[str] = set()

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self.names.add(node.id)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self.names.add(node.name)

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        pass

    def visit_ListComp(self, node: ast.AST) -> None:
        for inner in ast.walk(node):
            if isinstance(inner, ast.NamedExpr):
                self.names.add(inner.target.id)

    visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_ListComp

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        self.names.update(alias.asname or alias.name.partition(".")[0] for alias in node.names)

    visit_ImportFrom = visit_Import

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self.names.add(node.name)
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> None:
        if node.name:
            self.names.add(node.name)
        self.generic_visit(node)

    visit_MatchStar = visit_MatchAs

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        if node.rest:
            self.names.add(node.rest)
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> None:
        self.globals.update(node.names)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self.nonlocals.update(node.names)


def arguments_of(arguments: ast.arguments) -> list[ast.arg]:
    """Return every argument of a function."""
    several = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [*several, *(one for one in (arguments.vararg, arguments.kwarg) if one is not None)]


def type_parameters_of(node: ast.AST) -> TypeScope:
    """Return the scope that the type parameters of *node* make, empty before Python 3.12."""
    return TypeScope(parameter.name for parameter in getattr(node, "type_params", ()))


def leaves(branch: list[ast.stmt]) -> bool:
    """Tell whether *branch* never reaches what comes after it."""
    return bool(branch) and isinstance(branch[-1], ast.Raise | ast.Return | ast.Continue | ast.Break)
