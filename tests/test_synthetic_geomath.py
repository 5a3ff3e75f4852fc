"""Synthetic structure perception: answers checked from the figures by other means than the generator's."""

import random
import re
from collections import Counter

import pytest

from open_r1.schema import UserError
from open_r1.synthetic.geomath import IN_DOMAIN, KINDS, LETTERED, RIGHT_SHARE, Question, ask, sample
from open_r1.synthetic.geomath_reasoning import NAMES, Numbers, Tally
from open_r1.synthetic.sample import RIGHT, SIZES

SEEDS = range(300)
CASES = [(size, split) for size in SIZES for split in ("train", "ood")]


def questions(size: str, split: str) -> list[Question]:
    return [ask(random.Random(f"test/{seed}"), size, split) for seed in SEEDS]


def truth(question: Question) -> str:
    """The answer's value, from the figure's data and the words of the question."""
    kind, figure, text = question.kind, question.figure, question.problem.split("\n")[0]
    values = figure.values
    named = sorted((name for name in figure.letters if re.search(rf"\b{name}\b", text)), key=text.index)
    if "perimeter" in kind:
        return str(2 * values[0] + 2 * values[1])
    if "area" in kind:
        return f"{values[0] ** 2}π" if figure.shape == "circle" else str(values[0] * values[1])
    if kind == "circle_circumference":
        return f"{2 * values[0]}π"
    if figure.shape in ("line", "triangle"):
        return str(180 - sum(value for index, value in enumerate(values) if index != figure.hidden))
    if figure.shape == "parallel":
        return str(values[0] if figure.hidden in (0, 2) else 180 - values[0])
    if figure.shape == "segment":
        return str(sum(values) if f"{figure.letters[0]}{figure.letters[2]}" in text else values[1])
    if figure.shape == "shapes":
        return str(sum(f"{shape}s" in text for shape in values))
    if figure.shape == "table":
        cells = [values[3 * figure.letters[3:].index(row) : 3 * figure.letters[3:].index(row) + 3] for row in named[:1]]
        return str(sum(cells[0]) if kind == "table_sum" else cells[0][figure.letters[:3].index(named[1])])
    bars = [values[figure.letters.index(name)] for name in named]
    return {
        "bar_value": lambda: str(bars[0]),
        "bar_difference": lambda: str(bars[0] - bars[1]),
        "bar_sum": lambda: str(bars[0] + bars[1]),
        "bar_largest": lambda: str(max(values)),
    }[kind]()


def choices(question: Question) -> dict[str, str]:
    """The values by letter, without units; empty where there are no choices."""
    found = re.findall(r"^([A-D])\. (\d+π?)(?:°| cm| cm²)?$", question.problem, re.MULTILINE)
    assert len(found) in (0, 4)
    return dict(found)


@pytest.mark.parametrize(("size", "split"), CASES)
def test_the_right_procedure_gives_what_the_figure_says(size, split):
    for question in questions(size, split):
        answer = question.procedures[RIGHT].answer
        assert choices(question).get(answer, answer) == truth(question), question


@pytest.mark.parametrize(("size", "split"), CASES)
def test_exactly_one_choice_is_right_and_every_mistake_is_among_the_choices(size, split):
    with_choices = 0
    for question in questions(size, split):
        answers = [procedure.answer for procedure in question.procedures.values()]
        assert len(set(answers)) == 4, question
        if letters := choices(question):
            with_choices += 1
            assert sorted(answers) == ["A", "B", "C", "D"]
            assert list(letters.values()).count(truth(question)) == 1
    assert 0.4 < with_choices / len(SEEDS) < 0.6


@pytest.mark.parametrize(("size", "split"), CASES)
def test_the_first_word_is_the_procedure_and_the_last_the_answer(size, split):
    for question in questions(size, split):
        firsts = {procedure.cot.split(";")[0] for procedure in question.procedures.values()}
        assert len(firsts) == 4
        assert firsts <= set(NAMES)
        for name, procedure in question.procedures.items():
            assert name == RIGHT or procedure.cot.startswith(f"{name}; ")
            assert re.search(rf"(; |= ){procedure.answer}$", procedure.cot), procedure
            if size == "tiny":
                assert len(procedure.cot.split()) <= 30


def test_all_procedures_of_a_question_read_the_same():
    for question in questions("tiny", "train"):
        if question.figure.shape != "shapes":  # there the running count is part of what is read
            assert len({procedure.cot.split("; ")[1] for procedure in question.procedures.values()}) == 1


def test_arithmetic_in_the_reasoning_is_true():
    signs = {"+": int.__add__, "-": int.__sub__, "x": int.__mul__}
    steps = 0
    for size, split in CASES:
        for question in questions(size, split):
            for procedure in question.procedures.values():
                for a, sign, b, c in re.findall(r"(\d+) ([-+x]) (\d+) = (\d+)", procedure.cot):
                    assert signs[sign](int(a), int(b)) == int(c)
                    steps += 1
    assert steps > 1000


def test_reasoning_examples():
    angles = Numbers("angles 40, 60", seen=(40, 60), asked=(40, 60))
    assert angles.reason("straight") == ("angles 40, 60; 40 + 60 = 100; 180 - 100 = 80", 80)
    assert angles.reason("corner") == ("angles 40, 60; 40 + 60 = 100; 100 - 90 = 10", 10)
    sides = Numbers("sides 4, 3", seen=(4, 3), asked=(4, 3))
    assert sides.reason("around") == ("sides 4, 3; 4 + 3 = 7; 7 + 7 = 14", 14)
    bars = Numbers("bars A 4, B 7, C 2", seen=(4, 7, 2), asked=(7, 2))
    assert bars.reason("gap") == ("bars A 4, B 7, C 2; 7 - 2 = 5", 5)
    assert bars.reason("least") == ("bars A 4, B 7, C 2; 2", 2)
    shapes = Tally(("square", "circle", "square"), asked="square", another="triangle")
    assert shapes.reason("pick") == ("square 1, circle 1, square 2; 2", 2)
    assert shapes.reason("rest") == ("square 0, circle 1, square 1; 1", 1)


def test_choice_letters_are_balanced():
    letters = Counter()
    for seed in range(3000):
        question = ask(random.Random(seed), "tiny", "train")
        letters.update([question.procedures[RIGHT].answer] if choices(question) else [])
    assert all(0.22 < letters[letter] / letters.total() < 0.28 for letter in "ABCD"), letters


@pytest.mark.parametrize("size", SIZES)
def test_the_base_policy_is_right_about_one_time_in_four_and_hard_families_are_not_rare(size):
    weights = {name: family.weight(size) for name, family in IN_DOMAIN.items()}
    assert sum(weights.values()) == 100
    assert sum(family.weight(size) for family in LETTERED.values()) == 100
    assert 0.23 < sum(weights[name] * RIGHT_SHARE[name] for name in weights) / 100 < 0.27
    assert sum(weights[name] for name in weights if RIGHT_SHARE[name] < 0.1) >= 35
    assert set(RIGHT_SHARE) == set(KINDS)
    drawn = Counter(ask(random.Random(seed), size, "id").kind for seed in range(2000))
    assert all(abs(drawn[name] - 20 * weight) <= 90 for name, weight in weights.items()), drawn


@pytest.mark.parametrize(("size", "split", "pixels"), [("tiny", "id", (84, 84)), ("full", "ood", (320, 240))])
def test_a_sample_is_one_picture_and_the_same_seed_gives_the_same(size, split, pixels):
    one, same, other = (sample(random.Random(seed), size, split) for seed in (3, 3, 4))
    assert [image.size for image in one.images] == [pixels]
    assert one.images[0].tobytes() == same.images[0].tobytes() != other.images[0].tobytes()
    assert (one.problem, one.procedures) == (same.problem, same.procedures)


@pytest.mark.parametrize(("size", "split"), CASES)
def test_nothing_is_cut_off_at_the_edge_of_the_picture(size, split):
    for seed in range(60):
        row = sample(random.Random(seed), size, split)
        picture = row.images[0]
        wide, high = picture.size
        edges = [(0, 0, wide, 1), (0, high - 1, wide, high), (0, 0, 1, high), (wide - 1, 0, wide, high)]
        for edge in edges:
            assert picture.crop(edge).getcolors() == [(max(edge[2] - edge[0], edge[3] - edge[1]), (255, 255, 255))], (
                row.kind,
                seed,
            )


def test_an_unknown_split_is_named():
    with pytest.raises(UserError, match="unknown split of geomath 'test'; valid: id, ood, train"):
        sample(random.Random(0), "tiny", "test")
