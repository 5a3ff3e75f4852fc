"""From a mapping to a typed model, or to one line: the first rule that is broken, what, where, the rule, the remedy.

Types and bounds stand at a model's fields and speak for themselves; `setting(rule=, remedy=)` adds a plainer sentence
where there is one. A rule between fields is a validator that raises UserError, its text beginning with the field.
"""

from collections.abc import Mapping
from typing import Any, Self, TypedDict, TypeVar, Unpack, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from open_r1.recipe.keys import wrong_type
from open_r1.schema import UserError
from open_r1.utils.files import JsonObject, is_object
from open_r1.utils.names import unknown_name

TYPES = {
    "int_type": "int",
    "int_from_float": "int",
    "float_type": "float",
    "bool_type": "bool",
    "string_type": "str",
    "list_type": "list",
    "dict_type": "dict",
}
BOUNDS = {"greater_than_equal": "ge", "greater_than": "gt", "less_than_equal": "le", "less_than": "lt"}
WORDS = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}

T = TypeVar("T")


class Checked(BaseModel):
    """Settings with their rules: values are taken as YAML types them, unknown keys are refused, nothing changes."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def known_keys(cls) -> frozenset[str]:
        """Every key that may be given."""
        return frozenset(cls.model_fields)

    @classmethod
    def read(cls, values: Mapping[str, object], where: str = "") -> Self:
        """Check `values`, which stand at `where` in a recipe.

        Raises:
            UserError: one line for the first rule that they break.
        """
        for key in values:
            if key not in cls.known_keys():
                raise unknown_name("key", str(key), cls.known_keys(), where)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _first_rule(error, cls, where) from error

    def given(self) -> JsonObject:
        """The values that were given, as plain data: without the defaults."""
        return self.model_dump(exclude_unset=True)


class Bounds(TypedDict, total=False):
    """Of a number, as pydantic names them."""

    ge: float
    gt: float
    le: float
    lt: float


class Ruled(Bounds, total=False):
    """Bounds, and what is said where one is broken."""

    rule: str
    remedy: str


def setting(default: T, help: str, *, rule: str = "", remedy: str = "", only: str = "", **bounds: Unpack[Bounds]) -> T:
    """Declare a field: default and help side by side, then what is said where a bound (ge, gt, le, lt) is broken.

    `only` names the provider that an external model's setting is for.
    """
    return Field(default, description=help, json_schema_extra={"rule": rule, "remedy": remedy, "only": only}, **bounds)


def bounded(*, rule: str = "", remedy: str = "", **bounds: Unpack[Bounds]) -> Any:
    """Declare the bounds of a field whose default and help are TRL's."""
    return Field(json_schema_extra={"rule": rule, "remedy": remedy}, **bounds)


def said(field: FieldInfo, word: str) -> str:
    """What a field adds under `rule`, `remedy` or `only`; "" where it adds nothing."""
    extra = field.json_schema_extra
    return str(extra.get(word, "")) if is_object(extra) else ""


def refused(where: str, value: object, rule: str, remedy: str) -> UserError:
    """Build (not raise) the line "where is value; rule; remedy"."""
    return UserError(f"{where} is {value!r}; {rule}; {remedy}")


def _first_rule(error: ValidationError, model: type[Checked], where: str) -> UserError:
    first = error.errors(include_url=False)[0]
    kind, value = first["type"], first["input"]
    inside: JsonObject = first.get("ctx", {})
    if isinstance(broken := inside.get("error"), UserError):
        return UserError(f"{where}.{broken}" if where else str(broken))
    name, *items = first["loc"]
    field, prefix = model.model_fields[str(name)], f"{where}." if where else ""
    at = f"{prefix}{name}" + "".join(f"[{item}]" if isinstance(item, int) else f".{item}" for item in items)
    if kind == "literal_error":
        return unknown_name(str(name), str(value), _names(field.annotation), where)
    rule, remedy = said(field, "rule"), said(field, "remedy")
    if bound := BOUNDS.get(kind):
        limit = inside[bound]
        rule = rule or "it must be " + ("0 or more" if bound == "ge" and limit == 0 else WORDS[bound].format(limit))
        number = isinstance(field.default, int | float)
        return refused(at, value, rule, remedy or f"leave it out for {field.default if number else 'its default'}")
    if kind == "finite_number" or (value is None and rule):
        return refused(at, value, rule or "it must be a finite number", remedy or "leave it out for its default")
    if kind not in TYPES:
        raise AssertionError(f"no text for pydantic's {kind} at {at}") from error
    empty = {"None"} if type(None) in get_args(field.annotation) and not items else set[str]()
    return wrong_type(value, frozenset({TYPES[kind]} | empty), at)


def _names(annotation: object) -> list[str]:
    """The names that a Literal allows, within a union or a list as well."""
    return [name for part in get_args(annotation) for name in ([part] if isinstance(part, str) else _names(part))]
