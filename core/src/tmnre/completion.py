"""Shell completion: small scripts that ask `tmnre complete WORDS...` what could come next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tmnre.plugin import PluginError, discover, find_recipe

SCRIPTS = {
    "bash": """\
# tmnre: put this in ~/.bashrc:  eval "$(tmnre completion bash)"
_tmnre() {
    local words
    COMPREPLY=()
    mapfile -t words < <(tmnre complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ ${words[0]} == "FILES" ]]; then
        compopt -o default
        return
    fi
    local IFS=$'\\n'
    COMPREPLY=($(compgen -W "${words[*]}" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _tmnre tmnre
""",
    "zsh": """\
# tmnre: put this in ~/.zshrc, after compinit:  eval "$(tmnre completion zsh)"
_tmnre() {
    local -a found
    found=(${(f)"$(tmnre complete -- ${words[2,CURRENT]} 2>/dev/null)"})
    if [[ ${found[1]} == FILES ]]; then _files; else compadd -a found; fi
}
compdef _tmnre tmnre
""",
    "fish": """\
# tmnre: put this in ~/.config/fish/config.fish:  tmnre completion fish | source
function __tmnre
    set -l words (commandline -opc)[2..-1] (commandline -ct)
    set -l found (tmnre complete -- $words 2>/dev/null)
    if test "$found[1]" = FILES
        __fish_complete_path (commandline -ct)
    else
        string join \\n $found
    end
end
complete -c tmnre -f -a '(__tmnre)'
""",
}
FILES = ["FILES"]
"""what the scripts take for "complete a path" """


def candidates(words: Sequence[str], commands: Mapping[str, Sequence[str]]) -> list[str]:
    """What the last of the words, which may be empty, could become.

    commands: {name: its options}.  Options of `run` include the recipe's settings, whose module is imported for that.
    """
    *before, last = words or [""]
    if not before:
        return sorted(name for name in (*commands, "--help", "--version") if name.startswith(last))
    command, *given = before
    if command not in commands:
        return []
    if last.startswith("-"):
        options = [*commands[command]]
        if command == "run" and given:
            options += [f"--{name}" for name in _settings(given[0])]
        return sorted(option for option in options if option.startswith(last))
    if given and given[-1] == "--preset":
        return sorted(name for name in _presets(before[1]) if name.startswith(last))
    if given and given[-1].startswith("--"):
        return FILES
    named = {"run": _recipes, "show": _recipes, "cite": _recipes, "check": _checked, "completion": _shells}
    found = [name for name in named[command]() if name.startswith(last)] if command in named and not given else []
    return sorted(found) or FILES


def _recipes() -> list[str]:
    return [f"{plugin.name}/{name}" for plugin in discover()[0].values() for name in plugin.recipes]


def _shells() -> list[str]:
    return [*SCRIPTS]


def _checked() -> list[str]:
    return [*discover()[0], *_recipes()]


def _settings(recipe: str) -> list[str]:
    from tmnre.settings import leaves

    try:
        return [leaf.name for leaf in leaves(find_recipe(recipe).settings)]
    except PluginError:
        return []


def _presets(recipe: str) -> list[str]:
    try:
        return list(find_recipe(recipe).presets)
    except PluginError:
        return []
