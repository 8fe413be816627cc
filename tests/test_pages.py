"""The pages for people are true: commands, options, specs, links, codes and files that they show exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from distilc.compiler.cli import distilc
from distilc.compiler.diagnostics.codes import CODES
from distilc.compiler.spec.structure import load_schema

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("specs", "schema", "compiler", "runtime", "tests")
PAGES = [ROOT / "README.md", *sorted(page for folder in FOLDERS for page in (ROOT / folder).rglob("README.md"))]
HALVES = ("compiler", "runtime")
IN_RUNTIME = re.compile(r"\bR\d{3}\b")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{named(self.page)}:{self.line}"


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def split(page: Path) -> tuple[str, tuple[Block, ...]]:
    """The prose of a page, and its fenced blocks without their indentation."""
    prose, blocks, open_at, language, inside = [], [], 0, "", list[str]()
    for number, line in enumerate(page.read_text("utf-8").split("\n"), 1):
        if (fence := re.fullmatch(r"\s*```(\w*)", line)) is not None:
            if open_at:
                indent = min((len(text) - len(text.lstrip()) for text in inside if text.strip()), default=0)
                blocks.append(Block(page, open_at, language, "\n".join(text[indent:] for text in inside) + "\n"))
                open_at, inside = 0, []
            else:
                open_at, language = number, fence[1]
        elif open_at:
            inside.append(line)
        else:
            prose.append(line)
    assert not open_at, f"{named(page)}:{open_at}: a block that nothing closes"
    return "\n".join(prose), tuple(blocks)


def spans(page: Path) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`\n]+)`", split(page)[0])


def blocks(language: str) -> list[Block]:
    return [block for page in PAGES for block in split(page)[1] if block.language == language]


# --- the README, links, files ------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 200


def test_the_readme_shows_the_quick_start() -> None:
    """The spec of `make demo`, without its comments."""
    shown = next(block.text for block in split(ROOT / "README.md")[1] if block.language == "yaml")
    yaml = YAML(typ="safe")
    assert yaml.load(shown) == yaml.load((ROOT / "specs" / "quickstart.yaml").read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """Of its headings, as they are made from them on the web."""
    headings = re.findall(r"^#+ (.*)$", split(page)[0], re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[tuple[str, Path, str]]:
    """(as it is written, file, anchor) of each link that leads to no other site."""
    for target in re.findall(r"\]\(([^)\s]+)\)", split(page)[0]):
        if "://" not in target:
            file, _, anchor = target.partition("#")
            yield target, (page.parent / file).resolve() if file else page, anchor


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for target, file, anchor in links(page):
        assert file.is_file(), target
        assert not anchor or anchor in anchors(file), target


def test_every_page_is_found_from_the_readme() -> None:
    found: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page not in found and page.suffix == ".md":
            found.add(page)
            ahead += [file for _, file, _ in links(page)]
    assert set(PAGES) <= found


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_files_of_the_repository_are_there(page: Path) -> None:
    """A name in backticks that begins with one of our folders; on a page about code every module and folder, too."""
    about_code = page.parent.name in HALVES
    for span in spans(page):
        ours = re.fullmatch(rf"({'|'.join(FOLDERS)})/[\w.*/-]*", span) is not None
        if ours or (about_code and re.fullmatch(r"[\w/]+(/|\.py)", span)):
            pattern = re.sub(r"\b(NAME|KIND)\b", "*", span).rstrip("/")
            assert any(True for at in (page.parent, ROOT) for _ in at.glob(pattern)), span


@pytest.mark.parametrize("half", HALVES)
def test_every_folder_of_a_half_has_its_line(half: str) -> None:
    """And every module that lies beside the folders is named."""
    page = ROOT / half / "README.md"
    listed = re.findall(r"^\| `(\w+)/` \|", split(page)[0], re.MULTILINE)
    assert sorted(listed) == sorted(file.parent.name for file in (ROOT / half).glob("*/__init__.py"))
    assert {file.name for file in (ROOT / half).glob("*.py")} - {"__init__.py"} <= set(spans(page))


def test_every_make_target_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    lines = [line for page in PAGES for block in split(page)[1] for line in block.text.split("\n")]
    lines += [span for page in PAGES for span in spans(page)]
    shown = {found[1] for line in lines if (found := re.match(r"make ([a-z]+)", line)) is not None}
    assert {"demo", "test"} <= shown <= targets


def test_every_code_is_one_of_ours() -> None:
    runtime = "".join(file.read_text("utf-8") for file in (ROOT / "runtime").rglob("*.py"))
    known = {*CODES, *IN_RUNTIME.findall(runtime)}
    for page in PAGES:
        shown = set(re.findall(r"\b[EWR]\d{3}\b", page.read_text("utf-8")))
        assert shown <= known, (named(page), shown - known)


# --- commands ----------------------------------------------------------------------------------------


@cache
def options(command: str) -> frozenset[str]:
    """The options of a command, as `distilc COMMAND --help` lists them."""
    context = click.Context(distilc)
    found = distilc.get_command(context, command)
    assert found is not None, f"there is no command {command!r}"
    return frozenset(
        name for parameter in found.get_params(context) for name in (*parameter.opts, *parameter.secondary_opts)
    )


def commands(page: Path) -> Iterator[list[str]]:
    """The words behind `distilc`, of each command line of a page."""
    shown = [line for block in split(page)[1] if block.language in ("", "sh") for line in block.text.split("\n")]
    for line in (*shown, *spans(page)):
        if (found := re.search(r"(?:^|[|&;] |\$ |exec |[A-Z_]+=\S+ )distilc ([a-z-].*)", line)) is not None:
            words = shlex.split(found[1], comments=True)
            yield list(takewhile(lambda word: word not in ("|", "||", "&&", ";", ">"), words))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_and_their_options_are_there(page: Path) -> None:
    for command, *words in commands(page):
        if command.startswith("-"):
            assert command in options("check") | {"--version"}, command
            continue
        known = options(command)
        for word in words:
            assert not re.match(r"--?[a-z]", word) or word.partition("=")[0] in known, f"distilc {command} {word}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_options_by_themselves_are_there(page: Path) -> None:
    """`--devices 2` in a sentence: some command has it."""
    known = {name for command in distilc.list_commands(click.Context(distilc)) for name in options(command)}
    shown = {span.split()[0].partition("=")[0] for span in spans(page) if span.startswith("--")}
    assert shown <= known, shown - known


# --- specs and site files ----------------------------------------------------------------------------

SPECS = [block for block in blocks("yaml") if block.page.parent.name != "extension_package"]  # of a package's own term
WHOLE = [block for block in SPECS if re.search(r"^version:", block.text, re.MULTILINE)]
SITES = [
    block for block in SPECS if set(YAML(typ="safe").load(block.text)) <= set(load_schema("site").root["properties"])
]
PARTS = [block for block in SPECS if block not in WHOLE and block not in SITES]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a starter spec."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DISTILC_SITE", raising=False)
    CliRunner().invoke(distilc, ["init", "starter.yaml"], catch_exceptions=False)
    return tmp_path


def write(block: Block, folder: Path, opening: str = "") -> None:
    """The block as `page.yaml`, with the files that it names."""
    (folder / "page.yaml").write_text(opening + block.text, "utf-8")
    for name in re.findall(r"[\w-]+\.(?:jsonl|csv|tsv)", block.text):
        (folder / name).touch()
    for name in re.findall(r"spec: ([\w-]+)\.yaml", block.text):
        (folder / f"{name}.yaml").write_text(f"extends: starter.yaml\nname: {name}\nvariants: {{kd: {{}}}}\n")


def checked(file: str, *options: str) -> str:
    """What `distilc check` prints."""
    return CliRunner().invoke(distilc, ["check", file, "--offline", "--path", "corpus=.", *options]).output


@pytest.mark.parametrize("block", WHOLE, ids=lambda block: block.place)
def test_whole_specs_pass_check(block: Block, folder: Path) -> None:
    write(block, folder)
    assert checked("page.yaml") == "page.yaml: ok\n"


@pytest.mark.parametrize("block", PARTS, ids=lambda block: block.place)
def test_parts_of_specs_pass_check(block: Block, folder: Path) -> None:
    """Laid over the starter spec; there may be warnings, which are about the rest of it."""
    write(block, folder, "extends: starter.yaml\n")
    options = ["--set", "evaluation.metrics=[bleu]"] if "task: translation" in block.text else []
    assert re.search(r"^page.yaml: (ok|\d+ warnings?)$", found := checked("page.yaml", *options), re.MULTILINE), found


@pytest.mark.parametrize("block", SITES, ids=lambda block: block.place)
def test_site_files_are_sites(block: Block, folder: Path) -> None:
    (folder / "site.yaml").write_text(block.text.replace("/data/models", "."), "utf-8")
    (folder / "hosts").write_text("n1 slots=8\nn2 slots=8\n")
    assert checked("starter.yaml", "--site", "site.yaml") == "starter.yaml: ok\n"
