import numpy as np
import pytest
from matplotlib import image as mpimg

from gandetect import GANomalyDetector
from gandetect.demo.evaluation import fit_and_judge
from gandetect.demo.methods import make_methods
from gandetect.demo.pictures import save_pictures
from gandetect.demo.tasks import Task
from gandetect.networks import ConvNet


class TinyGANomaly(GANomalyDetector):
    """Fits in a moment."""

    def __init__(self, **parameters):
        parameters |= {"n_estimators": 1, "architecture": ConvNet(n_filters=4), "latent_dim": 4}
        super().__init__(**parameters)


@pytest.mark.parametrize(("shape", "classes"), [((4,), {}), ((8, 8), {"Tiny": TinyGANomaly})])
def test_pictures_are_written_and_hold_something(tmp_path, shape, classes):
    rng = np.random.default_rng(0)
    X, anomalies = rng.random((40, *shape)), 2 + rng.random((10, *shape))
    task = Task(
        name="noise, plain",
        what_is_normal="noise",
        X_train=X,
        X_mixed=X,
        outlier_perc=10.0,
        X_test=np.concatenate([X, anomalies]),
        y_test=np.repeat([0, 1], [40, 10]),
        epochs=1,
    )
    methods = make_methods(task, classes, 0)
    outcomes = {name: fit_and_judge(task, name, method) for name, method in methods.items()}
    paths = save_pictures(task, outcomes, tmp_path)
    reconstructions = [f"noise-plain-{name}-reconstructions.png" for name in classes]
    reports = [f"noise-plain-{name}-report.html" for name in classes]
    assert [path.name for path in paths] == ["noise-plain-scores.png", *reconstructions, *reports]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    for path in paths[: 1 + len(reconstructions)]:
        picture = mpimg.imread(path)
        assert min(picture.shape[:2]) > 300
        assert picture[..., :3].min() == 0
        assert len(np.unique(picture.reshape(-1, 4), axis=0)) > 20
