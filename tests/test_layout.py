"""The house rules of the source tree, held with `ast`: who imports whom, what is pure, who prints, and that a command is whole.

Every rule is a function from source text to complaints. The last part shows on made-up sources that each can fail.
"""

import ast
import configparser
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ERRORS_AND_UNITS = frozenset({"errors", "units"})
GROUND = frozenset({"state", "recordlog", "config", "yamlfile", "cli", "outbox", "restarts", "moments"})
MAY_IMPORT: Mapping[str, frozenset[str]] = {
    "errors": frozenset(),
    "units": frozenset(),
    "disk": ERRORS_AND_UNITS,
    "trading": ERRORS_AND_UNITS,
    **{module: ERRORS_AND_UNITS | GROUND | {"trading"} for module in GROUND},
    "recordlog": ERRORS_AND_UNITS | {"disk"},
    "state": ERRORS_AND_UNITS | {"disk", "recordlog"},
    "venues": ERRORS_AND_UNITS | {"trading", "config", "state"},
    "runs": ERRORS_AND_UNITS | GROUND | {"trading", "venues"},
    "lab": ERRORS_AND_UNITS | GROUND | {"trading", "venues", "runs"},
    "ops": ERRORS_AND_UNITS | GROUND | {"runs", "disk"},
    "commands": ERRORS_AND_UNITS | GROUND | {"trading", "venues", "runs", "lab", "ops"},
}
"""What each room of mmtools (a package, or a module of the ground) may import from, besides itself."""

PURE_IMPORTS = frozenset(
    {
        "bisect",
        "collections",
        "contextlib",
        "copy",
        "dataclasses",
        "enum",
        "functools",
        "heapq",
        "itertools",
        "math",
        "mmtools",
        "msgspec",
        "random",
        "re",
        "typing",
    }
)
IMPURE_CALLS = frozenset({"open", "print", "input", "eval", "exec", "__import__", "breakpoint"})
CLOCKS = frozenset({"now", "utcnow", "today", "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep"})
PRINTS_AND_EXITS = frozenset(
    {"print", "exit", "quit", "sys.exit", "os._exit", "sys.stdout.write", "sys.stderr.write", "click.echo", "click.secho", "SystemExit"}
)

Rule = Callable[[str, str], list[str]]
"""From a module's name ("mmtools.trading.book") and source to complaints; the complaints say what is wrong and where."""


def room(module: str) -> str:
    """Return the room of a module or of a name in it: "trading" for mmtools.trading.book; "" for mmtools itself and its dunder names."""
    second = module.split(".")[1:2]
    return second[0] if second and not second[0].startswith("__") else ""


def imports(module: str, source: str) -> Iterator[tuple[int, str]]:
    """Yield line and full name of everything imported, anywhere in the module; `from a import b` is a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            start = ".".join([*package, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{start}.{name.name}") for name in node.names)


def calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of everything called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


def wrong_arrows(module: str, source: str) -> list[str]:
    own = room(module)
    if own and own not in MAY_IMPORT:
        return [f"{module}: `{own}` is no room of the house; say in MAY_IMPORT of tests/test_layout.py what it may import"]
    allowed = MAY_IMPORT.get(own, frozenset()) | {own}
    return [
        f"{module}:{line} imports {name}; {own or 'mmtools/__init__.py'} may import from {', '.join(sorted(allowed)) or 'nothing'}"
        for line, name in imports(module, source)
        if name.split(".")[0] == "mmtools" and room(name) not in allowed | {""}
    ]


def impurities(module: str, source: str) -> list[str]:
    if room(module) not in ERRORS_AND_UNITS | {"trading"}:
        return []
    found = [
        f"{module}:{line} imports {name}, which is not on the list of what is pure"
        for line, name in imports(module, source)
        if name.split(".")[0] not in PURE_IMPORTS or (name.startswith("random.") and name != "random.Random")
    ]
    for line, name in calls(ast.parse(source)):
        if name in IMPURE_CALLS or name.split(".")[-1] in CLOCKS or (name.startswith("random.") and name != "random.Random"):
            found.append(f"{module}:{line} calls {name}; time and chance come in from outside, files and prints stay there")
    return found


def prints_and_exits(module: str, source: str) -> list[str]:
    if module == "mmtools.cli":
        return []
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if not is_main_block(node)]
    found = [(line, name) for line, name in calls(tree) if name in PRINTS_AND_EXITS]
    found += [
        (n.lineno, "SystemExit")
        for n in ast.walk(tree)
        if isinstance(n, ast.Raise) and isinstance(n.exc, ast.Name) and n.exc.id == "SystemExit"
    ]
    return [f"{module}:{line} uses {name}; only cli.py prints and exits: return a Report or raise one of errors.py" for line, name in found]


def is_main_block(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def missing_docstring(module: str, source: str) -> list[str]:
    return [] if ast.get_docstring(ast.parse(source)) else [f"{module}: has no docstring; say what it is for and what may not go in it"]


def command_without_main(module: str, source: str) -> list[str]:
    if room(module) != "commands" or module.count(".") != 2 or module.split(".")[2].startswith("_"):
        return []
    body = ast.parse(source).body
    has_main = any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in body)
    found = [] if has_main else [f"{module}: has no function `main`"]
    if not body or not is_main_block(body[-1]) or ast.unparse(body[-1]).splitlines()[1:] != ["    main()"]:
        found.append(f'{module}: does not end with `if __name__ == "__main__": main()`')
    return found


RULES: tuple[Rule, ...] = (wrong_arrows, impurities, prints_and_exits, missing_docstring, command_without_main)


def modules() -> dict[str, str]:
    """Return name and source of every module of mmtools; a package is named like its folder with `.__init__` behind it."""
    return {".".join(p.relative_to(ROOT).with_suffix("").parts): p.read_text() for p in sorted((ROOT / "mmtools").rglob("*.py"))}


@pytest.mark.parametrize("rule", RULES)
def test_every_module_keeps_the_rule(rule: Rule) -> None:
    complaints = [complaint for module, source in modules().items() for complaint in rule(module, source)]
    assert not complaints, "\n" + "\n".join(complaints)


# A command is whole: link, console script, module, row in the README.


def linked_commands(bin_folder: Path) -> set[str]:
    return {p.name for p in bin_folder.iterdir() if p.is_symlink() and str(p.readlink()) == "_launch"}


def console_scripts(setup_cfg: str) -> dict[str, str]:
    config = configparser.ConfigParser()
    config.read_string(setup_cfg)
    lines = config["options.entry_points"]["console_scripts"].strip().splitlines()
    return {name.strip(): target.strip() for name, target in (line.split("=") for line in lines)}


def command_modules(names: set[str]) -> set[str]:
    parts = [name.split(".") for name in names]
    return {p[2].replace("_", "-") for p in parts if p[:2] == ["mmtools", "commands"] and len(p) == 3 and not p[2].startswith("_")}


def readme_rows(readme: str) -> set[str]:
    """Return the commands of the table under the heading "Commands": rows whose first cell is a name in backticks (or a link of one)."""
    section = re.search(r"^#+ Commands[ \t]*\n(.*?)(?=^#+ |\Z)", readme, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"^\| *\[?`([a-z0-9-]+)`[^|]*\|", section.group(1), re.MULTILINE)) if section else set()


def differences(places: Mapping[str, set[str]]) -> list[str]:
    """Return a line for each name that is not in all of the places."""
    complaints = []
    for name in sorted(set().union(*places.values())):
        lacking = [place for place, names in places.items() if name not in names]
        if lacking:
            complaints.append(f"{name}: not in {', not in '.join(lacking)}")
    return complaints


def test_links_scripts_modules_and_readme_name_the_same_commands() -> None:
    readme = ROOT / "README.md"
    complaints = differences(
        {
            "bin/ (a link to _launch)": linked_commands(ROOT / "bin"),
            "setup.cfg (console_scripts)": set(console_scripts((ROOT / "setup.cfg").read_text())),
            "mmtools/commands/ (a module)": command_modules(set(modules())),
            "README.md (a row of the table under Commands)": readme_rows(readme.read_text()) if readme.exists() else set(),
        }
    )
    assert not complaints, "\n" + "\n".join(complaints)


def test_console_scripts_call_main_of_their_module() -> None:
    for name, target in console_scripts((ROOT / "setup.cfg").read_text()).items():
        assert target == f"mmtools.commands.{name.replace('-', '_')}:main"


def test_bin_holds_links_to_the_launcher_and_three_files() -> None:
    names = {p.name for p in (ROOT / "bin").iterdir() if p.name != "__pycache__"}
    assert names - linked_commands(ROOT / "bin") == {"_launch", "_setup.py", "test"}


def pins(path: Path) -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, _, version in (line.partition("==") for line in lines if line)}


def test_requirements_are_pinned_and_setup_cfg_asks_for_a_part_of_them() -> None:
    run, dev = pins(ROOT / "requirements" / "run.txt"), pins(ROOT / "requirements" / "dev.txt")
    assert all(re.fullmatch(r"[0-9][0-9.]*", version) for version in (*run.values(), *dev.values()))
    assert not set(run) & set(dev), "dev.txt is installed without regard to run.txt; a package in both would be replaced under the commands"
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    asked = re.findall(r"^([\w-]+)>=", config["options"]["install_requires"], re.MULTILINE)
    assert asked
    assert {name.lower() for name in asked} <= set(run)


# Each rule can fail.


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("mmtools.units", "from mmtools.trading import book"),
        ("mmtools.trading.book", "import mmtools.state"),
        ("mmtools.trading.book", "from mmtools import config"),
        ("mmtools.trading.book", "def f():\n    from mmtools.venues.tape import Tape"),
        ("mmtools.trading.book", "from .. import cli"),
        ("mmtools.trading.__init__", "from ..outbox import send"),
        ("mmtools.state", "from mmtools.runs.journal import Journal"),
        ("mmtools.disk", "from mmtools.state import StateDir"),
        ("mmtools.runs.session", "from mmtools import disk"),
        ("mmtools.venues.stream", "from mmtools import cli"),
        ("mmtools.venues.exchange.server", "import mmtools.runs.engine"),
        ("mmtools.runs.engine", "from mmtools.lab import metrics"),
        ("mmtools.lab.sweep", "import mmtools.ops.systemd"),
        ("mmtools.ops.memory", "from mmtools.lab.metrics import markout"),
        ("mmtools.ops.memory", "from mmtools.trading.market import Side"),
        ("mmtools.runs.engine", "from mmtools.commands.report import main"),
        ("mmtools.__init__", "from mmtools import units"),
        ("mmtools.helpers", ""),
    ],
)
def test_an_import_against_the_arrows_is_found(module: str, source: str) -> None:
    assert len(wrong_arrows(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("mmtools.trading.book", "from mmtools.units import ONE\nfrom mmtools.trading.market import Side\nfrom . import params"),
        ("mmtools.config", "from mmtools.trading.params import Params"),
        ("mmtools.state", "from mmtools import disk"),
        ("mmtools.runs.engine", "from mmtools import __version__, state\nimport json"),
        ("mmtools.ops.memory", "from mmtools.runs.live_state import read"),
        ("mmtools.commands.report", "import mmtools.lab.metrics, mmtools.ops.memory, mmtools.units"),
    ],
)
def test_an_import_along_the_arrows_is_not(module: str, source: str) -> None:
    assert wrong_arrows(module, source) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from datetime import datetime",
        "from pathlib import Path",
        "def f():\n    import json",
        "import requests",
        "from random import choice",
        "import random\nx = random.random()",
        "open('x')",
        "print(1)",
        "x = clock.now()",
        "x = clock.time()",
    ],
)
def test_something_impure_in_trading_or_units_is_found(source: str) -> None:
    for module in ("mmtools.trading.book", "mmtools.units"):
        assert len(impurities(module, source)) == 1


def test_chance_as_a_parameter_is_pure_and_other_rooms_may_be_impure() -> None:
    assert impurities("mmtools.trading.paper", "import random\ndef f(chance: random.Random) -> float:\n    return chance.random()") == []
    assert impurities("mmtools.state", "import time\nopen('x')") == []


@pytest.mark.parametrize(
    "source",
    [
        "print(1)",
        "import sys\ndef f():\n    sys.exit(2)",
        "raise SystemExit",
        "raise SystemExit(3)",
        "click.echo('x')",
        "sys.stderr.write('x')",
        "if __name__ == '__main__':\n    main()\nelse:\n    print(1)\nprint(2)",
    ],
)
def test_a_print_or_exit_outside_cli_is_found(source: str) -> None:
    assert prints_and_exits("mmtools.runs.engine", source)
    assert prints_and_exits("mmtools.cli", source) == []


def test_the_main_block_may_exit() -> None:
    assert prints_and_exits("mmtools.commands.report", 'import sys\nif __name__ == "__main__":\n    sys.exit(main())') == []


@pytest.mark.parametrize("source", ["", "import math", "# a comment", '""" """'])
def test_a_module_without_a_docstring_is_found(source: str) -> None:
    assert missing_docstring("mmtools.trading.book", source)


@pytest.mark.parametrize(
    ("source", "complaints"),
    [
        ("def main(): ...\nif __name__ == '__main__':\n    main()", 0),
        ("def main(): ...", 1),
        ("def main(): ...\nif __name__ == '__main__':\n    main()\nx = 1", 1),
        ("def main(): ...\nif __name__ == '__main__':\n    other()", 1),
        ("if __name__ == '__main__':\n    main()", 1),
        ("", 2),
    ],
)
def test_a_command_module_without_main_is_found(source: str, complaints: int) -> None:
    assert len(command_without_main("mmtools.commands.report", source)) == complaints
    assert command_without_main("mmtools.commands.__init__", source) == []


README = """# x
| `not-this` | before |
## Commands

| command | does |
|---|---|
| `quote-run` | makes markets, unlike `halt` |
| [`report`](docs/commands.md#report) | tells |
| plain | no command |

## State
| `nor-this` | after |
"""


def test_the_readme_table_is_read_under_its_heading_only() -> None:
    assert readme_rows(README) == {"quote-run", "report"}
    assert readme_rows("") == set()


def test_a_command_that_lacks_a_place_is_named_with_the_place() -> None:
    places = {"bin": {"a", "b"}, "setup.cfg": {"a"}, "README": {"a", "b", "c"}}
    assert differences(places) == ["b: not in setup.cfg", "c: not in bin, not in setup.cfg"]
    assert differences({"bin": {"a"}, "README": {"a"}}) == []


def test_names_of_commands_are_read_from_links_scripts_and_modules(tmp_path: Path) -> None:
    (tmp_path / "quote-run").symlink_to("_launch")
    (tmp_path / "other").symlink_to("elsewhere")
    (tmp_path / "plain").touch()
    assert linked_commands(tmp_path) == {"quote-run"}
    assert console_scripts("[options.entry_points]\nconsole_scripts =\n    quote-run = a.b:main\n") == {"quote-run": "a.b:main"}
    assert command_modules({"mmtools.commands.quote_run", "mmtools.commands.__init__", "mmtools.runs.engine"}) == {"quote-run"}
