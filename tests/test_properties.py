"""Arrays of any shape, type and values at every public method of every detector.

A method gives the answer that it promises, or it refuses with a TypeError or ValueError and leaves
the detector as it was.
"""

import copy
import inspect
import warnings

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from gandetect import GANomalyDetector
from gandetect.defence import GuardingDetector
from gandetect.model.statistics import WORST_SCORE
from gandetect.networks import MLP, ConvNet
from tests.helpers import assert_equal_scores, one_detector

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # Of scikit-learn's check of X, which adds up all values.
    pytest.mark.filterwarnings("ignore:(invalid|overflow).* encountered in reduce:RuntimeWarning"),
]

# Of one sample.
SHAPES = {"rows": (3,), "images": (8, 8)}


def is_finite(answer, X, detector):
    assert len(answer) == len(X)
    assert np.isfinite(answer).all()


def is_label(answer, X, detector):
    assert len(answer) == len(X)
    assert set(answer.tolist()) <= {-1, 1}


def is_p_value(answer, X, detector):
    assert answer.shape == (len(X),)
    assert ((answer > 0) & (answer <= 1)).all()


def is_flag(answer, X, detector):
    assert answer.shape == (len(X),)
    assert answer.dtype == bool


def is_dictionary(answer, X, detector):
    data = answer["data"]
    assert set(data["is_adversarial"].tolist()) <= {0, 1}
    is_finite(data["instance_score"], X, detector)
    for name in {"corrected", "no_defense", "defense"} & data.keys():
        assert len(data[name]) == len(X)
        assert np.isin(data[name], detector.classes_).all()


def is_count(answer, X, detector):
    assert isinstance(answer, int)
    assert 0 <= answer <= len(X)


def is_position(answer, X, detector):
    assert answer.shape == (1,)
    assert 0 <= answer[0] < len(X)


def is_simulation(answer, X, detector):
    x, masks = answer
    is_finite(x, X, detector)
    assert len(masks) == len(X)
    assert np.isin(masks, [0, 1]).all()


def is_the_detector(answer, X, detector):
    assert answer is detector
    assert np.isfinite(detector.threshold_)
    assert np.isfinite(getattr(detector, "normal_scores_", 0)).all()


# What each method that takes X promises.
PROMISES = {
    "anomaly_map": is_finite,
    "anomaly_score": is_finite,
    "calibrate_p_values": is_the_detector,
    "correct": is_dictionary,
    "decision_function": is_finite,
    "detect": is_dictionary,
    "discriminator_features": is_finite,
    "fit": is_the_detector,
    "fit_predict": is_label,
    "fit_transform": is_finite,
    "false_discovery_bound": is_count,
    "flag_by_fdr": is_flag,
    "infer_threshold": is_the_detector,
    "p_value": is_p_value,
    "predict": is_label,
    "query": is_position,
    "reconstruct": is_finite,
    "scaled_score": is_finite,
    "score_samples": is_finite,
    "score_std": is_finite,
    "simulate": is_simulation,
    "transform": is_finite,
}
FITTING = {"fit", "fit_predict", "fit_transform"}
# To fit takes longest: of extreme values, `fit` stands for all three.
FITS_AGAIN = FITTING - {"fit"}
# These may refuse samples that they can read: a threshold that no number holds, and pixels whose
# range is no number.
CHOOSY = {*FITTING, "calibrate_p_values", "infer_threshold", "simulate"}

SETTINGS = settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
dtypes = st.one_of(
    arrays.boolean_dtypes(),
    arrays.integer_dtypes(endianness="?"),
    arrays.unsigned_integer_dtypes(),
    arrays.floating_dtypes(endianness="?"),
    arrays.complex_number_dtypes(),
    arrays.byte_string_dtypes(max_len=2),
    arrays.unicode_string_dtypes(max_len=2),
    arrays.datetime64_dtypes(),
    arrays.timedelta64_dtypes(),
    st.just(np.dtype(object)),
)
objects = st.none() | st.integers() | st.floats() | st.text(max_size=2) | st.booleans()
any_shape = arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)
# Of samples that could be scored as far as their shape goes.
good_shapes = {
    kind: st.integers(1, 5).map(lambda n, shape=shape: (n, *shape))
    for kind, shape in SHAPES.items()
}
extremes = st.sampled_from([1e4, 1e15, -1e30, 3e38, -1e39, 1e154, -1e181, 1.79e308, 5e-324])
finite = st.floats(-10, 10) | st.floats(allow_nan=False, allow_infinity=False) | extremes


def arrays_of(shape, dtype):
    return arrays.arrays(dtype, shape, elements=objects if dtype.kind == "O" else None)


any_array = {
    kind: st.builds(lambda *of: of, any_shape | good_shapes[kind], dtypes).flatmap(
        lambda of: arrays_of(*of)
    )
    for kind in SHAPES
}
finite_batch = {
    kind: arrays.arrays(np.float64, good_shapes[kind], elements=finite) for kind in SHAPES
}


def methods_of(Detector):
    """The public methods that take X."""
    methods = inspect.getmembers(Detector, callable)
    return [
        name
        for name, method in methods
        if not name.startswith("_") and "X" in inspect.signature(method).parameters
    ]


def samples(kind):
    return np.random.default_rng(0).random((24, *SHAPES[kind]))


def kind_of(detector):
    return "rows" if len(detector.input_shape_) == 1 else "images"


def labels(X):
    """Of two classes: detectors that defend a classifier learn one from them."""
    return np.arange(len(X)) % 2 if np.ndim(X) else None


@pytest.fixture(scope="module")
def fitted(Detector, make, kind):
    architecture = {"rows": MLP(hidden_dims=(8,)), "images": ConvNet(n_filters=2)}[kind]
    detector = make(Detector, epochs=1, latent_dim=2, architecture=architecture)
    X, more = samples(kind), {}
    if issubclass(Detector, GuardingDetector):
        more = {"class_labels": labels(X)}
    return detector.fit(X, **more).calibrate_p_values(X)


@pytest.fixture(scope="module", params=SHAPES)
def kind(request):
    return request.param


def state_of(detector):
    """The attributes, and copies of what may be changed in place."""
    weights = {name: w.clone() for name, w in detector.networks_.state_dict().items()}
    return dict(vars(detector)), weights, list(detector.history_)


def assert_unchanged(detector, before):
    attributes, weights, history = before
    assert vars(detector).keys() == attributes.keys()
    assert all(vars(detector)[name] is value for name, value in attributes.items())
    assert all(torch.equal(w, weights[name]) for name, w in detector.networks_.state_dict().items())
    assert detector.history_ == history


def answered(fitted, name, X):
    """Hold a method to its promise; whether it gave an answer."""
    detector = copy.copy(fitted)
    before = state_of(detector)
    more = {
        "fit": labels,
        "query": lambda X: 1,
        "scaled_score": lambda X: samples(kind_of(fitted)),
    }
    try:
        answer = getattr(detector, name)(X, *[more[name](X)] if name in more else [])
    except (TypeError, ValueError) as error:
        assert str(error), "the refusal says nothing"
        assert_unchanged(detector, before)
        return False
    PROMISES[name](answer, X, detector)
    if name not in CHOOSY:
        assert_unchanged(detector, before)
    return True


def test_no_method_is_left_out(every_detector):
    assert {name for Detector in every_detector for name in methods_of(Detector)} == set(PROMISES)


class TestEveryMethod:
    def test_any_array(self, fitted, kind):
        @given(X=any_array[kind])
        @SETTINGS
        def check(X):
            for name in methods_of(type(fitted)):
                answered(fitted, name, X)

        check()

    def test_any_finite_batch(self, fitted, kind):
        good = samples(kind)[:2]
        in_a_sample = good.copy()
        in_a_sample.reshape(2, -1)[0, 1] = 1e39

        @given(X=finite_batch[kind])
        @example(X=in_a_sample)
        @example(X=good * 1e181)
        @example(X=(good - 0.5) * 1e308)
        @settings(SETTINGS, max_examples=2)
        def check(X):
            for name in methods_of(type(fitted)):
                has_no_answer = (
                    name == "discriminator_features" and "discriminator" not in fitted.networks_
                )
                if has_no_answer or name in FITS_AGAIN:
                    continue
                assert answered(fitted, name, X) or name in CHOOSY

        check()


class TestValuesBeyondFloat32:
    @pytest.mark.parametrize("value", [1e30, 1e39, -1e308])
    @one_detector
    def test_a_sample_that_holds_one_is_an_outlier(self, fitted, kind, value):
        X = samples(kind)[:2]
        X.reshape(2, -1)[0, 1] = value
        assert fitted.anomaly_score(X)[0] <= WORST_SCORE
        assert fitted.predict(X)[0] == -1

    @one_detector
    def test_others_score_what_they_score_alone(self, fitted, kind):
        X = samples(kind)[:2]
        alone = fitted.anomaly_score(X[1:])
        X[0] = 1e39
        assert_equal_scores(fitted.anomaly_score(X)[1:], alone)

    @pytest.mark.parametrize("size", [1e181, 1e308])
    @one_detector
    def test_they_are_not_learned(self, fitted, kind, size):
        detector = clone(fitted)
        with pytest.raises(ValueError, match=r"(pixels|Column 0 of X).*power of ten"):
            detector.fit((samples(kind) - 0.5) * size)
        assert not hasattr(detector, "model_")


@one_detector
def test_a_score_that_overflows_is_the_worst(Detector, fitted, kind, monkeypatch):
    detector, model_class = copy.copy(fitted), Detector.model_class
    scores = model_class.member_scores
    monkeypatch.setattr(
        model_class, "member_scores", lambda self, parts: scores(self, parts) * torch.nan
    )
    X = samples(kind)
    assert (detector.anomaly_score(X) == WORST_SCORE).all()
    assert (detector.score_std(X) == WORST_SCORE).all()
    assert (detector.predict(X) == -1).all()
    assert (detector.p_value(X) == 1 / 25).all()
    for method in (detector.infer_threshold, detector.calibrate_p_values):
        before = state_of(detector)
        with pytest.raises(ValueError, match="not finite"):
            method(X)
        assert_unchanged(detector, before)
    with pytest.raises(ValueError, match="not finite"):
        clone(detector).fit(X)


@one_detector
def test_before_fit_there_is_no_answer(Detector, make, kind):
    for name in set(methods_of(Detector)) - FITTING - {"simulate"}:
        more = [samples(kind)] if name == "scaled_score" else []
        with pytest.raises(NotFittedError, match="not fitted yet"):
            getattr(make(Detector), name)(samples(kind), *more)


@pytest.fixture(scope="module")
def fitted_to_few_rows():
    return GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(samples("rows"))


@given(X=any_array["rows"], outlier_perc=st.floats() | st.integers())
@settings(SETTINGS, max_examples=30)
def test_any_percentage(fitted_to_few_rows, X, outlier_perc):
    detector = fitted_to_few_rows
    before = detector.threshold_
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of ties, and of fractions
            detector.infer_threshold(X, outlier_perc)
    except (TypeError, ValueError) as error:
        assert str(error), "the refusal says nothing"
        assert detector.threshold_ == before
    assert np.isfinite(detector.threshold_)
