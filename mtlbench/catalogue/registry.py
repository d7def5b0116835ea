"""Names to methods, tasks, samplings: built-in by file name, plug-ins, installed packages; nothing imported early."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NoReturn, TypeVar, cast, get_args

from mtlbench.errors import UsageError, unknown

T = TypeVar("T", bound=type)

Role = Literal["method", "baseline", "reference", "static"]
"""What a method is to the others: one of those compared, the one that all are compared with, the separate models that
are the base of Delta-m and are not ranked, or a fixed weighting whose settings trace the trade-off."""
LONGEST_NAME = 60
"""Characters; folders of results are called by it."""
_ONLY_ONE: tuple[Role, ...] = ("baseline", "reference")


@dataclass
class Registered:
    """One name of a registry, known before anything is imported."""

    name: str
    origin: str
    """The file that defines it, or `package:attribute` for an installed package."""
    summary: str = ""
    """The sentence that opens its file."""
    paper: str = ""
    error: str = ""
    """Why it cannot be used; empty for a working entry."""
    cls: type | None = None
    protocols: Path | dict[str, Any] | None = None
    """For a task: its variants and protocols, as a YAML file or as data."""
    defaults: dict[str, Any] | None = None
    """For a method: its default hyper-parameters, where its file tells them without being imported."""
    role: Role = "method"
    """For a method: what it is to the others."""


class Registry:
    """The names of one kind of thing, found lazily.

    Args:
        kind: `method`, `task` or `sampling`.
        package: the package whose files or folders are the built-in entries.
        group: of entry points, through which installed packages add theirs; called like the package by default.
        libraries: others whose things are entries too, called `LIBRARY.NAME`. The package's module `_LIBRARY` makes the
            class of one, with `adapted(NAME)`, when it is loaded; none is listed, since that would import the library.
    """

    def __init__(self, kind: str, package: str, libraries: tuple[str, ...] = (), group: str = "") -> None:
        self.kind = kind
        self.plural = kind if kind == "sampling" else f"{kind}s"
        self.group = group or package
        self.package = package
        self.libraries = libraries
        self._entries: dict[str, Registered] | None = None

    def entries(self) -> dict[str, Registered]:
        """Every known entry by name, the broken ones with their `error`; imports no built-in entry."""
        if self._entries is None:
            self._entries = {}
            for entry in self._built_in():
                self._entries[entry.name] = entry
            for point in importlib.metadata.entry_points(group=self.group):
                self._add_entry_point(point)
        return self._entries

    def names(self) -> list[str]:
        """The names that can be used, sorted."""
        return sorted(name for name, entry in self.entries().items() if not entry.error)

    def knows(self, name: str) -> bool:
        """Whether there is an entry called `name`, or a library that may have one."""
        return name in self.entries() or self._library(name) is not None

    def entry(self, name: str) -> Registered:
        """The entry called `name`; raises `UsageError` with the nearest name if there is none."""
        entries = self.entries()
        if name not in entries and (library := self._library(name)):
            entries[name] = self._adapted(library, name)
        if name not in entries:
            raise unknown(self.kind, name, self.names(), f"`mtlbench list {self.plural}` describes them.")
        return entries[name]

    def load(self, name: str) -> type:
        """The class called `name`, imported now; raises `UsageError` if it is unknown or broken."""
        entry = self.entry(name)
        if entry.cls is None and not entry.error:
            try:
                with _imported():
                    importlib.import_module(f"{self.package}.{name}")
            except UsageError:
                raise
            except Exception as error:
                entry.error = _reason(error)
            else:
                entry = self.entries()[name]
                if entry.cls is None:
                    entry.error = f"{entry.origin} registers no {self.kind} called {name!r}"
        if entry.cls is None:
            raise UsageError(f"The {self.kind} {name!r} cannot be used: {entry.error} (in {entry.origin}).")
        return entry.cls

    def add(
        self,
        name: str,
        cls: type,
        *,
        paper: str,
        protocols: Path | dict[str, Any] | None = None,
        role: Role = "method",
    ) -> None:
        """Enter `cls` under `name`; a name that another file has taken raises `UsageError` naming both.

        So does a role that only one may have.
        """
        module = sys.modules[cls.__module__]
        origin = _origin(cls)
        entries = self.entries()
        taken = entries.get(name)
        if taken is not None and not _same(taken.origin, origin):
            raise UsageError(
                f"The {self.kind} name {name!r} is taken twice: by {taken.origin} and by {origin}. Rename one of them."
            )
        other = next((e for e in entries.values() if e.role == role and e.name != name), None)
        if role in _ONLY_ONE and other is not None:
            raise UsageError(
                f"There is one {role} only: {other.name!r} of {other.origin}, so {name!r} of {origin} cannot be it."
            )
        summary = first_sentence(inspect.getdoc(module) or inspect.getdoc(cls) or "")
        entries[name] = Registered(name, origin, summary, paper, cls=cls, protocols=protocols, role=role)

    def _library(self, name: str) -> str | None:
        """The library that `LIBRARY.NAME` speaks of, if it is one of ours."""
        library, dot, own = name.partition(".")
        return library if dot and own and library in self.libraries else None

    def _adapted(self, library: str, name: str) -> Registered:
        """The entry of what a library has under a name; raises `UsageError` if it has nothing, or is not there."""
        with _imported():
            adapter = importlib.import_module(f"{self.package}._{library}")
        cls: type = adapter.adapted(name.partition(".")[2])
        cls.name = name  # type: ignore[attr-defined]
        return Registered(name, _origin(cls), first_sentence(inspect.getdoc(cls) or ""), cls=cls)

    def _built_in(self) -> Iterable[Registered]:
        spec = importlib.util.find_spec(self.package)
        for location in (spec.submodule_search_locations or []) if spec else []:
            for path in sorted(Path(location).iterdir()):
                file = path / "__init__.py" if path.is_dir() else path
                if file.suffix == ".py" and file.is_file() and not path.name.startswith(("_", ".")):
                    yield self._peek(path.stem, file)

    def _peek(self, name: str, file: Path) -> Registered:
        """What a built-in file says of itself, read without importing it."""
        entry = Registered(name, str(file), protocols=file.parent / "protocols.yaml" if self.kind == "task" else None)
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError, RecursionError, MemoryError, OSError) as error:
            entry.error = _reason(error)
            return entry
        entry.summary = first_sentence(ast.get_docstring(tree) or "")
        for cls in (node for node in tree.body if isinstance(node, ast.ClassDef)):
            for call in cls.decorator_list:
                if isinstance(call, ast.Call) and _called(call).endswith(f"register_{self.kind}"):
                    entry.defaults = _literal_defaults(cls)
                    for keyword in call.keywords:
                        said = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                        if keyword.arg == "paper" and said is not None:
                            entry.paper = str(said)
                        if keyword.arg == "role" and said in get_args(Role):
                            entry.role = cast("Role", said)
        return entry

    def _add_entry_point(self, point: importlib.metadata.EntryPoint) -> None:
        entries = self._entries
        assert entries is not None
        distribution = point.dist.name if point.dist else "an installed package"
        origin = f"{distribution} ({point.value})"
        if point.name in entries:
            clash = (
                f"the {self.kind} name {point.name!r} is taken twice: by {entries[point.name].origin} and by {origin}"
            )
            entries[f"{point.name} ({distribution})"] = Registered(point.name, origin, error=clash)
            return
        entry = entries[point.name] = Registered(point.name, origin)
        try:
            with _imported():
                point.load()
        except Exception as error:
            entry.error = _reason(error)
        else:
            if entries[point.name].cls is None:
                entry.error = f"{point.value} registers no {self.kind} called {point.name!r}"


methods = Registry("method", "mtlbench.methods", ("torchjd",))
tasks = Registry("task", "mtlbench.tasks")
samplings = Registry("sampling", "mtlbench.tasks._sampling", group="mtlbench.sampling")

broken_plugins: dict[str, str] = {}
"""Plug-in files that could not be loaded, with the reason; `mtlbench list` names them."""

_loaded_plugins: set[Path] = set()


def load_plugin(file: str | Path) -> None:
    """Run a plug-in file, which registers what it has.

    A file that fails is kept in `broken_plugins` and raises `UsageError`; nothing else is affected.
    """
    path = Path(os.path.expanduser(file)).resolve()  # noqa: PTH111 (`Path.expanduser` raises for an unknown user)
    if path in _loaded_plugins:
        return
    try:
        if not path.is_file():
            raise UsageError("there is no such file")
        before = {registry: set(registry.entries()) for registry in (methods, tasks, samplings)}
        name = f"mtlbench_plugin_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise UsageError("a plug-in is a Python file, ending in .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            with _imported():
                spec.loader.exec_module(module)
        except BaseException:
            for registry, names in before.items():
                registry._entries = {n: entry for n, entry in registry.entries().items() if n in names}
            del sys.modules[name]
            raise
    except Exception as error:
        broken_plugins[str(path)] = _reason(error)
        raise UsageError(f"The plug-in {path} cannot be used: {_reason(error)}") from error
    broken_plugins.pop(str(path), None)
    _loaded_plugins.add(path)


def role(method: str) -> Role:
    """What the method of this name is to the others; `method` for a name that is unknown or not installed."""
    entry = methods.entries().get(method)
    return "method" if entry is None else entry.role


def holder(role: Literal["baseline", "reference"]) -> str:
    """The name of the one method with this role."""
    return next(name for name, entry in methods.entries().items() if entry.role == role)


@contextlib.contextmanager
def _imported() -> Iterator[None]:
    """Import code of others: what would end the program, `os._exit` included, is an error like any other.

    The working directory is what it was afterwards.

    Raises:
        ImportError: the code left with an exception that is no `Exception` and no Ctrl-C.
    """
    process, leave, folder = os.getpid(), os._exit, Path.cwd()

    def refuse(status: int) -> NoReturn:
        if os.getpid() != process:  # a child that was forked meanwhile ends as it always does
            leave(status)
        raise SystemExit(status)

    os._exit = refuse
    try:
        yield
    except (Exception, KeyboardInterrupt):
        raise
    except SystemExit as error:
        raise ImportError(f"it ends the program when it is imported, with exit status {error.code!r}") from error
    except BaseException as error:
        raise ImportError(f"it raises {_reason(error)} when it is imported") from error
    finally:
        os._exit = leave
        os.chdir(folder)  # paths that a user typed are meant from here


def register_method(name: str, *, paper: str = "", role: Role = "method") -> Callable[[T], T]:
    """Class decorator: enter a method in the registry.

    Args:
        name: what people type in `method=`; for a built-in method, its file name.
        paper: where the method was published, such as `arXiv:2010.05874`.
        role: `method`; or `static` for a fixed weighting, whose settings figures join to a front. The framework's own
            `baseline` and `reference` are the only ones.
    """
    _check_name("method", name)
    if role not in get_args(Role):
        raise unknown(f"role of method {name}:", role, get_args(Role))

    def register(cls: T) -> T:
        cls.name = name  # type: ignore[attr-defined]
        methods.add(name, cls, paper=paper, role=role)
        return cls

    return register


def register_task(
    name: str, *, paper: str = "", protocols: str | dict[str, Any] = "protocols.yaml"
) -> Callable[[T], T]:
    """Class decorator: enter a task in the registry.

    Args:
        name: what people type in `task=`; for a built-in task, its folder name.
        paper: where the benchmark was published.
        protocols: its variants and protocols (`mtlbench.catalogue.protocol`): a YAML file beside the task's file, or
            the same as a dictionary.
    """
    _check_name("task", name)

    def register(cls: T) -> T:
        cls.name = name  # type: ignore[attr-defined]
        source = Path(_origin(cls)).parent / protocols if isinstance(protocols, str) else protocols
        tasks.add(name, cls, paper=paper, protocols=source)
        return cls

    return register


def module_beside(cls: type, name: str) -> ModuleType | None:
    """The module of this name in the package that defines a task, such as `bench`, imported now; None without one."""
    module = f"{cls.__module__}.{name}"
    try:
        there = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the task is a single file
        there = False
    return importlib.import_module(module) if there else None


def first_sentence(text: str) -> str:
    """The first sentence of a docstring, on one line and without its full stop."""
    line = " ".join(text.strip().split("\n\n")[0].split())
    return line.split(". ")[0].removesuffix(".")


def _literal_defaults(cls: ast.ClassDef) -> dict[str, Any] | None:
    """The defaults of the constructor's keywords; None where they are not plain literals."""
    constructor = next((n for n in cls.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if constructor is None:  # that of the framework's kinds takes nothing
        return {} if all(isinstance(base, ast.Attribute) for base in cls.bases) else None
    a = constructor.args
    positional = [*a.posonlyargs, *a.args]
    given = [*zip(positional[len(positional) - len(a.defaults) :], a.defaults, strict=True)]
    given += [(arg, value) for arg, value in zip(a.kwonlyargs, a.kw_defaults, strict=True) if value is not None]
    try:
        return {arg.arg: ast.literal_eval(value) for arg, value in given}
    except ValueError:
        return None


def _called(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _check_name(kind: str, name: str) -> None:
    if not name.isidentifier() or len(name) > LONGEST_NAME:
        raise UsageError(
            f"{name[:LONGEST_NAME]!r} is no name for a {kind}: use at most {LONGEST_NAME} letters, digits and "
            f"underscores, such as 'my_{kind}'."
        )


def _origin(cls: type) -> str:
    try:
        return str(Path(inspect.getfile(cls)).resolve())
    except (TypeError, OSError):  # a class typed into a notebook or an interpreter has no file
        return f"<{cls.__module__}>"


def _same(one: str, other: str) -> bool:
    if one == other:
        return True
    # An entry point is known by `package:attribute` until it is loaded, a built-in entry by an unresolved path.
    return one.endswith(")") or Path(one).resolve() == Path(other).resolve()


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if not isinstance(error, UsageError) else str(error)
