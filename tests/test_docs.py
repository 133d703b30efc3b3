"""The documents say what the code does: commands and options, state files and schemas, links, and what the README tells to type.

docs/commands.md and docs/operations.md have a heading per command and subcommand; options that all of them have may stand once, under
"Options of every command".
docs/state-files.md names every file and schema that mmtools writes. The last part shows that each check can fail.
"""

import ast
import importlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import click
import pytest

from mmtools import cli

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
COMMANDS = (ROOT / "docs" / "commands.md", ROOT / "docs" / "operations.md")
STATE_FILES = ROOT / "docs" / "state-files.md"
DOCUMENTS = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]

SHARED = "Options of every command"
RUN_FILES = ("run.yaml", "journal.jsonl", "trades.jsonl", "live_state.json", "health.jsonl", "kill.json")
STATE_NAMES = {f"runs/<run_id>/{name}" for name in RUN_FILES} | {"runs/history.jsonl", "kill.json"}
"""State files that are there by design, whatever the code calls them."""
OTHER_TOOLS = frozenset({"git", "cd", "jq", "cat", "less", "tail", "head", "export", "crontab", "systemctl", "mkdir", "cp", "ln"})
"""Programs that are not ours and may stand in the README's `sh` blocks."""

FENCED = re.compile(r"^```.*?^```[ \t]*$", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


def our_commands() -> dict[str, cli.Command]:
    """Return each command of bin/ by name, imported from its module, and each subcommand by both its words."""
    names = sorted(p.name for p in (ROOT / "bin").iterdir() if p.is_symlink())
    mains = [importlib.import_module(f"mmtools.commands.{name.replace('-', '_')}").main for name in names]
    return dict(zip(names, mains, strict=True)) | subcommands(mains)


def subcommands(mains: Iterable[cli.Command]) -> dict[str, cli.Command]:
    return {f"{main.name} {word}": sub for main in mains for word, sub in main.subcommands.items()}


def options(command: click.Command) -> set[str]:
    """Return the long options of a command, without --help."""
    given = (option for p in command.params if isinstance(p, click.Option) for option in (*p.opts, *p.secondary_opts))
    return {option for option in given if option.startswith("--")} - {"--help"}


def sections(markdown: str) -> dict[str, str]:
    """Return the text under each heading by its title without backticks; deeper headings and their text belong to it too."""
    lines = FENCED.sub(lambda block: re.sub(r"^#", " #", block.group(), flags=re.MULTILINE), markdown).splitlines()
    heads = [(i, len(line) - len(line.lstrip("#")), line.strip("# `")) for i, line in enumerate(lines) if re.match(r"#+ ", line)]
    found = {}
    for place, (start, depth, title) in enumerate(heads):
        end = next((i for i, other, _ in heads[place + 1 :] if other <= depth), len(lines))
        found[title] = "\n".join(lines[start + 1 : end])
    return found


def undocumented(has: Mapping[str, set[str]], markdown: str) -> list[str]:
    """Return what docs/commands.md lacks of the commands and their options, and what it says of options that do not exist."""
    texts = sections(markdown)
    everywhere = set.intersection(*has.values()) if has else set()
    shared = set(OPTION.findall(texts.get(SHARED, "")))
    complaints = [f'{option} stands under "{SHARED}", but not every command has it' for option in sorted(shared - everywhere)]
    for name, wanted in has.items():
        if name not in texts:
            complaints.append(f"{name}: has no heading")
            continue
        complaints += [f"{name}: {option} is not documented" for option in sorted(wanted - shared - set(OPTION.findall(texts[name])))]
    known = set().union(*has.values()) | {"--help"}
    for name in has.keys() & texts.keys():
        quoted = {option for code in re.findall(r"`([^`\n]+)`", FENCED.sub("", texts[name])) for option in OPTION.findall(code)}
        complaints += [f"{name}: {option} is an option of no command" for option in sorted(quoted - known)]
    return complaints


def strings(source: str) -> Iterator[str]:
    """Yield every string in the code, f-strings with `<name>` for their fields; docstrings and other bare strings are left out."""
    tree = ast.parse(source)
    skipped: set[ast.AST] = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped.update(node.values)
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "<name>" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in skipped:
            yield node.value


def state_file_names(source: str) -> set[str]:
    """Return the last part of every string that is a path of a file of ours: "runs/<name>/journal.jsonl" gives journal.jsonl."""
    paths = [s for s in strings(source) if re.fullmatch(r"[\w<>./-]*[\w>]\.(json|jsonl|yaml|lock|sqlite)", s)]
    return {path.rsplit("/", 1)[-1] for path in paths}


def schemas(source: str) -> set[str]:
    return {s for s in strings(source) if re.fullmatch(r"mmtools\.[\w.-]+/\d+", s)}


def is_named(name: str, markdown: str) -> bool:
    """Return whether a file stands in the document; the field of a name (`bracket-<name>.jsonl`) may be called anything there."""
    pattern = "<[^>]+>".join(re.escape(part) for part in re.split(r"<[^>]+>", name))
    return re.search(rf"(?<![\w.-]){pattern}(?![\w-])", markdown) is not None


def dead_links(document: Path) -> list[str]:
    text = FENCED.sub("", document.read_text())
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)", text) if not re.match(r"[a-z]+:", target)]
    return [f"{document.name}: {target} does not exist" for target in targets if target and not (document.parent / target).exists()]


def shell_commands(markdown: str) -> Iterator[list[str]]:
    """Yield the words of every simple command in the blocks marked `sh`; pipes, `&&`, `;` and line ends part them."""
    for block in re.findall(r"^```sh[ \t]*\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.wordchars += "{}$@:,+%"
            words: list[str] = []
            for word in [*lexer, ";"]:
                if set(word) <= set(";|&"):
                    if words:
                        yield words
                    words = []
                elif words or not re.match(r"[A-Z_]+=", word):  # VARIABLE=value before the program
                    words.append(word)


def mistyped(markdown: str, has: Mapping[str, set[str]]) -> list[str]:
    """Return what the `sh` blocks tell to type that does not exist: programs, and options of our commands."""
    complaints = []
    for words in shell_commands(markdown):
        program = words[0]
        name = program.removeprefix("bin/")
        if program == "bin/test" or program in OTHER_TOOLS:
            continue
        if program == name or name not in has:
            complaints.append(f"`{shlex.join(words)}`: {program} is no command in bin/ (nor in OTHER_TOOLS of tests/test_docs.py)")
            continue
        if len(words) > 1 and f"{name} {words[1]}" in has:
            name = f"{name} {words[1]}"
        given = {word.split("=")[0] for word in words[1:] if OPTION.match(word)}
        complaints += [f"`{shlex.join(words)}`: {name} has no {option}" for option in sorted(given - has[name] - {"--help"})]
    return complaints


@pytest.fixture(scope="module")
def commands_told() -> str:
    return "\n".join(document.read_text() for document in COMMANDS)


@pytest.fixture(scope="module")
def our_options() -> dict[str, set[str]]:
    return {name: options(command) for name, command in our_commands().items()}


def test_every_command_and_option_is_documented(our_options: dict[str, set[str]], commands_told: str) -> None:
    complaints = undocumented(our_options, commands_told)
    assert not complaints, "\ndocs/commands.md, docs/operations.md\n" + "\n".join(complaints)


def test_headings_in_backticks_are_commands(our_options: dict[str, set[str]], commands_told: str) -> None:
    headings = set(re.findall(r"^## `([^`]+)`", FENCED.sub("", commands_told), re.MULTILINE))
    assert headings <= our_options.keys()


def test_every_state_file_and_schema_is_documented(commands_told: str) -> None:
    sources = [path.read_text() for path in sorted((ROOT / "mmtools").rglob("*.py"))]
    state_files = STATE_FILES.read_text()
    wanted = STATE_NAMES.union(*map(state_file_names, sources))
    lacking = sorted(name for name in wanted if not is_named(name, state_files))
    assert not lacking, f"docs/state-files.md does not name {', '.join(lacking)}"
    documents = state_files + commands_told
    lacking = sorted(schema for schema in set().union(*map(schemas, sources)) if not is_named(schema, documents))
    assert not lacking, f"none of docs/state-files.md, commands.md and operations.md names {', '.join(lacking)}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_point_to_files_that_exist(document: Path) -> None:
    assert dead_links(document) == []


def test_the_readme_tells_to_type_only_what_exists(our_options: dict[str, set[str]]) -> None:
    complaints = mistyped(README.read_text(), our_options)
    assert not complaints, "\nREADME.md\n" + "\n".join(complaints)


# Each check can fail.

HAS = {"halt": {"--json", "--clear", "--why"}, "quote-run": {"--json", "--recording"}, "quote-run twice": {"--json", "--twice"}}
GOOD = f"""# Commands
## {SHARED}
`--json` prints one document.
## `halt`
| option | does |
| `--clear` | clears, with `--why TEXT` |
```sh
# --clear here is no heading
bin/halt --clear
```
## quote-run
### Options
`--recording FILE`, `--help`
## `quote-run twice`
`--twice`
"""


def test_a_document_that_says_everything_has_no_complaints() -> None:
    assert undocumented(HAS, GOOD) == []


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("`--json`", "JSON", "halt: --json is not documented"),
        ("`--recording FILE`", "`--recordings`", "quote-run: --recording is not documented"),
        ("`--recording FILE`", "`--recording`, `--recrding`", "quote-run: --recrding is an option of no command"),
        ("`--json` prints", "`--json`, `--clear` print", f'--clear stands under "{SHARED}", but not every command has it'),
        ("## `halt`", "## `halts`", "halt: has no heading"),
        ("## `quote-run twice`", "## `quote-run` twice", "quote-run twice: has no heading"),
        ("`--twice`", "", "quote-run twice: --twice is not documented"),
        ("with `--why TEXT`", "", "halt: --why is not documented"),
    ],
)
def test_a_document_that_leaves_out_or_invents_something_is_told(before: str, after: str, complaint: str) -> None:
    assert complaint in undocumented(HAS, GOOD.replace(before, after))


def test_subcommands_are_commands_of_two_words_with_options_of_their_own() -> None:
    @cli.command(example="x")
    def main() -> None: ...

    @main.subcommand(example="x")
    @click.option("--at", "-a")
    @click.option("--all/--none")
    def explain_why(**options: object) -> None: ...

    assert {name: options(sub) for name, sub in subcommands([main]).items()} == {
        f"{main.name} explain-why": {"--json", "--state", "--at", "--all", "--none"}
    }
    assert options(main) == {"--json", "--state"}


def test_names_of_files_and_schemas_are_found_in_code_and_not_in_docstrings() -> None:
    source = (
        '"""Writes other.json."""\nx = "kill.json"\ny = f"runs/{run}/bracket-{name}.jsonl"\nz = "mmtools.kill/1"\nw = "no file.json here"\n'
    )
    assert state_file_names(source) == {"kill.json", "bracket-<name>.jsonl"}
    assert schemas(source) == {"mmtools.kill/1"}


def test_a_name_counts_only_whole() -> None:
    assert is_named("kill.json", "the file `kill.json`")
    assert is_named("runs/<run_id>/bracket-<name>.jsonl", "`runs/<run_id>/bracket-<maker>.jsonl`")
    assert not is_named("kill.json", "`overkill.json`, `kill.jsonl`, `my.kill.json`")


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "there.md").touch()
    document = tmp_path / "x.md"
    document.write_text("[a](there.md#part) [b](https://example.org/x) [c](#here) [d](gone.md)\n```\n[e](in-code.md)\n```\n")
    assert dead_links(document) == ["x.md: gone.md does not exist"]


@pytest.mark.parametrize(
    ("line", "complaints"),
    [
        ("bin/halt --clear --why 'a reason; and more'  # a comment", 0),
        ("git clone URL && cd mmtools", 0),
        ("bin/quote-run --recording x.jsonl.gz --json | jq .pnl", 0),
        ("bin/quote-run --recording=x \\\n    --json", 0),
        ("bin/test --all", 0),
        ("bin/quote-run twice x --twice", 0),
        ("bin/quote-run twice x --recording y", 1),
        ("bin/quote-run x --twice", 1),
        ("MMTOOLS_STATE=/tmp/x bin/halt --json", 0),
        ("MMTOOLS_STATE=/tmp/x bin/hlat --json", 1),
        ("bin/qoute-run", 1),
        ("halt --clear", 1),
        ("cd x; bin/halt --recording y", 1),
        ("bin/quote-run --json | jp .pnl", 1),
    ],
)
def test_a_line_of_the_readme_that_cannot_be_typed_is_found(line: str, complaints: int) -> None:
    assert len(mistyped(f"# x\n```sh\n{line}\n```\n```text\nnonsense\n```\n", HAS)) == complaints
