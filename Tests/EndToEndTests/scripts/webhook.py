#!/usr/bin/env python3
"""A webhook's receiver on the loopback interface: webhook.py DIRECTORY.

Writes its port to DIRECTORY/port and a line `PATH BODY` for each request to DIRECTORY/received. Answers 200, or what
DIRECTORY/status says.
"""
import http.server
import os
import sys

place = sys.argv[1]


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        status = 200
        if os.path.exists(f"{place}/status"):
            with open(f"{place}/status", encoding="ascii") as file:
                status = int(file.read())
        with open(f"{place}/received", "ab") as file:
            file.write(self.path.encode() + b" " + body + b"\n")
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
with open(f"{place}/port.new", "w", encoding="ascii") as file:
    file.write(str(server.server_address[1]))
os.rename(f"{place}/port.new", f"{place}/port")
server.serve_forever()
