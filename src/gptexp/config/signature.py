"""Read the parameters of classes and functions from their source, without importing it.

A command line checks the arguments of other people's classes in this way before torch is imported.
"""

import ast
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from gptexp.config.source import find_module
from gptexp.errors import UserError, nearest
from gptexp.setting_field import setting

TARGET = "_target_"  # the key that names a class or function of other people
REQUIRED = object()  # stands for the default of a parameter that has none
UNREADABLE = object()  # stands for a default that is no literal
SIMPLE = {"int": int, "float": float, "str": str, "bool": bool}

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Parameter:
    name: str
    type: Any  # int, float, str, bool, a list or dict of these, a union of one with None, or Any
    default: Any
    choices: tuple[str, ...] = ()


def declare(parameter: Parameter, target: str) -> Any:
    """Declare a parameter of a target as a field of a settings class. Null keeps a default that is no literal."""
    default = parameter.default
    if default is REQUIRED:
        default = MISSING
    elif default is UNREADABLE:
        default = None
    return setting(default, f"parameter of {target}", choices=parameter.choices)


def split_target(target: str) -> tuple[str, str]:
    """Split `package.module:Name` or `package.module.Name` into a module and a name."""
    module, colon, name = target.partition(":")
    if not colon:
        module, _, name = target.rpartition(".")
    return module, name


def find_definition(target: str) -> tuple[str, Definition]:
    """Return the class or function that a target names, and the module that defines it.

    Raises:
        UserError: there is no such module, or it does not define the name.
    """
    module, name = split_target(target)
    file = find_module(module) if module else None
    if file is None:
        raise UserError(
            f"{target}: there is no module {module or target}. Install it, or start in the folder that it is in"
        )
    definition = _find(module, name, depth=0)
    if definition is None:
        names = [node.name for node in _statements(_parse(file)) if isinstance(node, Definition)]
        raise UserError(f"{target}: {file} defines no {name}.{nearest(name, names)}")
    return definition


def read_parameters(target: str) -> list[Parameter]:
    """Return the parameters with which a class is built or a function is called, without `self`.

    Raises:
        UserError: there is no such module, or it does not define the name.
    """
    return _parameters(*find_definition(target), depth=0)


def _parameters(module: str, node: Definition, depth: int) -> list[Parameter]:
    if not isinstance(node, ast.ClassDef):
        return _function_parameters(node.args, [])
    methods = {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
    bases = [base for name in node.bases if (base := _resolve(module, name, depth))]
    inherited = [p for base in bases for p in _parameters(*base, depth + 1)] if depth < 20 else []
    if init := methods.get("__init__"):
        return _function_parameters(init.args, inherited if init.args.kwarg else [], skip=1)
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        own = [_field_parameter(item) for item in node.body if isinstance(item, ast.AnnAssign)]
        return _merge(inherited, [parameter for parameter in own if parameter])
    return inherited


def _function_parameters(
    arguments: ast.arguments, inherited: list[Parameter], skip: int = 0
) -> list[Parameter]:
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[Any] = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    pairs = [*zip(positional, defaults, strict=True)][skip:]
    pairs += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    own = [_parameter(item.arg, item.annotation, default) for item, default in pairs]
    return _merge(inherited, own)


def _field_parameter(item: ast.AnnAssign) -> Parameter | None:
    """Return a dataclass's field as a parameter; None for a ClassVar."""
    if not isinstance(item.target, ast.Name) or "ClassVar" in ast.unparse(item.annotation):
        return None
    return _parameter(item.target.id, item.annotation, item.value)


def _merge(inherited: list[Parameter], own: list[Parameter]) -> list[Parameter]:
    return list({parameter.name: parameter for parameter in [*inherited, *own]}.values())


def _parameter(name: str, annotation: ast.expr | None, default: ast.expr | None) -> Parameter:
    value: Any = REQUIRED
    if default is not None:
        try:
            value = ast.literal_eval(default)
        except ValueError:
            value = UNREADABLE
    if isinstance(value, tuple):
        value = list(value)
    kind, choices = _type(annotation)
    if (value is None or value is UNREADABLE) and kind is not Any:
        kind = kind | None
    return Parameter(name, kind, value, choices)


def _type(annotation: ast.expr | None) -> tuple[Any, tuple[str, ...]]:
    """Return a type that OmegaConf checks, Any for all others, and the allowed values of a Literal."""
    match annotation:
        case ast.Constant(value=str() as text):
            return _type(ast.parse(text, mode="eval").body)
        case ast.Name(id=name) if name in SIMPLE:
            return SIMPLE[name], ()
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _union([left, right])
        case ast.Subscript(value=head, slice=inner):
            parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            match ast.unparse(head).rpartition(".")[2].lower():
                case "optional":
                    return _union([*parts, ast.Constant(None)])
                case "union":
                    return _union(parts)
                case "literal" if all(_is_text(part) for part in parts):
                    return str, tuple(ast.literal_eval(part) for part in parts)
                case "list" | "sequence" if (item := _type(parts[0])[0]) in SIMPLE.values():
                    return list[item], ()  # type: ignore[valid-type]
                case "dict" | "mapping" if (item := _type(parts[-1])[0]) in SIMPLE.values():
                    return dict[str, item], ()  # type: ignore[valid-type]
    return Any, ()


def _union(parts: list[ast.expr]) -> tuple[Any, tuple[str, ...]]:
    """Return the one simple type of a union, with None where it is a part; Any where there are several."""
    known = [_type(part) for part in parts]
    simple = [(kind, choices) for kind, choices in known if kind is not Any]
    if len(simple) != 1:
        return Any, ()
    kind, choices = simple[0]
    has_none = any(isinstance(part, ast.Constant) and part.value is None for part in parts)
    return (kind | None if has_none else kind), choices


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _resolve(module: str, base: ast.expr, depth: int) -> tuple[str, Definition] | None:
    """Find the class that a base of a class names; None where its source cannot be read."""
    if isinstance(base, ast.Subscript):
        base = base.value
    name, *attributes = ast.unparse(base).split(".")
    if not attributes:
        return _find(module, name, depth)
    imported = _find_import(module, name)
    if imported is None:
        return None
    inner = ".".join([*(part for part in imported if part), *attributes[:-1]])
    return _find(inner, attributes[-1], depth)


def _find(module: str, name: str, depth: int) -> tuple[str, Definition] | None:
    """Find a definition in a module, following imports and plain aliases."""
    file = find_module(module)
    if depth > 20 or file is None or file.suffix != ".py":
        return None
    for node in _statements(_parse(file)):
        if isinstance(node, Definition) and node.name == name:
            return module, node
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return _resolve(module, node.value, depth + 1)
    imported = _find_import(module, name)
    return _find(*imported, depth + 1) if imported and imported[1] else None


def _find_import(module: str, name: str) -> tuple[str, str] | None:
    """Return (module, name) from which a module imports a name; (module, "") where the name is a module."""
    file = find_module(module)
    if file is None or file.suffix != ".py":
        return None
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in _statements(_parse(file)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if (alias.asname or alias.name.split(".")[0]) == name:
                    return (alias.name if alias.asname else name), ""
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            source = ".".join(
                [*(parents if node.level else []), *([node.module] if node.module else [])]
            )
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    inner = f"{source}.{alias.name}"
                    return (inner, "") if find_module(inner) else (source, alias.name)
    return None


def _statements(tree: ast.Module) -> list[ast.stmt]:
    """Return the statements of a module, those inside of `if` and `try` included."""
    statements, waiting = [], list(tree.body)
    while waiting:
        node = waiting.pop(0)
        statements.append(node)
        if isinstance(node, ast.If | ast.Try):
            waiting[:0] = [*node.body, *node.orelse]
    return statements


@lru_cache(maxsize=256)
def _parse(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_text("utf8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: {error}") from None
