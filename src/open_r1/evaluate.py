"""Ask a model and grade its replies (`make eval`), or grade replies that exist already, as training grades.

`python -m open_r1.evaluate --task trance --model 2b [--model_path P] [--split id|ood|all] [--k 64] ...` asks a model.
`python -m open_r1.evaluate --task trance --replies replies.jsonl --output scores.jsonl [--setting partial]`
reads one JSON object per line with "reply" (text, or null for a request that failed) and "answer" (text), and writes
the same objects with their scores added ("accuracy", "format", for trance also "full" and "partial"; "failed").
"""

from collections.abc import Sequence
from pathlib import Path

from open_r1.evaluation.grade_file import grade_replies
from open_r1.utils.entry import command_parser, run_entry


def main(argv: Sequence[str]) -> None:
    """Grade a file of replies where one is named, else ask a model."""
    if not any(word.split("=")[0] == "--replies" for word in argv):
        from open_r1.evaluation.model import main as ask_a_model  # it takes longer to import than grading takes

        return ask_a_model(argv)
    parser = command_parser("Grade replies with a task's grader.", task=None, output="JSON lines to write, with scores")
    parser.add_argument("--setting", help="the grader's variant (default: the task's first: exact; full)")
    parser.add_argument("--replies", required=True, type=Path, help='JSON lines with "reply" and "answer"')
    options = parser.parse_args(argv)
    if options.output is None:
        parser.error("--output is needed: the JSON lines to write")
    print(grade_replies(options.task, options.replies, options.output, options.setting))
    return None


if __name__ == "__main__":
    run_entry(main)
