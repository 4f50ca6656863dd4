"""The scenarios that there are. Each is a function `name(lab)`, told about by a decorator."""
import dataclasses
import typing


@dataclasses.dataclass
class Scenario:
    name: str
    says: str  # what it shows, in a line
    part: str  # "fast": always; "long": with --long
    action: typing.Callable


SCENARIOS = []


def scenario(part):
    def add(action):
        SCENARIOS.append(Scenario(action.__name__.replace("_", "-"), action.__doc__.splitlines()[0], part, action))
        return action

    return add
