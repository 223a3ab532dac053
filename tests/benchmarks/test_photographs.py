"""The benchmark of the cost of larger photographs: what it counts, and its table."""

from dataclasses import asdict

import photographs
from results_file import Results
from torch import nn
from torch.nn import functional as F


class Averages(nn.Module):
    def forward(self, x):
        return [F.avg_pool2d(x, 4), F.avg_pool2d(x, 8)]


def test_photographs_are_cuttings_of_different_places():
    found = photographs.photographs_of(3, (24, 40), seed=0)
    assert found.shape == (3, 24, 40, 3) and found.dtype == "uint8"
    assert len({image.tobytes() for image in found}) == 3
    assert (found == photographs.photographs_of(3, (24, 40), seed=0)).all()


def test_what_is_fitted_to_is_timed_and_larger_ones_are_scored_alone(monkeypatch):
    monkeypatch.setattr(photographs, "MOST_FITTED", 32)
    monkeypatch.setattr(photographs, "SMALLER", ((32, 40), (40, 32)))
    of_fit, of_score = (photographs.cost(Averages(), side, seed=0) for side in (32, 64))
    assert of_fit["fit_seconds"] > 0 and of_fit["score_seconds"] > 0
    assert of_score["fit_seconds"] is None and of_score["score_seconds"] > 0
    assert of_score["peak_mb"] >= of_fit["peak_mb"] > 100


def test_the_table_compares_with_256_pixels(tmp_path):
    results = Results(
        tmp_path / "out.csv", photographs.PhotographRun.columns(), photographs.PhotographRun.KEY
    )
    for side, fit, score, peak in [(512, 8.0, 0.6, 900), (256, 2.0, 0.1, 700), (4096, None, 40, 1)]:
        run = photographs.PhotographRun(
            name="b", detector="RDNA", side=side, seed=0, fit_seconds=fit, score_seconds=score
        )
        run.peak_mb = peak
        results.add(asdict(run))
    lines = photographs.report(tmp_path / "out.csv").splitlines()
    assert lines[2] == "| 256 | 2.0 | 1.0 | 0.1 | 1.0 | 700 |"
    assert lines[3] == "| 512 | 8.0 | 4.0 | 0.6 | 6.0 | 900 |"
    assert lines[4] == "| 4096 |  |  | 40.0 | 400.0 | 1 |"
