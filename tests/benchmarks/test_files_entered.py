"""How many files a call goes through: that the counter counts what runs, and says the targets."""

import files_entered

from gandetect import GANomalyDetector
from tests.helpers import needs_callbacks


def test_a_file_counts_if_a_function_in_it_runs():
    entered = files_entered.files_entered(GANomalyDetector().check_parameters)
    assert {"base.py", "detectors/ganomaly.py"} <= set(entered)
    assert "training/loop.py" not in entered


@needs_callbacks  # what takes their place is one file more
def test_a_line_a_call_and_no_more_files_than_the_target(capsys):
    files_entered.main(["--names"])
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    calls = {line.partition(":")[0]: line for line in lines}
    assert list(calls) == list(files_entered.TARGETS)
    for call, target in files_entered.TARGETS.items():
        n_files = int(calls[call].removeprefix(f"{call}: ").removesuffix(f" of at most {target}"))
        assert n_files <= target
