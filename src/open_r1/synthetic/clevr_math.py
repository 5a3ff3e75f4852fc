"""Visual counting: questions after CLEVR-Math about scenes of things, and the ways to reason about them.

A family is one kind of question. Every family shares one small set of procedures (`WAYS`), each of which looks at all
things in reading order and keeps one counter; what a reasoner must learn is which procedure a family needs.
Longer than most files: its first half is the tables of words, procedures and families.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from open_r1.synthetic.clevr_scene import Scene, Thing, arrange, draw_things
from open_r1.synthetic.render import COLOURS
from open_r1.synthetic.sample import RIGHT, Procedure, Sample, Size

SYNONYMS: dict[str, tuple[str, ...]] = {  # how a question may say an attribute; other words stand for themselves
    "large": ("large", "big"),
    "small": ("small", "tiny"),
    "metal": ("metal", "shiny", "metallic"),
    "rubber": ("rubber", "matte"),
    "cube": ("cubes", "blocks"),
    "sphere": ("spheres", "balls"),
    "cylinder": ("cylinders",),
    "car": ("cars",),
    "bus": ("buses",),
    "motorbike": ("motorbikes",),
    "aeroplane": ("aeroplanes",),
    "bicycle": ("bicycles",),
    "sedan": ("sedans",),
    "minivan": ("minivans",),
    "regular": ("regular buses",),
    "double": ("double buses",),
    "articulated": ("articulated buses",),
    "chopper": ("choppers",),
    "scooter": ("scooters",),
    "jet": ("jets",),
    "biplane": ("biplanes",),
    "road": ("road bikes",),
    "tandem": ("tandem bikes",),
    "": ("things", "objects"),  # the noun where neither shape nor sub-type is asked for
}
_ADJECTIVES, _NOUNS = ("size", "colour", "material"), ("shape", "subtype")
_OOD_MOST_ADDED = 7  # out of domain "Add 7 small cars" may go beyond what is in the picture

Group = dict[str, str]  # attribute -> value; the empty group is all things


@dataclass(frozen=True)
class Question:
    """A question and the groups that it names: `named` is added or taken away, `second` too, `asked` is counted."""

    kind: str
    text: str
    named: Group
    asked: Group
    second: Group | None = None
    number: int = 0


def among(thing: Thing, group: Group | None) -> bool:
    """Whether `thing` belongs to `group`; nothing belongs to None."""
    return group is not None and all(getattr(thing, attribute) == value for attribute, value in group.items())


@dataclass(frozen=True)
class Way:
    """A procedure: what each thing adds to the counter, and what is done with the question's number at the end."""

    step: Callable[[Question, Thing], int]
    sign: Literal["", "+", "-"] = ""


WAYS: dict[str, Way] = {
    "every": Way(lambda q, t: 1),
    "named": Way(lambda q, t: among(t, q.named) or among(t, q.second)),
    "asked": Way(lambda q, t: among(t, q.asked)),
    "others": Way(lambda q, t: not among(t, q.named)),
    "last": Way(lambda q, t: not among(t, q.second)),
    "neither": Way(lambda q, t: not (among(t, q.named) or among(t, q.second))),
    "rest": Way(lambda q, t: among(t, q.asked) and not among(t, q.named)),
    "again": Way(lambda q, t: 1 + among(t, q.named)),  # adds what should be taken away
    "plus": Way(lambda q, t: among(t, q.named), "+"),
    "total": Way(lambda q, t: 1, "+"),
    "minus": Way(lambda q, t: among(t, q.named), "-"),
    "fewer": Way(lambda q, t: 1, "-"),
}


@dataclass(frozen=True)
class Family:
    """A kind of question.

    `asks` says how the counted group relates to the named one: the same, all things, a wider group ("wider"), or one
    that has nothing in common with it ("apart"). `answers` are the answers that are drawn alike often, lowest and
    highest, per picture size; `share` is how often the family is drawn.
    """

    template: str
    asks: Literal["same", "all", "wider", "apart"]
    share: float
    right_share: float
    right: str
    wrong: tuple[str, ...]
    answers: dict[Size, tuple[int, int]]


_EASY, _MEDIUM, _HARD = 0.6, 0.2, 0.03  # share of the right procedure in the base policy's pre-training mixture
_LOW: dict[Size, tuple[int, int]] = {"tiny": (0, 3), "full": (0, 6)}
_ALL: dict[Size, tuple[int, int]] = {"tiny": (1, 4), "full": (1, 8)}

# Easy: the question says what to do. Medium: a number changes the count. Hard: the question misleads (a second clause
# that does not matter, "all" where only some went) or takes two groups away; hard families are 45 % of the questions.
FAMILIES: dict[str, Family] = {
    "add": Family(
        "Add {x} {a}. How many {a} exist?",
        *("same", 0.09, _EASY, "plus", ("named", "total", "every", "minus")),
        {"tiny": (2, 6), "full": (2, 8)},
    ),
    "add_all": Family(
        "Add {x} {a}. How many objects exist?",
        *("all", 0.08, _EASY, "total", ("every", "plus", "named", "others")),
        {"tiny": (4, 8), "full": (4, 10)},
    ),
    "subtract_all": Family(
        "Subtract all {a}. How many objects are left?",
        *("all", 0.09, _EASY, "others", ("every", "named", "again")),
        _ALL,
    ),
    "subtract_part": Family(
        "Subtract all {a}. How many {b} are left?",
        *("wider", 0.09, _EASY, "rest", ("asked", "named", "others", "every")),
        _LOW,
    ),
    "subtract_some": Family(
        "Subtract {x} {a}. How many {a} are left?",
        *("same", 0.07, _MEDIUM, "minus", ("named", "others", "plus", "fewer")),
        _LOW,
    ),
    "subtract_from_all": Family(
        "Subtract {x} {a}. How many objects are left?",
        *("all", 0.06, _MEDIUM, "fewer", ("minus", "others", "named")),
        {"tiny": (2, 5), "full": (2, 9)},
    ),
    "must_subtract": Family(
        "How many {a} must be subtracted to get {x} {a}?",
        *("same", 0.07, _MEDIUM, "minus", ("named", "plus", "every", "fewer")),
        _LOW,
    ),
    "were_subtracted": Family(
        "Subtract all {a}. How many were subtracted if there are {x} {a} left?",
        *("same", 0.15, _HARD, "minus", ("named", "others", "plus", "fewer")),
        _LOW,
    ),
    "adversarial": Family(
        "Subtract all {a}. How many {b} are left?",
        *("apart", 0.15, _HARD, "asked", ("others", "named", "every")),
        _LOW,
    ),
    "multihop": Family(
        "Subtract all {a}. Subtract all {c}. How many objects are left?",
        *("all", 0.15, _HARD, "neither", ("others", "last", "named", "every")),
        _LOW,
    ),
}
KINDS = tuple(FAMILIES)
RIGHT_SHARE = {kind: family.right_share for kind, family in FAMILIES.items()}


def sample(rng: random.Random, size: Size, split: str) -> Sample:
    """Draw one row; `split` "train" and "id" show CLEVR's shapes, "ood" shows vehicles.

    Example: "Subtract all red cubes. How many objects are left?", whose right procedure reads
    "others; large red metal cube 0; small blue rubber sphere 1" and ends in 1.
    """
    question, scene = compose(rng, size, split)
    procedures = reason(question, scene.things)
    return Sample((scene.draw(),), question.text, question.kind, procedures)


def compose(rng: random.Random, size: Size, split: str) -> tuple[Question, Scene]:
    """Draw a question and its scene, all of a row but the picture.

    Families come by their share and, within one, answers alike often: scenes are drawn until the answer is the one
    wanted and hardly a wrong procedure (none of three, one of four) ends in it too.
    """
    kind = rng.choices(KINDS, [family.share for family in FAMILIES.values()])[0]
    family = FAMILIES[kind]
    while True:
        wanted = str(rng.randint(*family.answers[size]))
        for _ in range(200):
            things = draw_things(rng, size, vehicles=split == "ood")
            empty = kind == "subtract_from_all" and rng.random() < 0.05  # leads to a third "Subtract 0 yellow balls"
            question = _ask(rng, kind, things, empty, split)
            if question is None:
                continue
            answers = {name: procedure.answer for name, procedure in reason(question, things).items()}
            lucky = sum(answer == wanted for name, answer in answers.items() if name != RIGHT)
            if answers[RIGHT] == wanted and lucky <= (1 if empty else len(family.wrong) // 4):
                return question, arrange(rng, things, size)


def reason(question: Question, things: Sequence[Thing]) -> dict[str, Procedure]:
    """The right procedure under RIGHT and the family's wrong ones under their own names."""
    family = FAMILIES[question.kind]
    names = {RIGHT: family.right} | {name: name for name in family.wrong}
    return {key: _follow(name, question, things) for key, name in names.items()}


def _follow(name: str, question: Question, things: Sequence[Thing]) -> Procedure:
    """Write down what procedure `name` does; its counting is correct, and nothing goes below 0."""
    way, counter, lines = WAYS[name], 0, [name]
    for thing in things:
        counter += int(way.step(question, thing))
        lines.append(f"{thing.words} {counter}")
    if not way.sign:
        return Procedure("; ".join(lines), str(counter))
    result = counter + question.number if way.sign == "+" else max(counter - question.number, 0)
    return Procedure("; ".join([*lines, f"{counter} {way.sign} {question.number} = {result}"]), str(result))


def _ask(rng: random.Random, kind: str, things: Sequence[Thing], empty: bool, split: str) -> Question | None:
    """A question of `kind` about `things`, or None where the groups drawn do not suit it."""
    family = FAMILIES[kind]
    named, other = _group(rng, rng.choice(things)), _group(rng, rng.choice(things))
    if empty:
        named["colour"] = rng.choice([colour for colour in COLOURS if all(t.colour != colour for t in things)])
    second = other if kind == "multihop" else None
    if second is not None and (second.items() <= named.items() or named.items() <= second.items()):
        return None  # the one would do nothing after the other
    mixed = {attribute: getattr(rng.choice(things), attribute) for attribute in other}  # may be empty
    asked = {"same": named, "all": {}, "wider": _wider(rng, named), "apart": mixed}[family.asks]
    if family.asks == "apart" and not any(named.get(a, value) != value for a, value in asked.items()):
        return None
    if family.asks == "wider" and not asked:
        return None
    members = sum(among(thing, named) for thing in things)
    most = _OOD_MOST_ADDED if split == "ood" and kind.startswith("add") else members
    number = rng.randint(1, most) if most else 0
    lexicon = {value: rng.choice(words) for value, words in SYNONYMS.items()}
    names = {"a": _say(named, lexicon), "b": _say(asked, lexicon), "c": _say(second or {}, lexicon)}
    return Question(kind, family.template.format(x=number, **names), named, asked, second, number)


def _group(rng: random.Random, thing: Thing) -> Group:
    """One to three attributes of `thing`: a group that is not empty."""
    number = rng.choices((0, 1, 2), (0.3, 0.45, 0.25))[0]
    attributes = rng.sample(_ADJECTIVES, number)
    if rng.random() < 0.75 or not attributes:
        attributes.append("subtype" if thing.subtype and rng.random() < 0.35 else "shape")
    return {attribute: getattr(thing, attribute) for attribute in (*_ADJECTIVES, *_NOUNS) if attribute in attributes}


def _wider(rng: random.Random, group: Group) -> Group:
    """The group by its noun alone, or by one of its adjectives; empty where there is nothing to leave out."""
    if len(group) < 2:
        return {}
    kept = next((noun for noun in _NOUNS if noun in group), None) or rng.choice(list(group))
    return {kept: group[kept]}


def _say(group: Group, lexicon: dict[str, str]) -> str:
    """The group in words, in the plural: "small red metal cubes", "big things"."""
    adjectives = [lexicon.get(group[a], group[a]) for a in _ADJECTIVES if a in group]
    noun = next((lexicon[group[noun]] for noun in _NOUNS if noun in group), lexicon[""])
    return " ".join([*adjectives, noun])
