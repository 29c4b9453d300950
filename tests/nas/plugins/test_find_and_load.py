"""Names of plug-ins are looked up without importing them; loading one names what is wrong with it."""

from __future__ import annotations

import sys
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Protocol

import pytest

from nas.plugins import Kind, PluginRef, calling, construct, find, known_names, load, of_object, registered
from tests.errors import raises
from tests.plugin_packages import PluginPackages

SHIPPED = ("guided", "random")
GREETER = """
class Greeter:
    unit = "words"
    def __init__(self, space, *, seed, length=3):
        if length < 0:
            raise ValueError("a negative length")
        self.length = length
    def greet(self, n): return n / 0
"""


class Greeting(Protocol):
    unit: ClassVar[str]

    @abstractmethod
    def greet(self, n: int) -> float: ...


@pytest.fixture
def greeter(plugin_packages: PluginPackages) -> PluginRef:
    plugin_packages.install(
        "greeting-kit",
        {"greeting_kit": GREETER},
        version="1.2",
        entries={"search": {"greeter": "greeting_kit:Greeter"}},
    )
    found = find(Kind.SEARCH, "greeter", SHIPPED)
    assert found is not None
    return found


def test_a_registered_name_is_found_without_an_import(greeter: PluginRef) -> None:
    assert greeter == PluginRef(Kind.SEARCH, "greeter", "greeting_kit:Greeter", "greeting-kit", "1.2")
    assert str(greeter) == "algorithm greeter (greeting_kit:Greeter of greeting-kit 1.2)"
    assert PluginRef.from_json(greeter.to_json()) == greeter
    assert registered(Kind.SEARCH) == [greeter]
    assert registered(Kind.METRICS) == []
    assert known_names(Kind.SEARCH, SHIPPED) == ["guided", "random", "greeter"]
    assert "greeting_kit" not in sys.modules
    assert load(greeter, Greeting).__name__ == "Greeter"


def test_a_shipped_name_is_no_plugin(greeter: PluginRef) -> None:
    assert find(Kind.SEARCH, "random", SHIPPED) is None


def test_a_class_is_found_with_the_package_that_has_its_module(
    greeter: PluginRef, plugin_packages: PluginPackages
) -> None:
    target = "greeting_kit:Greeter"
    assert find(Kind.SEARCH, target) == PluginRef(Kind.SEARCH, target, target, "greeting-kit", "1.2")
    assert find(Kind.METRICS, target) == PluginRef(Kind.METRICS, target, target, "greeting-kit", "1.2")
    (plugin_packages.folder / "alone.py").write_text("class A: ...")
    assert find(Kind.SEARCH, "alone:A") == PluginRef(Kind.SEARCH, "alone:A", "alone:A")


def test_an_unknown_name_is_rejected_with_the_known_ones(greeter: PluginRef) -> None:
    with raises("algorithm.unknown", "did you mean 'greeter'?", "guided, random, greeter", "subnet_nas.search"):
        find(Kind.SEARCH, "greter", SHIPPED)
    for name in ("a:b:c", ":A", "a:", "a b:C", "../x:Y"):
        with raises("algorithm.unknown"):
            find(Kind.SEARCH, name, SHIPPED)


def test_a_shipped_name_cannot_be_taken(plugin_packages: PluginPackages) -> None:
    plugin_packages.install("sly", {"sly": GREETER}, entries={"search": {"guided": "sly:Greeter"}})
    with raises("plugin.shadows", "sly", "guided"):
        find(Kind.SEARCH, "guided", SHIPPED)


def test_a_name_of_two_packages_is_ambiguous(greeter: PluginRef, plugin_packages: PluginPackages) -> None:
    plugin_packages.install("other", {"other": GREETER}, entries={"search": {"greeter": "other:Greeter"}})
    with raises("plugin.ambiguous", "greeting-kit 1.2", "other 0.1"):
        find(Kind.SEARCH, "greeter", SHIPPED)


@pytest.mark.parametrize(
    ("target", "text", "mentions"),
    [
        ("absent.part:A", "", ("absent.part", "pip install")),
        ("broken:A", "import numpy_of_tomorrow", ("broken", "ModuleNotFoundError", "numpy_of_tomorrow")),
        ("broken:A", "1 / 0", ("ZeroDivisionError",)),
        ("broken:A", "raise SystemError('no')\n", ("SystemError: no",)),
        ("broken:Grater", GREETER, ("has no Grater", "Greeter")),
    ],
)
def test_what_cannot_be_imported_is_named(
    plugin_packages: PluginPackages, target: str, text: str, mentions: tuple[str, ...]
) -> None:
    plugin_packages.install("broken", {"broken": text})
    ref = find(Kind.SEARCH, target)
    assert ref is not None
    with raises("plugin.import", target, *mentions):
        load(ref)


@pytest.mark.parametrize(
    ("text", "mentions"),
    [
        ("class A:\n    unit = 'x'\n", ("method greet", "Greeting")),
        ("class A:\n    def greet(self, n): ...\n", ("class attribute unit",)),
        ("class A:\n    unit = 'x'\n    def greet(self): ...\n", ("greet(self, n: 'int')", "got greet(self)")),
        ("def A(n): ...\n", ("is a function",)),
    ],
)
def test_what_lacks_a_part_of_its_contract_is_named(
    plugin_packages: PluginPackages, text: str, mentions: tuple[str, ...]
) -> None:
    plugin_packages.install("partial", {"partial_kit": text})
    ref = find(Kind.SEARCH, "partial_kit:A")
    assert ref is not None
    with raises("plugin.contract", "partial_kit:A", "see docs/how-to/extending/plugin.md", *mentions):
        load(ref, Greeting)


class FullGreeting(Greeting, Protocol):
    @abstractmethod
    def part(self) -> str: ...

    def cheer(self) -> str:
        return ""


@pytest.mark.parametrize(
    ("methods", "mention"),
    [
        ("", "has no method greet and no method part; expected"),
        ("def greet(self, n): ...", "has no method part; expected"),
        (
            "def greet(self, n): ...\n    def part(self): ...",
            "does not inherit the contract's class, which has a method cheer;",
        ),
    ],
)
def test_methods_that_a_plugin_must_write_are_named_before_those_that_it_inherits(
    plugin_packages: PluginPackages, methods: str, mention: str
) -> None:
    plugin_packages.install("partial", {"partial_kit": f"class A:\n    unit = 'x'\n    {methods}\n"})
    ref = find(Kind.SEARCH, "partial_kit:A")
    assert ref is not None
    with raises("plugin.contract", mention):
        load(ref, FullGreeting)


@pytest.mark.parametrize("kind", Kind)
def test_messages_name_a_page_for_each_kind(kind: Kind) -> None:
    assert (Path(__file__).parents[3] / kind.page).is_file()


def test_settings_are_the_constructors(greeter: PluginRef) -> None:
    made = load(greeter)
    assert construct(greeter, made, "space", seed=1, settings={"length": 5}, key="search.settings").length == 5
    with raises("job.unknown-key", "search.settings", "did you mean 'length'?", "greeter"):
        construct(greeter, made, "space", seed=1, settings={"lenght": 5}, key="search.settings")
    with raises("job.unknown-key", "'seed'"):
        construct(greeter, made, "space", seed=1, settings={"seed": 5}, key="search.settings")
    with raises("plugin.failed", "greeter", "ValueError: a negative length"):
        construct(greeter, made, "space", seed=1, settings={"length": -1}, key="search.settings")
    with raises("job.missing-key", "length"):
        construct(greeter, lambda space, *, seed, length: None, "space", seed=1, settings={}, key="search.settings")
    with raises("plugin.contract", "greeter", "seed="):
        construct(greeter, lambda space: None, "space", seed=1, settings={}, key="search.settings")


def test_an_error_of_the_plugins_code_names_it(greeter: PluginRef) -> None:
    with raises("plugin.failed", "greeter", "greet raised ZeroDivisionError"), calling(greeter, "greet"):
        load(greeter)("space", seed=1).greet(3)


def test_an_object_refers_to_its_class() -> None:
    ref = of_object(Kind.SEARCH, PluginPackages)
    assert (ref.target, ref.is_object) == ("tests.plugin_packages:PluginPackages", False)
    assert of_object(Kind.SEARCH, object.__new__(PluginPackages)).is_object
    assert of_object(Kind.SEARCH, lambda: None).is_object
