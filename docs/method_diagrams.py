"""A sphinx extension: a diagram of each method, its networks and its losses, for the guide.

They are drawn when the documentation is built, from what stands here; the names in the boxes are
those of the detector's `networks_`.
"""

from pathlib import Path

import matplotlib
from diagram import Diagram

# Text as outlines, which fit their boxes whatever fonts a reader has; and the same bytes each time.
_SVG = {"svg.fonttype": "path", "svg.hashsalt": "gandetect", "mathtext.fontset": "dejavusans"}


def setup(app):
    """Have the diagrams drawn before the pages are read."""
    app.connect("builder-inited", write_diagrams)
    return {"parallel_read_safe": True}


def write_diagrams(app):
    """Write docs/generated/diagrams/<method>.svg."""
    folder = Path(app.srcdir, "generated", "diagrams")
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(_SVG):
        for name, draw in DIAGRAMS.items():
            draw().figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


def ganomaly():
    """Encode, decode, encode again."""
    d = Diagram(372)
    d.box("x", "data", 40, 165, "$x$")
    d.box("encoder", "network", 140, 165, "encoder", 92)
    d.box("z", "data", 236, 165, "$z$")
    d.box("decoder", "network", 332, 165, "decoder", 92)
    d.box("x_hat", "data", 428, 165, r"$\hat{x}$")
    d.box("re_encoder", "network", 530, 165, "re_encoder", 92)
    d.box("z_hat", "data", 636, 165, r"$\hat{z}$")
    d.box("discriminator", "adversary", 522, 62, "discriminator\nfeatures $f$", 104, 48)
    to_generator = r"to the generator × 1:" + "\n" + r"$\Vert f(x)-f(\hat{x})\Vert^2$"
    d.box("adversarial", "loss", 674, 38, to_generator, 160, 42)
    d.box(
        "own",
        "loss",
        674,
        88,
        "to the discriminator:\n" + r"which is $x$, which $\hat{x}$?",
        160,
        42,
    )
    d.box("rec", "loss", 234, 104, r"reconstruction × 50:  $|x-\hat{x}|$", 190)
    d.box("latent", "loss", 436, 226, r"latent × 1:  $\Vert z-\hat{z}\Vert^2$", 170)

    d.row("x", "encoder", "z", "decoder", "x_hat", "re_encoder", "z_hat")
    d.arrow("x top -8", (None, 52), "discriminator left -10")
    d.arrow("x_hat top 8", (None, 72), "discriminator left 10")
    d.arrow("discriminator right -14", "adversarial left 10")
    d.arrow("discriminator right 14", "own left -12")
    d.compared("x top 8", (None, 104), "rec left")
    d.compared("x_hat top -8", (None, 104), "rec right")
    d.compared("z bottom", (None, 226), "latent left")
    d.compared("z_hat bottom", (None, 226), "latent right")
    d.foot(
        258,
        r"published: $|z-\hat{z}|$",
        r"default, rows: 1 × $|z-\hat{z}|$, 1 × $|x-\hat{x}|$",
        r"default, images: 4 × the distance of $z$ to the five nearest training codes, "
        r"1 × $|z-\hat{z}|$",
    )
    return d


def alocc():
    """A refiner that takes noise away, a discriminator, and its second phase."""
    d = Diagram(482)
    d.box("x", "data", 40, 110, "$x$")
    d.box("noise", "step", 136, 110, "+ noise\n(in training)", 94, 42)
    d.box("refiner", "network", 254, 110, "refiner $R$", 92)
    d.box("x_hat", "data", 358, 110, r"$\hat{x}$")
    d.box("discriminator", "adversary", 482, 110, "discriminator $D$", 124, 48)
    d.box(
        "adversarial",
        "loss",
        668,
        84,
        "to the refiner:\n" + r"$\hat{x}$ is taken for real",
        166,
        42,
    )
    d.box(
        "own",
        "loss",
        668,
        136,
        "to the discriminator:\n" + r"$x$ is real, $\hat{x}$ is not",
        166,
        42,
    )
    d.box("rec", "loss", 199, 176, r"reconstruction × 0.4:  $\Vert x-\hat{x}\Vert^2$", 206)
    d.row("x", "noise", "refiner", "x_hat", "discriminator")
    d.arrow("x top", (None, 44), (482, None), "discriminator top")
    d.arrow("discriminator right -14", "adversarial left 12")
    d.arrow("discriminator right 14", "own left -12")
    d.compared("x bottom", (None, 176), "rec left")
    d.compared("x_hat bottom", (None, 176), "rec right")

    _alocc_second_phase(d)
    d.foot(
        374,
        r"published: minus the logit of $D(R(x))$, without noise",
        r"default, rows: 2 × the distance of the code to the five nearest training codes, "
        r"1 × $\Vert x-\hat{x}\Vert^2$",
        r"default, images: 4 × the same distance, 1 × the published score",
    )
    return d


def _alocc_second_phase(d):
    """OGNet's, below the first."""
    d.rule(
        212,
        "The last part of the training, tuning_fraction (0.3 on images, none on rows), "
        "in which only the discriminator learns:",
    )
    d.box("x2", "data", 40, 312, "$x$")
    d.box("early", "frozen", 148, 312, "early_refiner\n(as at 0.3)", 104, 42)
    d.box("x_early", "data", 258, 312, r"$\hat{x}_1$")
    d.box("mean", "step", 354, 312, "mean of\ntwo samples", 96, 42)
    d.box("refiner2", "frozen", 466, 312, "refiner $R$", 84)
    d.box("x_pseudo", "data", 562, 312, r"$\hat{x}_2$")
    d.box("discriminator2", "adversary", 682, 312, "discriminator $D$", 124, 42)
    d.box("good", "data", 562, 262, r"$x,\ \hat{x}$", 58, 30)
    d.row("x2", "early", "x_early", "mean", "refiner2", "x_pseudo", "discriminator2")
    d.arrow("good right", (682, None), "discriminator2 top")
    d.arrow("x_early bottom", (None, 356), (682, None), "discriminator2 bottom")
    d.note(600, 253, "good")
    d.note(600, 302, "bad", ha="center")
    d.note(600, 347, "bad")


def bigan():
    """Two pairs, a discriminator between them, and ALAD's two more."""
    d = Diagram(510)
    d.box("x", "data", 40, 90, "$x$")
    d.box("encoder", "network", 140, 90, "encoder", 92)
    d.box("z", "data", 236, 90, "$z$")
    d.box("generator", "network", 332, 90, "generator", 92)
    d.box("x_hat", "data", 428, 90, r"$\hat{x}$")
    d.box("rec", "loss", 234, 30, r"reconstruction × 50:  $|x-\hat{x}|$", 190)
    d.box("z2", "data", 236, 236, "$z'$")
    d.box("generator2", "network", 332, 236, "generator\n(the same)", 92, 40)
    d.box("x2", "data", 428, 236, "$x'$")
    d.box("discriminator", "adversary", 530, 163, "discriminator\nfeatures $f$", 100, 64)
    d.box("own", "loss", 674, 138, "to the discriminator:\nwhich pair is it?", 160, 42)
    d.box("adversarial", "loss", 674, 188, "to encoder, generator:\nthat it is the other", 160, 42)
    d.note(206, 236, "drawn from $N(0, 1)$", ha="right")
    d.row("x", "encoder", "z", "generator", "x_hat")
    d.row("z2", "generator2", "x2")
    d.arrow("x bottom", (None, 143), "discriminator left -20")
    d.joined("z bottom", (236, 143))
    d.arrow("z2 top", (None, 183), "discriminator left 20")
    d.joined("x2 top", (428, 183))
    d.note(332, 133, "the pair $(x, z)$", ha="center")
    d.note(332, 194, "the pair $(x', z')$", ha="center")
    d.arrow("discriminator right -14", "own left 11")
    d.arrow("discriminator right 14", "adversarial left -11")
    d.compared("x top", (None, 30), "rec left")
    d.compared("x_hat top", (None, 30), "rec right")

    _alad(d)
    d.foot(
        394,
        r"published: $\alpha\,|x-\hat{x}| + (1-\alpha)\,|f(x,z)-f(\hat{x},z)|$ with $\alpha=0.9$;  "
        r"ALAD: $|f_{xx}(x,x)-f_{xx}(x,\hat{x})|$",
        r"default, rows: 1 × these parts, 1 × the distance of $z$ to the five nearest "
        "training codes",
        r"default, images: 2.5 × that distance, 1 × the distance of $z$ to the code of "
        r"$\hat{x}$, 0.2 × these parts",
    )
    return d


def _alad(d):
    """What ALAD adds, below BiGAN."""
    d.rule(
        276,
        'variant="alad" adds two adversaries, which encoder and generator are to deceive as well:',
    )
    d.box("xx", "data", 46, 324, "$x,\\ x$", 60, 28)
    d.box("xx_hat", "data", 46, 362, r"$x,\ \hat{x}$", 60, 28)
    d.box("discriminator_xx", "adversary", 190, 343, "discriminator_xx\nfeatures $f_{xx}$", 126, 52)
    d.box("zz", "data", 414, 324, "$z',\\ z'$", 60, 28)
    d.box("zz_hat", "data", 414, 362, r"$z',\ \hat{z}'$", 60, 28)
    d.box("discriminator_zz", "adversary", 558, 343, "discriminator_zz", 126, 52)
    d.note(640, 343, r"$\hat{z}'$: the code of $x'$")
    for kind in ("xx", "zz"):
        d.arrow(f"{kind} right", f"discriminator_{kind} left -19")
        d.arrow(f"{kind}_hat right", f"discriminator_{kind} left 19")


def adversarial_vae():
    """An auto-encoder, and a classifier that answers twice."""
    d = Diagram(392)
    d.note(
        12, 14, "With a classifier to defend; without one there is neither this line nor the noise:"
    )
    d.box("classifier", "frozen", 62, 56, "classifier $M$", 98)
    d.box("p", "data", 172, 56, "$M(x)$", 56)
    d.box("model", "loss", 345, 56, r"model × 0.1:  KL$(M(x)\,\Vert\,M(\hat{x}))$", 214)
    d.box("p_hat", "data", 518, 56, r"$M(\hat{x})$", 56)
    d.box("classifier2", "frozen", 640, 56, "classifier $M$", 98)
    d.box("rec", "loss", 345, 112, r"reconstruction × 1:  $\Vert x-\hat{x}\Vert^2$", 190)
    d.box("x", "data", 50, 174, "$x$")
    d.box("noise", "step", 142, 174, "noise or attack\n(in training)", 108, 42)
    d.box("encoder", "network", 254, 174, "encoder", 84)
    d.box("posterior", "data", 345, 174, r"$\mu,\ \sigma$", 54)
    d.box("z", "data", 443, 174, r"$z=\mu+\sigma\varepsilon$", 88)
    d.box("decoder", "network", 550, 174, "decoder", 84)
    d.box("x_hat", "data", 642, 174, r"$\hat{x}$")
    d.box(
        "prior",
        "loss",
        345,
        232,
        r"prior × 0.01:  KL$(N(\mu,\sigma^2)\,\Vert\,N(0,1))$",
        236,
    )
    d.row("x", "noise", "encoder", "posterior", "z", "decoder", "x_hat")
    d.arrow("x top -10", "classifier bottom -22")
    d.arrow("classifier right", "p left")
    d.arrow("x_hat top 10", "classifier2 bottom 12")
    d.arrow("classifier2 left", "p_hat right")
    d.compared("p right", "model left")
    d.compared("p_hat left", "model right")
    d.compared("x top 10", (None, 112), "rec left")
    d.compared("x_hat top -10", (None, 112), "rec right")
    d.compared("posterior bottom", "prior top")
    d.foot(
        262,
        r"published: KL$(M(x)\,\Vert\,M(\hat{x}))$, mean over n_samples draws of $z$",
        r"default, with a classifier: 1 × the published score, $|x-\hat{x}|$ 2 × on rows, "
        "1 × on images",
        r"default, without: 1 × $|x-\hat{x}|$, the distance of $\mu$ to the five nearest codes "
        "2 × (images 3 ×)",
        r"correct: where $x$ is flagged, the label is that of $M(\hat{x})$",
    )
    return d


def rdna():
    """Simulated anomalies, two modules, and two adversaries."""
    d = Diagram(498)
    d.box("x", "data", 40, 152, "$x$")
    d.box("simulate", "step", 140, 152, "simulate\nan anomaly", 88, 42)
    d.box("x_a", "data", 240, 152, "$x_a$")
    d.box("reconstructor", "network", 342, 152, "reconstructor", 104)
    d.box("x_hat", "data", 444, 152, r"$\hat{x}$")
    d.box("discriminant", "network", 558, 152, "discriminant", 104)
    d.box("m_hat", "data", 664, 152, r"$\hat{m}$")
    rec = r"$\Vert x-\hat{x}\Vert^2$, images: $+\ 1-$SSIM$(x,\hat{x})$"
    d.box("rec", "loss", 242, 92, rec, 224)
    d.box("sample_d", "adversary", 546, 48, "sample_discriminator", 154, 44)
    d.box("sample_loss", "loss", 694, 48, "real or not?\nmodules × 0.01", 116, 42)
    d.box("m", "data", 140, 254, "$m$")
    d.box("focal", "loss", 400, 254, r"focal loss:  $\hat{m}$ against $m$", 170)
    d.box("mask_d", "adversary", 400, 312, "mask_discriminator\n(sees $x_a$ too)", 154, 44)
    d.box("mask_loss", "loss", 580, 358, "real or not?\nmodules × 0.01", 116, 42)
    d.row("x", "simulate", "x_a", "reconstructor", "x_hat", "discriminant", "m_hat")
    d.arrow("x_a bottom", (None, 208), (558, None), "discriminant bottom")
    d.note(252, 197, r"with $x_a$ and $|x_a-\hat{x}|$")
    d.arrow("x top -8", (None, 38), "sample_d left -10")
    d.arrow("x_hat top 8", (None, 58), "sample_d left 10")
    d.arrow("sample_d right", "sample_loss left")
    d.arrow("simulate bottom", "m top")
    d.note(148, 212, "where")
    d.arrow("m bottom", (None, 312), "mask_d left")
    d.arrow("m_hat bottom 10", (None, 312), "mask_d right")
    d.arrow("mask_d bottom", (None, 358), "mask_loss left")
    d.compared("x top 8", (None, 92), "rec left")
    d.compared("x_hat top -8", (None, 92), "rec right")
    d.compared("m right", "focal left")
    d.compared("m_hat bottom -10", (None, 254), "focal right")
    d.foot(
        392,
        r"published (DRAEM's): the largest $\hat{m}$, smoothed, where nothing is simulated",
        r"default, images: the largest $\hat{m}^2\,|x-\hat{x}|$, smoothed",
        r"default, rows: 2 × the distance of the code to the five nearest training codes, "
        r"1 × $|x-\hat{x}|$, 0.5 × $\hat{m}$",
    )
    return d


DIAGRAMS = {
    "adversarial_vae": adversarial_vae,
    "alocc": alocc,
    "bigan": bigan,
    "ganomaly": ganomaly,
    "rdna": rdna,
}
