"""Download the real data set, unpack its pictures and count what is there; run again, it continues where it stopped.

python -m open_r1.cli.download [--repo tanhuajie2001/Reason-RFT-CoT-Dataset] [--output data/Reason-RFT-CoT-Dataset]
Exit status: 0 all rows are good, 1 there are bad rows, 2 nothing could be downloaded or unpacked.
"""

from collections.abc import Sequence
from pathlib import Path

from open_r1.data.check import check, describe
from open_r1.schema import UserError
from open_r1.utils.entry import command_parser, run_entry
from open_r1.utils.hub import DATASET, default_folder, fetch, unpack_images


def download(repo: str, output: Path, unpack_only: bool = False) -> Path:
    """Bring `repo` to `output`, ready for `DATA_PATH`; with `unpack_only` from the files that are there already.

    Raises:
        UserError: no network, offline mode, a broken archive (see `utils.hub.fetch`), or no folder to unpack in.
    """
    if not unpack_only:
        return fetch(repo, output)
    if not output.is_dir():
        raise UserError(
            f"{output} does not exist; --unpack_only works on a folder with train_images.zip; correct --output"
        )
    unpack_images(output)
    return output


def main(argv: Sequence[str]) -> int:
    """Download, unpack, count; returns the exit status."""
    parser = command_parser(__doc__, output="folder to put it in (default: data/<name>)")
    parser.add_argument("--repo", default=DATASET, help="data set on the Hugging Face hub")
    parser.add_argument("--unpack_only", action="store_true", help="download nothing; unpack the archives in --output")
    args = parser.parse_args(argv)
    folder = download(args.repo, args.output or default_folder(args.repo), args.unpack_only)
    reports = check(str(folder), verify_images="exists")
    print(describe(reports))
    print(f"\nready: DATA_PATH={folder}  (make check-data DATA_PATH={folder} decodes every picture)")
    return 1 if any(report.bad for report in reports) else 0


if __name__ == "__main__":
    run_entry(main)
