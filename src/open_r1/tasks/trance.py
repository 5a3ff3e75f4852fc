"""Spatial transformation: TRANCE from the centre camera, its left and right cameras out of domain."""

from open_r1.rewards.spatial_answer import SPATIAL_SETTINGS, grade_spatial, spatial_fault
from open_r1.tasks.task import Task

TRANCE = Task(
    name="trance",
    title="Spatial transformation",
    instruction=(
        " The first image is the initial state, the second the final state. Which changes turn the one into the other?"
        " Use these functions, separated by commas: change_size(id, small|medium|large), change_color(id,"
        " gray|red|blue|green|brown|purple|cyan|yellow), change_material(id, rubber|metal|glass), change_shape(id,"
        " cube|sphere|cylinder), change_position(id, front|behind|left|right|front_left|front_right|behind_left|"
        "behind_right). Think first: write your reasoning between <think> and </think>, then only the list of functions"
        " between <answer> and </answer>."
    ),
    direct_instruction=(
        " The first image is the initial state, the second the final state. Answer only with the changes that turn the"
        " one into the other, as functions separated by commas: change_size(id, small|medium|large), change_color(id,"
        " gray|red|blue|green|brown|purple|cyan|yellow), change_material(id, rubber|metal|glass), change_shape(id,"
        " cube|sphere|cylinder), change_position(id, front|behind|left|right|front_left|front_right|behind_left|"
        "behind_right)."
    ),
    images_per_row=2,
    train_files="train_jsons/*Spatial-Transformation-train*.json",
    test_files={
        "id": "test_jsons/*Spatial-Transformation-id-test*.json",
        "ood_left": "test_jsons/*Spatial-Transformation-ood-left-test*.json",
        "ood_right": "test_jsons/*Spatial-Transformation-ood-right-test*.json",
    },
    settings=SPATIAL_SETTINGS,
    grade=grade_spatial,
    fault=spatial_fault,
)
