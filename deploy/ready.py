#!/usr/local/bin/python3
"""`recsys-ready [PORT]`: exits with 0 where the server in this container is ready.."""

from __future__ import annotations

import http.client
import sys


def main(port: int) -> int:
    """0 where /health/ready answers with 200, else 1."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=4)
    try:
        connection.request("GET", "/health/ready")
        return int(connection.getresponse().status != http.client.OK)
    except OSError:
        return 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8000))
