#!/usr/bin/python3
"""The application of the quickstart: commits numbered transactions and never takes an answer for granted.

    ledger.py create DATABASE --entries N        makes the database, with N entries
    ledger.py run DATABASE|nbd+unix://…          commits transactions until SIGTERM
    ledger.py check DATABASE                     proves that every acknowledged transaction is there

Each transaction is chained to the one before by its digest. After the database said "committed" (synchronous=FULL),
the number and digest go into an acknowledgement log that lives outside the migrated volume. Whatever is in that log
must be in the database for ever after: `check` proves it. The longest transaction is the longest pause.

Where no file system can be mounted (no root), `run` writes the same chain of records straight onto the tap's NBD
socket, into the blocks of one file, and `check` reads that file back.
"""
import argparse
import hashlib
import json
import os
import signal
import sqlite3
import struct
import sys
import time

PAYLOAD_BYTES = 1024
RECORD_BYTES = 4096
RECONNECT_SECONDS = 120


def chain(previous, number, payload):
    return hashlib.sha256(previous.encode() + struct.pack("<Q", number) + payload).hexdigest()


class Ledger:
    """The SQLite database: one row a transaction."""

    def __init__(self, path):
        self.connection = sqlite3.connect(path, timeout=600, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=FULL")
        self.connection.execute(
            "CREATE TABLE IF NOT EXISTS entries (number INTEGER PRIMARY KEY, payload BLOB NOT NULL, digest TEXT NOT NULL)")

    def last(self):
        row = self.connection.execute("SELECT number, digest FROM entries ORDER BY number DESC LIMIT 1").fetchone()
        return row or (0, "")

    def commit(self, number, payload, digest):
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.execute("INSERT INTO entries VALUES (?, ?, ?)", (number, payload, digest))
        self.connection.execute("COMMIT")

    def close(self):
        self.connection.close()


class RawRecords:
    """A ring of records in given blocks of a volume, written with FUA through NBD, or to a device with fdatasync."""

    def __init__(self, target, blocks):
        self.target = target
        self.blocks = blocks
        self.handle = None
        self.descriptor = None
        if not target.startswith("nbd+unix:"):
            self.descriptor = os.open(target, os.O_RDWR)

    def connect(self):
        import nbd

        deadline = time.monotonic() + RECONNECT_SECONDS
        while True:
            try:
                handle = nbd.NBD()
                handle.connect_uri(self.target)
                return handle
            except nbd.Error:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def at(self, offset, record=None):
        if self.descriptor is not None:
            if record is None:
                return os.pread(self.descriptor, RECORD_BYTES, offset)
            os.pwrite(self.descriptor, record, offset)
            os.fdatasync(self.descriptor)
            return record
        import nbd

        deadline = time.monotonic() + RECONNECT_SECONDS
        while True:
            try:
                if self.handle is None:
                    self.handle = self.connect()
                if record is None:
                    return bytes(self.handle.pread(RECORD_BYTES, offset))
                self.handle.pwrite(record, offset, nbd.CMD_FLAG_FUA)
                return record
            except nbd.Error as error:
                # The server went away: what it did not answer is sent again. Any other answer is an I/O error.
                lost = self.handle is None or self.handle.aio_is_dead() or self.handle.aio_is_closed()
                self.handle = None
                if not lost or time.monotonic() > deadline:
                    raise OSError(str(error)) from error

    def last(self):
        best = (0, "")
        for offset in self.blocks:
            record = unpack(self.at(offset))
            if record and record[0] > best[0]:
                best = record
        return best

    def commit(self, number, payload, digest):
        record = b"CMCREC01" + struct.pack("<Q", number) + digest.encode() + payload
        self.at(self.blocks[number % len(self.blocks)], record.ljust(RECORD_BYTES, b"\0"))

    def close(self):
        if self.handle is not None:
            self.handle.shutdown()


def unpack(record):
    if record[:8] != b"CMCREC01":
        return None
    return struct.unpack("<Q", record[8:16])[0], record[16:80].decode()


def write_report(path, report):
    with open(path + ".new", "w") as file:
        json.dump(report, file, indent=2)
    os.replace(path + ".new", path)


def open_target(arguments):
    if arguments.blocks:
        with open(arguments.blocks) as file:
            return RawRecords(arguments.target, [int(line) for line in file])
    return Ledger(arguments.target)


def run(arguments):
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    report = {"transactions": 0, "first": 0, "last": 0, "longestPauseSeconds": 0.0, "error": None}
    started = time.monotonic()
    reported = 0.0
    ledger = None
    acknowledged = os.open(arguments.acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        ledger = open_target(arguments)
        number, digest = ledger.last()
        report["first"] = number + 1
        while not stop:
            number += 1
            payload = os.urandom(PAYLOAD_BYTES)
            digest = chain(digest, number, payload)
            before = time.monotonic()
            ledger.commit(number, payload, digest)
            seconds = time.monotonic() - before
            os.write(acknowledged, f"{number} {digest} {time.time():.6f} {seconds:.6f}\n".encode())
            os.fsync(acknowledged)
            report["transactions"] += 1
            report["last"] = number
            report["longestPauseSeconds"] = max(report["longestPauseSeconds"], seconds)
            if time.monotonic() - reported > 0.5:
                reported = time.monotonic()
                report["seconds"] = reported - started
                write_report(arguments.report, report)
            time.sleep(arguments.interval)
        ledger.close()
    except Exception as error:  # Whatever the application sees as an error is the finding.
        report["error"] = f"{type(error).__name__}: {error}"
    report["seconds"] = time.monotonic() - started
    write_report(arguments.report, report)
    return 1 if report["error"] else 0


def create(arguments):
    ledger = Ledger(arguments.target)
    number, digest = ledger.last()
    ledger.connection.execute("BEGIN")
    for number in range(number + 1, arguments.entries + 1):
        payload = os.urandom(PAYLOAD_BYTES)
        digest = chain(digest, number, payload)
        ledger.connection.execute("INSERT INTO entries VALUES (?, ?, ?)", (number, payload, digest))
    ledger.connection.execute("COMMIT")
    ledger.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    ledger.close()
    return 0


def acknowledged_digests(path):
    digests = {}
    with open(path) as file:
        for line in file:
            fields = line.split()
            # The last line may be torn where the application itself was killed; then it acknowledged nothing.
            if len(fields) == 4:
                digests[int(fields[0])] = fields[1]
    return digests


def check(arguments):
    digests = acknowledged_digests(arguments.acknowledged)
    if arguments.blocks:
        lost = check_records(arguments, digests)
        what = "records"
    else:
        ledger = sqlite3.connect(arguments.target)
        answer = ledger.execute("PRAGMA integrity_check").fetchone()[0]
        if answer != "ok":
            print(f"integrity_check: {answer}")
            return 1
        found = {}
        previous = ""
        for number, payload, digest in ledger.execute("SELECT number, payload, digest FROM entries ORDER BY number"):
            if chain(previous, number, payload) != digest:
                print(f"entry {number} does not follow the one before it")
                return 1
            previous = digest
            found[number] = digest
        ledger.close()
        lost = [number for number, digest in digests.items() if found.get(number) != digest]
        what = f"entries of {len(found)}"
        print("integrity_check: ok")
    if lost:
        print(f"LOST: {len(lost)} acknowledged transactions, the first is {min(lost)}")
        return 1
    print(f"{len(digests)} acknowledged {what}: all there, none lost")
    return 0


def check_records(arguments, digests):
    with open(arguments.blocks) as file:
        blocks = [int(line) for line in file]
    records = RawRecords(arguments.target, blocks)
    newest = {}
    for number in digests:
        slot = number % len(blocks)
        newest[slot] = max(newest.get(slot, 0), number)
    lost = []
    for slot, number in newest.items():
        record = unpack(records.at(blocks[slot]))
        # One transaction may be newer than what was acknowledged: the answer was on its way.
        if record != (number, digests[number]) and not (record and record[0] > number):
            lost.append(number)
    return lost


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["create", "run", "check"])
    parser.add_argument("target")
    parser.add_argument("--entries", type=int, default=100)
    parser.add_argument("--acknowledged")
    parser.add_argument("--report")
    parser.add_argument("--interval", type=float, default=0.004, help="seconds between transactions")
    parser.add_argument("--blocks", help="file of byte offsets to write records at, without a file system")
    arguments = parser.parse_args()
    return {"create": create, "run": run, "check": check}[arguments.command](arguments)


if __name__ == "__main__":
    sys.exit(main())
