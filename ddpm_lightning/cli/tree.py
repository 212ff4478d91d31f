"""The configuration tree ``conf/``: what a command chooses from it, and what its files say about themselves.

It reads the files as text and imports nothing else, so that ``--help`` answers at once.
"""

import re

from ddpm_lightning.utils.config_tree import choices, config_folder

__all__ = ["choices", "comment", "config_folder", "groups_of", "summary"]


def groups_of(verb: str) -> dict[str, tuple[str, str]]:
    """Returns the groups that a verb chooses from, and those below them: the default choice, and a description."""
    text = (config_folder() / f"{verb}.yaml").read_text(encoding="utf-8")
    found: dict[str, tuple[str, str]] = {}
    for name, choice, said in re.findall(
        r"^  - ([\w/]+)(?::\s*(\w+))?[ \t]*(?:#\s*(.+))?$", text, re.MULTILINE
    ):
        if not choice and (config_folder() / f"{name}.yaml").is_file() and name != "common":
            found |= groups_of(name)
        elif choice and (config_folder() / name).is_dir():
            found[name] = (choice, said.partition(": conf/")[0])
            inner = sorted(path.name for path in (config_folder() / name).iterdir() if path.is_dir())
            found |= {
                group: ("", _description(name, group))
                for group in (f"{name}/{folder}" for folder in inner)
                if choices(group)
            }
    return found


def _description(outer: str, group: str) -> str:
    """Returns what the files of the group above say of a group: the comment that names its folder."""
    texts = (path.read_text(encoding="utf-8") for path in sorted((config_folder() / outer).glob("*.yaml")))
    found = (re.search(rf"# (.+): conf/{group}/$", text, re.MULTILINE) for text in texts)
    return next((match.group(1) for match in found if match), "")


def summary(group: str, name: str) -> str:
    """Returns the first sentence that a file of a group says of itself."""
    said = []
    for line in (config_folder() / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not re.match(r"# (@package|ddpm-lightning )", line):
            said.append(line.removeprefix("#").strip())
    return re.split(r"\.\s(?=[A-Z])", " ".join(said), maxsplit=1)[0].removesuffix(".")


def comment(key: str, verb: str | None = None) -> str:
    """Returns what the configuration files say of a key, that of the verb first."""
    name = re.escape(key.split(".")[-1])
    # The same key may mean something else to another verb.
    for path in sorted(config_folder().rglob("*.yaml"), key=lambda path: (path.stem != verb, path)):
        if found := re.search(rf"^{name}:(?:.*#\s*(.+)|.*)$", path.read_text(encoding="utf-8"), re.MULTILINE):
            return found.group(1) or ""
    return ""
