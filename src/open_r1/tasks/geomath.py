"""Structure perception: GeoMath in domain, Geometry3K's lettered figures out of domain."""

from open_r1.rewards.math_answer import MATH_SETTINGS, grade_math, math_fault
from open_r1.tasks.task import Task

GEOMATH = Task(
    name="geomath",
    title="Structure perception",
    instruction=(
        " Think first: write your reasoning between <think> and </think>, then only the final answer between <answer>"
        " and </answer>: the letter where choices are given, otherwise the value."
    ),
    direct_instruction=" Answer with the letter of the right choice, or with the value alone, and nothing else.",
    images_per_row=1,
    train_files="train_jsons/*Structure-Perception-train*.json",
    test_files={
        "id": "test_jsons/*Structure-Perception-id-test*.json",
        "ood": "test_jsons/*Structure-Perception-ood-test*.json",
    },
    settings=MATH_SETTINGS,
    grade=grade_math,
    fault=math_fault,
)
