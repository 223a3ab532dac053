"""
How is an exported detector served over HTTP?
=============================================

``python serve_an_exported_detector.py detector.onnx --port 8000`` serves what
`gandetect.export.to_onnx` wrote: ``POST /score`` takes ``{"samples": [...]}`` and returns a score
and a label for each sample, ``GET /health`` returns the name of the model. It needs the extras
``export`` and ``serve``. It has no encryption and no authentication: run it behind a proxy that
provides both, and that limits the connections of a client.
"""

import argparse
import asyncio
import gc
import json
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from gandetect.export import ExportedScorer, load_onnx

# %%
# Limits
# ------
# They bound the memory: parsed JSON may take thirty times the size of the body, so that only as
# many bodies are parsed as there are workers, and others wait as they came. They bound the time as
# well: Python's parser of JSON lets no other thread run, not even the event loop, so that a body
# must be small enough to be parsed in a moment. Two MiB hold a colour image of 224 x 224 pixels
# with 13 characters a value.

MOST_BYTES = 2 * 2**20
MOST_SAMPLES = 10_000
MOST_REQUESTS = 32  # that are read, wait or are scored at the same time
MOST_SECONDS = 10.0  # until a body has arrived
WORKERS = 2  # that parse and score at the same time

# %%
# The application
# ---------------
# Scores are computed in threads, and the event loop stays free for `/health`. The scorer keeps no
# state, so that requests may run concurrently. It raises a ValueError or TypeError with the reason
# for samples that it cannot score, which is an error of the client, not of the server.


class Refused(Exception):
    """A refused request, with the status and the message for the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def body_of(request: Request) -> bytes:
    """The body, if it is small enough and comes soon enough.

    What is too large is read to its end all the same, and forgotten: many clients send all of a
    request before they read the answer.
    """
    body, n_bytes = bytearray(), 0
    try:
        async with asyncio.timeout(MOST_SECONDS):
            async for chunk in request.stream():
                n_bytes += len(chunk)
                if n_bytes <= MOST_BYTES:
                    body += chunk
                else:
                    body.clear()
    except TimeoutError:
        raise Refused(
            408, f"the body did not arrive within {MOST_SECONDS} s"
        ) from None
    except ClientDisconnect:
        raise Refused(400, "the client closed the connection") from None
    if n_bytes > MOST_BYTES:
        raise Refused(413, f"more than {MOST_BYTES} bytes")
    return bytes(body)


def samples_in(body: bytes) -> list[Any]:
    """What a client sent to be scored."""
    document = json.loads(body)
    samples = (
        document.get("samples") if isinstance(document, dict) else None
    )
    if not isinstance(samples, list):
        raise ValueError(
            'the body must be a JSON object with the list "samples"'
        )
    if len(samples) > MOST_SAMPLES:
        raise Refused(413, f"more than {MOST_SAMPLES} samples")
    return samples


def make_app(scorer: ExportedScorer) -> Starlette:
    """The application that serves one scorer."""
    # The garbage collector skips the present objects. Otherwise it would
    # visit all of torch's objects several times while a large body is
    # parsed, and block the event loop.
    gc.collect()
    gc.freeze()
    workers = asyncio.Semaphore(WORKERS)
    n_requests = 0

    def scored(body: bytes) -> tuple[Any, Any]:
        # In one thread: each change of threads takes a tenth of a millisecond.
        return scorer.scores_and_labels(samples_in(body))

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
        nonlocal n_requests
        try:
            if n_requests >= MOST_REQUESTS:
                raise Refused(
                    503, "too many requests at a time: try again"
                )
            n_requests += 1
            try:
                body = await body_of(request)
                async with workers:
                    scores, labels = await run_in_threadpool(scored, body)
            finally:
                n_requests -= 1
        except Refused as refused:
            headers = (
                {"Retry-After": "1"} if refused.status == 503 else None
            )
            return JSONResponse(
                {"error": str(refused)}, refused.status, headers
            )
        except (ValueError, TypeError, RecursionError) as error:
            return JSONResponse({"error": str(error)[:500]}, 422)
        # The label of the model: a rounded score may be on the other side
        # of the threshold.
        return JSONResponse(
            {
                "anomaly_score": scores.tolist(),
                "is_anomaly": (labels == -1).tolist(),
            }
        )

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/score", score, methods=["POST"]),
        ],
    )


# %%
# Starting it
# -----------
# Loading checks the file against its certificate: a server whose labels would differ from the
# detector's does not start.


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Serve an exported detector over HTTP."
    )
    parser.add_argument("path", help="file of gandetect.export.to_onnx")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    uvicorn.run(
        make_app(load_onnx(arguments.path)),
        host=arguments.host,
        port=arguments.port,
    )


if __name__ == "__main__":
    main()
