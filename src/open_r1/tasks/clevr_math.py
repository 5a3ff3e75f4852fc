"""Visual counting: CLEVR-Math in domain, Super-CLEVR's vehicles out of domain."""

from open_r1.rewards.math_answer import MATH_SETTINGS, grade_math, math_fault
from open_r1.tasks.task import Task

CLEVR_MATH = Task(
    name="clevr_math",
    title="Visual counting",
    instruction=(
        " Think first: write your reasoning between <think> and </think>, then only the number that answers the"
        " question between <answer> and </answer>."
    ),
    direct_instruction=" Answer with a single number and nothing else.",
    images_per_row=1,
    train_files="train_jsons/*Visual-Counting-train*.json",
    test_files={"id": "test_jsons/*Visual-Counting-id-test*.json", "ood": "test_jsons/*Visual-Counting-ood-test*.json"},
    settings=MATH_SETTINGS,
    grade=grade_math,
    fault=math_fault,
)
