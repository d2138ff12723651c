"""Which parameters are trained, and how fast: groups chosen by patterns over their names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from mouselift.errors import InputError

REGEX = "re:"  # begins a pattern that is a regular expression
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
NUMBERED = re.compile(r"(.+?\.)(\d+)(\..+)")  # up to the first number between dots, the number, the rest
REST = "everything else"


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Parameters whose names match, and what happens to them."""

    match: str
    """Glob over whole names: * for anything, {16..23} for numbers, {norm1,norm2} for alternatives; or re:REGEX."""
    frozen: bool = False
    """Leave them as they are."""
    rate: float = 1.0
    """Times the learning rate."""

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise InputError(f"expected a positive rate for {self.match!r}, found {self.rate}; use frozen: true for 0")
        name_pattern(self.match)


def name_pattern(match: str) -> re.Pattern[str]:
    """The regular expression over whole names that a group's pattern stands for.

    Raises:
        InputError: It is none, or a range runs backwards.
    """
    try:
        return re.compile(match.removeprefix(REGEX) if match.startswith(REGEX) else _from_glob(match))
    except re.error as error:
        raise InputError(f"expected a pattern of parameter names, found {match!r}: {error}") from None


def group_of(names: Sequence[str], groups: Sequence[ParameterGroup]) -> dict[str, ParameterGroup | None]:
    """The first group that each name matches; None stands for the rest, which is trained at the usual rate.

    Raises:
        InputError: A group matches nothing that the groups before it left.
    """
    found: dict[str, ParameterGroup | None] = dict.fromkeys(names)
    for group in groups:
        pattern = name_pattern(group.match)
        mine = [name for name in names if found[name] is None and pattern.fullmatch(name)]
        if not mine:
            taken = any(pattern.fullmatch(name) for name in names)
            why = "only parameters of the groups before it" if taken else f"none of {', '.join(compact(names))}"
            raise InputError(f"groups: expected a pattern that matches parameters, found {group.match!r}: {why}")
        found.update(dict.fromkeys(mine, group))
    return found


def parameter_groups(
    model: nn.Module, groups: Sequence[ParameterGroup], *, learning_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """An optimiser's groups; frozen parameters are in none, and need no gradient any more.

    Args:
        model: Changed in place: `requires_grad`.
        groups: The first that matches a name counts.
        learning_rate: Of the run; each group's `lr` is its share of it.
        weight_decay: Of matrices; vectors have none.

    Raises:
        InputError: A group matches nothing, or nothing is left to train.
    """
    parameters = dict(model.named_parameters())
    chosen = group_of(list(parameters), groups)
    collected: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        group = chosen[name]
        if group is not None and group.frozen:
            parameter.requires_grad_(False)
            continue
        rate = 1.0 if group is None else group.rate
        for is_matrix in (True, False):  # in this order, which checkpoints rely on
            collected.setdefault((rate, is_matrix), [])
        collected[rate, parameter.ndim >= 2].append(parameter)
    made = [
        {"params": members, "lr": rate * learning_rate, "weight_decay": weight_decay if is_matrix else 0.0}
        for (rate, is_matrix), members in collected.items()
        if members
    ]
    if not made:
        raise InputError("groups: expected something that is left to train, found every parameter frozen")
    return made


def describe_groups(model: nn.Module, groups: Sequence[ParameterGroup]) -> list[str]:
    """Lines for people: every parameter's group, names that differ by a number together."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    chosen = group_of(list(sizes), groups)
    lines = []
    for group in (*groups, None):
        mine = [name for name, its in chosen.items() if its is group]
        if not mine:
            continue
        title = REST if group is None else group.match
        fate = "frozen" if group is not None and group.frozen else f"rate x {1.0 if group is None else group.rate:g}"
        lines.append(f"{title}: {fate}, {sum(sizes[name] for name in mine):,} parameters in {len(mine)} tensors")
        lines += [f"  {names}" for names in compact(mine)]
    return lines


def compact(names: Sequence[str]) -> list[str]:
    """Names with their first numbers as ranges: layers.{0..7}.weight."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for name in names:
        parts = NUMBERED.fullmatch(name)
        head, number, tail = (name, None, "") if parts is None else parts.groups()
        numbers.setdefault((head, tail), []).extend([] if number is None else [int(number)])
    return [f"{head}{_ranges(found)}{tail}" for (head, tail), found in numbers.items()]


def _ranges(numbers: Sequence[int]) -> str:
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    texts = [f"{p[0]}" if len(p) == 1 else f"{p[0]}..{p[-1]}" for p in parts]
    return "" if not texts else texts[0] if len(texts) == 1 and ".." not in texts[0] else f"{{{','.join(texts)}}}"


def _from_glob(glob: str) -> str:
    """A number is matched whole: {1..2}* is layers 1 and 2, not 12."""
    expression, position = "", 0
    while position < len(glob):
        character = glob[position]
        span = RANGE.match(glob, position)
        if span is not None:
            low, high = int(span[1]), int(span[2])
            if low > high:
                raise InputError(f"expected a range that runs upwards, found {span[0]} in {glob!r}")
            expression += f"(?:{'|'.join(map(str, range(low, high + 1)))})(?!\\d)"
            position = span.end()
            continue
        if character == "{":
            end = glob.find("}", position)
            if end < 0:
                raise InputError(f"expected a closing brace, found none in {glob!r}")
            options = glob[position + 1 : end].split(",")
            expression += f"(?:{'|'.join(map(re.escape, options))})"
            position = end + 1
            continue
        expression += {"*": ".*", "?": "."}.get(character, re.escape(character))
        position += 1
    return expression
