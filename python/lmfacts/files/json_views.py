"""Objects of a JSON document as Python objects: each key is declared once, with its type, its check and its meaning.

    class Corpus(JsonView):
        name = optional(STRING)

`Corpus(document).name` is then `str | None`, and `Corpus.checked()` the type that `json_types` checks documents with. A
view holds the document itself, copies nothing, and is a mapping of whatever is in it, keys that are not declared
included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from lmfacts.files.json_types import Mapped, OrNull, Record, Type

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

__all__ = ["JsonView", "Key", "objects", "optional", "required", "view"]

T = TypeVar("T")
V = TypeVar("V", bound="JsonView")


class Key(Generic[T]):
    """One key of a view: an attribute that reads the document.

    Attributes:
        of: the type that the document must have there.
        is_required: whether the key must be there; where it is not, the attribute is what `read` makes of None.
    """

    def __init__(self, of: Type[Any], read: Callable[[Any], T], *, is_required: bool) -> None:
        self.of = of
        self.is_required = is_required
        self._read = read

    def __set_name__(self, owner: type[JsonView], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type[JsonView]) -> Self: ...
    @overload
    def __get__(self, instance: JsonView, owner: type[JsonView]) -> T: ...
    def __get__(self, instance: JsonView | None, owner: type[JsonView]) -> Self | T:
        """The value in the document; of the class, the key itself."""
        if instance is None:
            return self
        return self._read(instance.document.get(self._name))


class JsonView(Mapping[str, Any]):
    """An object of a JSON document, whose declared keys are attributes.

    Attributes:
        document: the object itself.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    def __getitem__(self, key: str) -> Any:
        return self.document[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.document)

    def __len__(self) -> int:
        return len(self.document)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.document!r})"

    @classmethod
    def keys_declared(cls) -> dict[str, Key[Any]]:
        """The keys that are declared, those of base classes first."""
        return {name: key for base in reversed(cls.__mro__) for name, key in vars(base).items() if isinstance(key, Key)}

    @classmethod
    def checked(cls) -> Record:
        """The type that a document of this view has."""
        keys = cls.keys_declared()
        return Record(
            required={name: key.of for name, key in keys.items() if key.is_required},
            optional={name: key.of for name, key in keys.items() if not key.is_required},
        )


def required(of: Type[T]) -> Key[T]:
    """A key that must be there."""
    return Key(of, lambda value: value, is_required=True)


def optional(of: Type[T]) -> Key[T | None]:
    """A key that may be missing or null: None then."""
    return Key(OrNull(of), lambda value: value, is_required=False)


def view(of: type[V]) -> Key[V]:
    """A key whose value is an object of its own, which must be there."""
    return Key(of.checked(), of, is_required=True)


def objects(
    of: type[V], keys: re.Pattern[str] | None = None, key_name: str = "", *, is_required: bool = True
) -> Key[dict[str, V]]:
    """A key whose value is an object of objects, with keys of any name or of a pattern; empty where it is missing."""
    mapped = Mapped(of.checked(), keys, key_name)

    def read(value: dict[str, dict[str, Any]] | None) -> dict[str, V]:
        return {name: of(inner) for name, inner in (value or {}).items()}

    return Key(mapped if is_required else OrNull(mapped), read, is_required=is_required)
