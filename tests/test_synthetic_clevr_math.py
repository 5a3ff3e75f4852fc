"""Visual counting: answers against an evaluator that reads the question's text, procedures, balance and pictures."""

import json
import random
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from open_r1.synthetic.clevr_math import FAMILIES, KINDS, RIGHT_SHARE, WAYS, Question, compose, reason, sample
from open_r1.synthetic.clevr_scene import PICTURE, Thing, arrange, draw_things
from open_r1.synthetic.sample import RIGHT, Size
from open_r1.synthetic.vehicles import VEHICLES

REAL = Path(__file__).resolve().parents[1].parent / "shared/data/real_samples"

# The test's own dictionary: word -> (attribute, value); any other adjective is a colour.
WORDS = {"large": "size", "big": "size", "small": "size", "tiny": "size"}
WORDS |= {"metal": "material", "shiny": "material", "metallic": "material", "rubber": "material", "matte": "material"}
MEANS = {"big": "large", "tiny": "small", "shiny": "metal", "metallic": "metal", "matte": "rubber"}
NOUNS = {"cubes": "cube", "blocks": "cube", "spheres": "sphere", "balls": "sphere", "buses": "bus"}
SUBTYPES = {"regular buses", "double buses", "articulated buses", "road bikes", "tandem bikes"}
SUBTYPES |= {"sedans", "minivans", "choppers", "scooters", "jets", "biplanes"}


def _is(thing: Thing, phrase: str) -> bool:
    """Whether a thing is one of the "small red metal cubes"."""
    for subtype in SUBTYPES:
        if phrase.endswith(subtype):
            phrase = phrase.removesuffix(subtype) + "things"
            if thing.subtype != subtype.split()[0].removesuffix("s"):
                return False
    *adjectives, noun = phrase.split()
    if noun not in ("things", "objects") and thing.shape != NOUNS.get(noun, noun.removesuffix("s")):
        return False
    return all(getattr(thing, WORDS.get(word, "colour")) == MEANS.get(word, word) for word in adjectives)


def _solve(text: str, things: tuple[Thing, ...]) -> int:
    """Answer a question by carrying out what it says on the list of things."""
    if match := re.fullmatch(r"How many (.+) must be subtracted to get (\d+) \1\?", text):
        return sum(_is(thing, match[1]) for thing in things) - int(match[2])
    if match := re.fullmatch(r"Subtract all (.+)\. How many were subtracted if there are (\d+) \1 left\?", text):
        return sum(_is(thing, match[1]) for thing in things) - int(match[2])
    *orders, query = re.split(r"\. ", text)
    left, extra = list(things), 0
    asked = re.fullmatch(r"How many (.+) (?:are left|exist)\?", query)
    assert asked, text
    for order in orders:
        verb, amount, phrase = order.split(" ", 2)
        if verb == "Add":
            extra += int(amount)
        else:
            gone = [thing for thing in left if _is(thing, phrase)]
            gone = gone if amount == "all" else gone[: int(amount)]
            assert amount == "all" or len(gone) == int(amount), "more is subtracted than there is"
            left = [thing for thing in left if not any(thing is other for other in gone)]
    return sum(_is(thing, asked[1]) for thing in left) + extra


@pytest.mark.parametrize(("size", "split"), [("tiny", "train"), ("tiny", "ood"), ("full", "id"), ("full", "ood")])
def test_the_answer_is_what_the_words_of_the_question_give(size, split):
    for seed in range(300 if size == "tiny" else 25):
        question, scene = compose(random.Random(seed), size, split)
        procedures = reason(question, scene.things)
        assert procedures[RIGHT].answer == str(_solve(question.text, scene.things)), (seed, question.text)
        assert 0 <= int(procedures[RIGHT].answer) <= 10


@pytest.mark.parametrize("file", ["visual_counting.json", "visual_counting_multihop.json"])
def test_real_questions_fit_our_sentences(file):
    if not REAL.exists():
        pytest.skip(f"no real samples in {REAL}")
    for row in json.loads((REAL / file).read_text()):
        text = re.sub(r"there are(\d+)", r"there are \1 ", row["problem"])
        text = text.replace("  ", " ")
        _solve(re.sub(r"Subtract \d+", "Subtract 0", text), ())  # raises where no sentence of ours fits


SCENE = (
    Thing("large", "red", "metal", "cube"),
    Thing("small", "red", "rubber", "cube"),
    Thing("small", "blue", "rubber", "sphere"),
    Thing("large", "red", "rubber", "cylinder"),
)
CUBES = {"shape": "cube"}
BY_HAND = {  # the question's groups and number, and what each procedure of its family must end in
    "add": (CUBES, CUBES, None, 1, {RIGHT: 3, "named": 2, "total": 5, "every": 4, "minus": 1}),
    "add_all": (CUBES, {}, None, 2, {RIGHT: 6, "every": 4, "plus": 4, "named": 2, "others": 2}),
    "subtract_all": (CUBES, {}, None, 0, {RIGHT: 2, "every": 4, "named": 2, "again": 6}),
    "subtract_part": (CUBES, {"colour": "red"}, None, 0, {RIGHT: 1, "asked": 3, "named": 2, "others": 2, "every": 4}),
    "subtract_some": (CUBES, CUBES, None, 1, {RIGHT: 1, "named": 2, "others": 2, "plus": 3, "fewer": 3}),
    "subtract_from_all": (CUBES, {}, None, 2, {RIGHT: 2, "minus": 0, "others": 2, "named": 2}),
    "must_subtract": (CUBES, CUBES, None, 2, {RIGHT: 0, "named": 2, "plus": 4, "every": 4, "fewer": 2}),
    "were_subtracted": (CUBES, CUBES, None, 1, {RIGHT: 1, "named": 2, "others": 2, "plus": 3, "fewer": 3}),
    "adversarial": (CUBES, {"shape": "sphere"}, None, 0, {RIGHT: 1, "others": 2, "named": 2, "every": 4}),
    "multihop": (
        CUBES,
        {},
        {"material": "rubber"},
        0,
        {RIGHT: 0, "others": 2, "last": 1, "named": 4, "every": 4},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_procedure_counts_what_its_name_says(kind):
    named, asked, second, number, expected = BY_HAND[kind]
    procedures = reason(Question(kind, "", named, asked, second, number), SCENE)
    assert {name: int(procedure.answer) for name, procedure in procedures.items()} == expected


def test_the_reasoning_names_its_procedure_counts_in_steps_and_ends_in_the_sum():
    question = Question("add", "Add 2 cubes. How many cubes exist?", CUBES, CUBES, None, 2)
    assert reason(question, SCENE)[RIGHT].cot == (
        "plus; large red metal cube 1; small red rubber cube 2; small blue rubber sphere 2;"
        " large red rubber cylinder 2; 2 + 2 = 4"
    )


def test_subtracting_more_than_there_is_stops_at_zero():
    procedures = reason(Question("add", "", CUBES, CUBES, None, 3), SCENE)
    assert procedures["minus"].cot.endswith("2 - 3 = 0") and procedures["minus"].answer == "0"


def test_a_tiny_reasoning_has_at_most_45_words_and_its_last_number_is_the_answer():
    for seed in range(100):
        question, scene = compose(random.Random(seed), "tiny", "ood")
        for procedure in reason(question, scene.things).values():
            assert len(procedure.cot.split()) <= 45
            assert procedure.cot.split()[-1] == procedure.answer
            assert procedure.cot.split(";")[0] in WAYS


def test_every_family_has_three_wrong_procedures_and_shares_add_up():
    assert all(len(set(family.wrong) - {family.right}) >= 3 for family in FAMILIES.values())
    assert sum(family.share for family in FAMILIES.values()) == pytest.approx(1)
    hard = sum(family.share for kind, family in FAMILIES.items() if RIGHT_SHARE[kind] < 0.1)
    assert hard == pytest.approx(0.45)
    # easy 0.35 x 0.6 + medium 0.20 x 0.2 + hard 0.45 x 0.03 = 0.2635
    assert sum(FAMILIES[kind].share * RIGHT_SHARE[kind] for kind in KINDS) == pytest.approx(0.2635)


def test_no_constant_answer_and_no_wrong_procedure_scores_well_in_a_family():
    rng = random.Random(0)
    answers, lucky = defaultdict(Counter), defaultdict(Counter)
    for _ in range(1000):
        question, scene = compose(rng, "tiny", "train")
        procedures = reason(question, scene.things)
        answers[question.kind][procedures[RIGHT].answer] += 1
        lucky[question.kind].update(n for n, p in procedures.items() if p.answer == procedures[RIGHT].answer)
    for kind, counted in answers.items():
        margin = 2.5 * (0.25 * 0.75 / counted.total()) ** 0.5  # answers are drawn with a chance of at most 1 in 4
        assert max(counted.values()) / counted.total() <= 0.25 + margin, (kind, counted)
        wrong = [lucky[kind][name] for name in FAMILIES[kind].wrong]
        assert max(wrong) / counted.total() < 0.45 and sum(wrong) / counted.total() < 0.75, (kind, lucky[kind])


def test_the_same_seed_gives_the_same_row_and_pictures_have_their_size():
    rows: tuple[tuple[Size, str], ...] = (("tiny", "train"), ("full", "ood"))
    for size, split in rows:
        one, other = (sample(random.Random(5), size, split) for _ in range(2))
        assert one.problem == other.problem and one.procedures == other.procedures
        assert one.images[0].tobytes() == other.images[0].tobytes()
        assert one.images[0].size == PICTURE[size]


def test_only_out_of_domain_scenes_hold_vehicles_and_may_add_more_than_there_is():
    more = 0
    for seed in range(100):
        shapes = {thing.shape for thing in compose(random.Random(seed), "tiny", "id")[1].things}
        assert shapes <= {"cube", "sphere", "cylinder"}
        question, scene = compose(random.Random(seed), "tiny", "ood")
        assert {thing.shape for thing in scene.things} <= set(VEHICLES)
        more += question.number > len(scene.things)
    assert more > 0


@pytest.mark.parametrize("vehicles", [False, True])
def test_a_tiny_thing_is_seen_in_its_own_block_of_28_pixels_and_nowhere_else(vehicles):
    rng = random.Random(1)
    for _ in range(6):
        scene = arrange(rng, draw_things(rng, "tiny", vehicles), "tiny")
        boxes = scene.boxes()
        blocks = [tuple(((box[:2] + box[2:]) / 2 // 28).astype(int)) for box in boxes]
        assert len(set(blocks)) == len(blocks)
        assert blocks == sorted(blocks, key=lambda block: (block[1], block[0])), "not in reading order"
        empty = np.asarray(type(scene)((), (), scene.camera, "tiny").draw(), int)
        for index, (col, row) in enumerate(blocks):
            alone = type(scene)(scene.things[index : index + 1], scene.bodies[index : index + 1], scene.camera, "tiny")
            changed = np.abs(np.asarray(alone.draw(), int) - empty)
            seen = (changed.max(-1) > 70) | (np.ptp(changed, -1) > 25)  # more than its shadow does
            inside = seen[28 * row : 28 * row + 28, 28 * col : 28 * col + 28].sum()
            assert inside >= 35 and inside / seen.sum() > 0.97, (scene.things[index], inside, seen.sum())


@pytest.mark.parametrize("vehicles", [False, True])
def test_a_full_thing_lies_inside_the_picture_and_at_most_a_fifth_behind_another(vehicles):
    rng = random.Random(2)
    for _ in range(8):
        boxes = arrange(rng, draw_things(rng, "full", vehicles), "full").boxes()
        assert boxes.min() >= 0 and boxes[:, 2].max() <= 320 and boxes[:, 3].max() <= 240
        area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        for i in range(len(boxes)):
            for j in range(i):
                sides = np.minimum(boxes[i, 2:], boxes[j, 2:]) - np.maximum(boxes[i, :2], boxes[j, :2])
                assert sides.clip(0).prod() <= 0.2 * min(area[i], area[j]) + 1e-6
