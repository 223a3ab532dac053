"""
How is an exported detector served over HTTP?
=============================================

``python serve_an_exported_detector.py detector.onnx --port 8000`` serves what
`gandetect.export.to_onnx` wrote: ``POST /score`` takes ``{"samples": [...]}`` and answers with a
score and a label each, ``GET /health`` says which model is there. It needs the extras ``export``
and ``serve``; put it behind whatever does encryption and authentication at your place.
"""

import argparse
import json

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from gandetect.export import ExportedScorer, load_onnx

# Refused before they are read: a sample is small, and many samples are many requests.
MOST_BYTES = 16 * 2**20

# %%
# The application
# ---------------
# The scorer keeps no state, so that requests may run side by side. It refuses what it cannot score
# by a ValueError or TypeError that says why, which is the client's mistake, not the server's.


def make_app(scorer: ExportedScorer) -> Starlette:
    """The application that serves one scorer."""

    async def health(request: Request) -> JSONResponse:
        certificate = scorer.certificate
        return JSONResponse(
            {
                "detector": certificate.detector,
                "gandetect": certificate.gandetect,
                "input_shape": certificate.input_shape,
                "threshold": scorer.threshold_,
                "difference": scorer.difference,
            }
        )

    async def score(request: Request) -> JSONResponse:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BYTES:
                return JSONResponse({"error": f"more than {MOST_BYTES} bytes"}, status_code=413)
        try:
            samples = json.loads(body)["samples"]
            scores, labels = await run_in_threadpool(scorer.scores_and_labels, samples)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            return JSONResponse({"error": str(error)}, status_code=422)
        # The model's own label: a score that is rounded elsewhere may lie across the threshold.
        return JSONResponse(
            {"anomaly_score": scores.tolist(), "is_anomaly": (labels == -1).tolist()}
        )

    return Starlette(
        routes=[Route("/health", health), Route("/score", score, methods=["POST"])],
    )


# %%
# Starting it
# -----------
# Loading checks the file against its certificate: a server whose scores would differ from the
# detector's does not start.


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve an exported detector over HTTP.")
    parser.add_argument("path", help="what gandetect.export.to_onnx wrote")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    uvicorn.run(make_app(load_onnx(arguments.path)), host=arguments.host, port=arguments.port)


if __name__ == "__main__":
    main()
