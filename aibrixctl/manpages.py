"""Write the man pages from the command tree: ``python -m aibrixctl.manpages FOLDER``.

Options and arguments come from the commands themselves; exit status, environment, files and
the common text are written here, once.
"""

import sys
from pathlib import Path
from typing import Any

from aibrixctl import __version__
from aibrixctl.command import COMMON_OPTIONS, Spec
from aibrixctl.exit_codes import MEANING, ExitCode
from aibrixctl.quantities import UNITS
from aibrixctl.tree import TREE, Branch, command_of, function_of, leaves

_ENVIRONMENT = (
    ("AIBRIXCTL_OUTPUT", "default of --output"),
    (
        "AIBRIXCTL_<COMMAND>_<OPTION>",
        "any other option, e.g. AIBRIXCTL_PROFILE_LOAD_BASE_URL; a flag is stronger",
    ),
    ("NO_COLOR, FORCE_COLOR", "never, or always, colour"),
    ("SOURCE_DATE_EPOCH", "the time stamped on documents, for reproducible output"),
    ("XDG_CONFIG_HOME", "where the user's configuration lies; default ~/.config"),
)
_FILES = (
    ("./aibrixctl.toml", "configuration of a project; the strongest file"),
    ("$XDG_CONFIG_HOME/aibrixctl/config.toml", "configuration of a user"),
    ("/etc/aibrixctl/config.toml", "configuration of a machine"),
)


def _escape(text: str) -> str:
    """Return text that roff prints as it stands."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    safe = "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in safe)
    return "\n".join(f"\\&{line}" if line[:1] in (".", "'") else line for line in safe.split("\n"))


def _paragraphs(text: str) -> list[str]:
    lines: list[str] = []
    for block in text.split("\n\n"):
        lines += [".PP", _escape(" ".join(block.split()))]
    return lines


def _tagged(pairs: Any) -> list[str]:
    lines: list[str] = []
    for term, about in pairs:
        lines += [".TP", f".B {_escape(term)}", _escape(about)]
    return lines


def _option_pairs(made: Any, *, common: bool) -> list[tuple[str, str]]:
    pairs = []
    for parameter in made.params:
        if parameter.param_type_name != "option" or (parameter.name in COMMON_OPTIONS) != common:
            continue
        names = ", ".join([*parameter.opts, *parameter.secondary_opts])
        flag = getattr(parameter, "is_flag", False) or getattr(parameter, "count", False)
        value = "" if flag else " " + (parameter.metavar or parameter.name.upper())
        notes = []
        if parameter.required:
            notes.append("required")
        elif not flag and parameter.default not in (None, (), [], ""):
            notes.append(f"default: {parameter.default}")
        if parameter.multiple and "Repeatable" not in (parameter.help or ""):
            notes.append("may be given more than once")
        suffix = f" [{'; '.join(notes)}]" if notes else ""
        pairs.append((names + value, f"{parameter.help or ''}{suffix}"))
    return pairs


def _arguments(made: Any) -> list[Any]:
    return [p for p in made.params if p.param_type_name == "argument"]


def _synopsis(path: str, made: Any) -> str:
    words = [f"\\fBaibrixctl {_escape(path)}\\fR", "[\\fIOPTIONS\\fR]"]
    for argument in _arguments(made):
        name = argument.metavar or argument.name.upper()
        dots = "..." if argument.nargs != 1 else ""
        word = f"\\fI{_escape(name)}\\fR"
        words.append((word if argument.required else f"[{word}]") + dots)
    return " ".join(words)


def _page(name: str, about: str, body: list[str]) -> str:
    head = [
        f'.TH "{_escape(name.upper())}" 1 "" "aibrixctl {__version__}" "aibrixctl manual"',
        ".SH NAME",
        f"{_escape(name)} \\- {_escape(about.rstrip('.'))}",
    ]
    status = [".SH EXIT STATUS", *_tagged((str(c.value), MEANING[c]) for c in ExitCode)]
    environment = [".SH ENVIRONMENT", *_tagged(_ENVIRONMENT)]
    files = [".SH FILES", *_tagged(_FILES)]
    return "\n".join([*head, *body, *status, *environment, *files]) + "\n"


def _root_page() -> str:
    body = [".SH SYNOPSIS", "\\fBaibrixctl\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR]"]
    body += [".SH DESCRIPTION", *_paragraphs(TREE.about)]
    body += _paragraphs(
        "Results go to stdout, progress and messages to stderr. Every command takes -o json and "
        "answers in one envelope whose schema `aibrixctl schema show` prints. " + UNITS
    )
    body += [".SH COMMANDS"]
    body += _tagged((f"aibrixctl-{p.replace(' ', '-')}(1)", leaf.about) for p, leaf in leaves())
    return _page("aibrixctl", TREE.about, body)


def _command_page(path: str, about: str, function: Any) -> str:
    made = command_of(path.rsplit(" ", maxsplit=1)[-1], function)
    spec: Spec = function.spec
    body = [".SH SYNOPSIS", _synopsis(path, made), ".SH DESCRIPTION"]
    body += _paragraphs((function.__doc__ or "").replace("\b", "").strip())
    arguments = _arguments(made)
    if arguments:
        body += [".SH ARGUMENTS"]
        body += _tagged((a.metavar or a.name.upper(), a.help or "") for a in arguments)
    own = _option_pairs(made, common=False)
    if own:
        body += [".SH OPTIONS", *_tagged(own)]
    body += [".SH COMMON OPTIONS", *_tagged(_option_pairs(made, common=True))]
    if spec.examples:
        body += [".SH EXAMPLES"]
        for example in spec.examples:
            body += [".PP", _escape(example.about.capitalize()) + ":", ".PP", ".RS 4", ".nf"]
            body += [_escape(example.line), ".fi", ".RE"]
    body += [".SH SEE ALSO", "\\fBaibrixctl\\fR(1)"]
    return _page(f"aibrixctl-{path.replace(' ', '-')}", about, body)


def pages(branch: Branch = TREE) -> dict[str, str]:
    """Return file name to text of every man page."""
    made = {"aibrixctl.1": _root_page()}
    for path, leaf in leaves(branch):
        name = f"aibrixctl-{path.replace(' ', '-')}.1"
        made[name] = _command_page(path, leaf.about, function_of(leaf))
    return made


def write(folder: Path) -> None:
    """Write every page into a folder, and remove pages of commands that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = pages()
    for old in set(folder.glob("*.1")) - {folder / name for name in wanted}:
        old.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
