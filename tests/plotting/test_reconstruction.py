import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from gandetect import GANomalyDetector, RDNADetector
from gandetect.networks import ConvNet
from gandetect.plotting import ReconstructionDisplay
from gandetect.plotting.reconstruction import outline_level
from gandetect.plotting.style import BLUE, ORANGE

ROWS = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
ROWS_HAT = np.array([[1.0, 2.5, 3.0], [4.0, 5.0, 4.0]])  # off by 0.5 in x1 and by 2 in x2


def detector_of(X, **parameters):
    detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0, **parameters)
    if len(np.shape(X)) > 2 or "image_shape" in parameters:
        detector.set_params(architecture=ConvNet(n_filters=4), latent_dim=4)
    return detector.fit(X)


def bars(ax):
    """The lengths of the bars by kind."""
    return {
        container.get_label(): [bar.get_width() for bar in container] for container in ax.containers
    }


def images_of(axes):
    return [ax.images[0].get_array() for ax in axes]


def test_rows_are_bars_of_input_beside_reconstruction():
    display = ReconstructionDisplay.from_predictions(ROWS, ROWS_HAT, feature_names=["a", "b", "c"])
    assert display.axes_.shape == (1, 2)
    first, second = display.axes_[0]
    assert [label.get_text() for label in first.get_yticklabels()] == ["c", "b", "a"]
    assert bars(first) == {"input": [3, 2, 1], "reconstruction": [3, 2.5, 1]}
    assert bars(second) == {"input": [6, 5, 4], "reconstruction": [4, 5, 4]}
    assert same_color(first.containers[0][0].get_facecolor(), BLUE)
    assert same_color(first.containers[1][0].get_facecolor(), ORANGE)
    assert [container[0].get_hatch() for container in first.containers] == [None, "////"]
    assert first.get_title() == "sample 0"
    assert first.get_xlabel() == "Value"
    assert first.get_ylabel() == ""
    assert first.yaxis.get_inverted()


def test_rows_show_the_most_anomalous_features():
    display = ReconstructionDisplay.from_predictions(ROWS, ROWS_HAT, n_features=2)
    first = display.axes_[0, 0]
    assert [label.get_text() for label in first.get_yticklabels()] == ["x2", "x1"]
    assert first.get_ylabel() == "2 of 3 features, most anomalous first"
    by_map = ReconstructionDisplay.from_predictions(
        ROWS, ROWS_HAT, anomaly_map=[[9, 0, 0], [0, 0, 0]], n_features=1
    )
    assert [label.get_text() for label in by_map.axes_[0, 0].get_yticklabels()] == ["x0"]


def test_the_legend_of_rows_covers_no_bars_and_no_titles():
    display = ReconstructionDisplay.from_predictions(ROWS, ROWS_HAT, titles=["a\nb", "c\nd"])
    display.figure_.canvas.draw()
    (legend,) = [ax.get_legend() for ax in display.figure_.axes if ax.get_legend()]
    assert [text.get_text() for text in legend.get_texts()] == ["input", "reconstruction"]
    titles = [ax.title.get_window_extent().ymax for ax in display.axes_[0]]
    assert legend.get_window_extent().ymin >= max(titles)


def test_images_stand_above_reconstructions_and_maps():
    X = np.array([[[0.0, 1.0], [2.0, 4.0]], [[4.0, 4.0], [0.0, 0.0]]])
    X_hat = np.array([[[0.0, 1.0], [2.0, 0.0]], [[9.0, 4.0], [0.0, 0.0]]])
    display = ReconstructionDisplay.from_predictions(X, X_hat)
    assert display.axes_.shape == (3, 2)
    assert [ax.get_ylabel() for ax in display.axes_[:, 0]] == [
        "input",
        "reconstruction",
        "anomaly map",
    ]
    inputs, reconstructions, maps = (images_of(line) for line in display.axes_)
    np.testing.assert_array_equal(inputs[0], X[0] / 4)
    np.testing.assert_array_equal(reconstructions[0], X_hat[0] / 4)
    np.testing.assert_array_equal(reconstructions[1], [[1, 1], [0, 0]])  # cut at the inputs' range
    np.testing.assert_array_equal(maps[0], [[0, 0], [0, 4]])
    assert {ax.images[0].get_clim() for ax in display.axes_[2]} == {(0, 5)}
    assert {ax.images[0].get_clim() for ax in display.axes_[:2].flat} == {(0, 1)}
    colorbar = [ax for ax in display.figure_.axes if ax.get_ylabel() == "anomalous →"]
    assert len(colorbar) == 1


def test_colours_are_kept_and_other_channels_averaged():
    X = np.random.default_rng(0).integers(0, 255, size=(1, 4, 5, 3)).astype(np.uint8)
    colour = ReconstructionDisplay.from_predictions(X, X)
    assert images_of(colour.axes_[:, 0])[0].shape == (4, 5, 3)
    assert images_of(colour.axes_[:, 0])[2].shape == (4, 5)
    two = ReconstructionDisplay.from_predictions(X[..., :2], X[..., :2])
    assert images_of(two.axes_[:, 0])[0].shape == (4, 5)


def test_a_map_of_8_bit_images_does_not_wrap_around():
    X, X_hat = np.full((1, 2, 2), 10, np.uint8), np.full((1, 2, 2), 12, np.uint8)
    np.testing.assert_array_equal(ReconstructionDisplay.from_predictions(X, X_hat).anomaly_map, 2)


def test_from_a_detector_of_rows_in_scaled_units():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal([0, 1000], [1, 500], size=(60, 2)), columns=["small", "large"])
    detector = detector_of(X)
    display = ReconstructionDisplay.from_estimator(detector, X[:2])
    ax = display.axes_[0, 0]
    assert {label.get_text() for label in ax.get_yticklabels()} == {"small", "large"}
    assert ax.get_xlabel() == "Scaled value"
    assert ax.get_title() == f"score {detector.anomaly_score(X[:2])[0]:.2f}"
    standardised = (X - X.mean()) / X.std(ddof=0)
    np.testing.assert_allclose(display.X, standardised[:2], rtol=1e-5)
    np.testing.assert_allclose(
        np.abs(display.X - display.X_hat), detector.anomaly_map(X[:2]), atol=1e-5
    )


@pytest.mark.parametrize(
    ("shape", "parameters", "shown_shape"),
    [
        ((10, 6, 9), {}, (2, 6, 9)),
        ((10, 6, 9, 3), {}, (2, 6, 9, 3)),
        ((10, 3, 6, 9), {"channel_axis": 0}, (2, 6, 9, 3)),
        ((10, 54), {"image_shape": (6, 9)}, (2, 6, 9)),
        ((10, 54), {"image_shape": (6, 3, 3), "channel_axis": -1}, (2, 6, 3, 3)),
    ],
)
def test_from_a_detector_of_images_of_any_layout(shape, parameters, shown_shape):
    X = np.random.default_rng(0).random(shape)
    detector = detector_of(X, **parameters)
    display = ReconstructionDisplay.from_estimator(detector, X[:2], titles=["a", "b"])
    assert display.X.shape == display.X_hat.shape == shown_shape
    assert display.anomaly_map.shape == shown_shape[:3]
    channels_last = np.moveaxis(X, 1, -1) if detector.channel_axis == 0 else X
    np.testing.assert_array_equal(display.X, channels_last[:2].reshape(shown_shape))
    assert [ax.get_title() for ax in display.axes_[0]] == ["a", "b"]


def test_draws_into_a_frame_and_again_with_plot(tmp_path):
    figure = Figure(layout="constrained")
    left, right = figure.subplots(1, 2)
    display = ReconstructionDisplay.from_predictions(ROWS, ROWS_HAT, ax=left)
    assert display.ax_ is left
    assert display.figure_ is figure
    assert display.plot(ax=right, n_features=1) is display
    figure.savefig(tmp_path / "rows.png")
    assert (tmp_path / "rows.png").read_bytes()[:4] == b"\x89PNG"
    middle = figure.get_size_inches()[0] * figure.dpi / 2
    assert all(ax.get_window_extent().xmin > middle for ax in display.axes_.flat)


def test_a_frame_that_can_not_be_divided_is_refused():
    ax = Figure().add_axes((0, 0, 1, 1))
    with pytest.raises(ValueError, match="subplots"):
        ReconstructionDisplay.from_predictions(ROWS, ROWS_HAT, ax=ax)


@pytest.mark.parametrize(
    ("X", "X_hat", "options", "message"),
    [
        (ROWS, ROWS[:1], {}, "X_hat"),
        (ROWS[0], ROWS[0], {}, "rows"),
        (ROWS[:0], ROWS[:0], {}, "1 to 24 samples can be shown, got 0"),
        (np.zeros((25, 2)), np.zeros((25, 2)), {}, "got 25"),
        (ROWS, ROWS, {"titles": ["one"]}, "titles must have 2"),
        (ROWS, ROWS, {"feature_names": ["a", "b"]}, "feature_names must have 3"),
        (ROWS, ROWS, {"anomaly_map": [[1.0], [2.0]]}, "anomaly_map"),
    ],
)
def test_wrong_input(X, X_hat, options, message):
    with pytest.raises(ValueError, match=message):
        ReconstructionDisplay.from_predictions(X, X_hat, **options)


def test_an_estimator_that_does_not_reconstruct_is_refused():
    with pytest.raises(TypeError, match="PCA has no method reconstruct"):
        ReconstructionDisplay.from_estimator(PCA().fit(ROWS), ROWS)
    pipeline = make_pipeline(StandardScaler(), GANomalyDetector())
    with pytest.raises(TypeError, match="last step"):
        ReconstructionDisplay.from_estimator(pipeline, ROWS)


def test_a_detector_that_is_not_fitted_is_refused():
    with pytest.raises(NotFittedError):
        ReconstructionDisplay.from_estimator(GANomalyDetector(), ROWS)


def test_the_true_anomaly_is_outlined_along_its_pixels():
    X = np.zeros((2, 4, 5))
    masks = np.zeros((2, 4, 5), int)
    masks[0, 1:3, 2:] = 255  # to the right edge
    display = ReconstructionDisplay.from_predictions(X, X + 1, masks=masks)
    inputs, reconstructions, maps = display.axes_
    for ax in (inputs[0], maps[0]):
        (outline,) = ax.collections
        corners = outline.get_paths()[0].get_extents()
        np.testing.assert_allclose(corners.get_points(), [[1.5, 0.5], [4.5, 2.5]], atol=0.02)
        assert ax.get_xlim() == (-0.5, 4.5)
    assert not any(ax.collections for ax in (*reconstructions, inputs[1], maps[1]))


def test_masks_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="masks has the shape"):
        ReconstructionDisplay.from_predictions(np.zeros((1, 4, 4)), np.zeros((1, 4, 4)), masks=[1])
    with pytest.raises(ValueError, match="masks has the shape"):
        ReconstructionDisplay.from_predictions(ROWS, ROWS, masks=np.ones_like(ROWS))


class Averages(nn.Module):
    """A backbone of two maps."""

    def forward(self, x):
        return [nn.functional.avg_pool2d(x, 2), nn.functional.avg_pool2d(x, 4)]


def photographs_of(shapes):
    rng = np.random.default_rng(0)
    return [rng.integers(90, 110, size=shape, dtype=np.uint8) for shape in shapes]


def on_features(images):
    """RDNA, which has no reconstructions to show with a backbone."""
    return RDNADetector(
        backbone=Averages(), image_size=16, hardened_noise=0, epochs=1, random_state=0
    ).fit(images)


def test_with_a_backbone_maps_lie_over_the_photographs_in_their_size():
    images = np.stack(photographs_of([(32, 24)] * 10))
    detector = on_features(images)
    images[0, 8:16, 8:16] = 250
    # Two images held out are too few for a threshold.
    detector.infer_threshold(images, outlier_perc=10)
    masks = images[:3] == 250
    display = ReconstructionDisplay.from_estimator(detector, images[:3], masks=masks)
    assert display.X_hat is None
    assert [ax.get_ylabel() for ax in display.axes_[:, 0]] == ["input", "anomaly map"]
    photographs, maps = display.axes_
    expected = detector.anomaly_map(images[:3])
    usual = expected[detector.predict(images[:3]) > 0]
    assert display.level == usual.max()
    for ax, image, of_one in zip(maps, images, expected, strict=False):
        below, above = ax.images
        np.testing.assert_array_equal(below.get_array(), (image - 90.0) / 160)
        np.testing.assert_array_equal(above.get_array(), of_one)
        assert above.get_alpha().shape == (32, 24)
        assert above.get_alpha().min() >= 0 and above.get_alpha().max() <= 0.6
    assert {ax.images[1].get_clim() for ax in maps} == {(expected.min(), expected.max())}
    # The true defect, and what is above all that is usual; of the others nothing is.
    assert [len(ax.collections) for ax in maps] == [2, 0, 0]
    assert [len(ax.collections) for ax in photographs] == [1, 0, 0]
    assert same_color(maps[0].collections[0].get_edgecolor(), "white")
    corners = maps[0].collections[0].get_paths()[0].get_extents()
    assert corners.x0 < 11.5 < corners.x1 and corners.y0 < 11.5 < corners.y1


def test_photographs_of_several_shapes_keep_theirs():
    images = photographs_of([(32, 24), (32, 40)] * 6)
    detector = on_features(images)
    display = ReconstructionDisplay.from_estimator(detector, images[:2], titles=["a", "b"])
    sizes = [ax.images[1].get_array().shape for ax in display.axes_[1]]
    assert sizes == [(32, 24), (32, 40)]
    assert [ax.get_title() for ax in display.axes_[0]] == ["a", "b"]
    assert display.axes_[1, 0].images[1].get_clim() == display.axes_[1, 1].images[1].get_clim()


@pytest.mark.parametrize(
    ("X", "options", "message"),
    [
        (np.zeros((2, 4, 4)), {}, "pass an anomaly_map"),
        (ROWS, {"anomaly_map": ROWS}, "X must be images"),
        ([np.zeros((4, 4)), np.zeros((4, 5))], {"anomaly_map": np.zeros((2, 4, 4))}, "X needs"),
    ],
)
def test_wrong_input_without_reconstructions(X, options, message):
    with pytest.raises(ValueError, match=message):
        ReconstructionDisplay.from_predictions(X, None, **options)


def test_what_is_usual_is_the_largest_of_the_usual_maps():
    assert outline_level([np.array([[1.0, 2.0]]), np.array([[4.0], [3.0]])]) == 4.0
