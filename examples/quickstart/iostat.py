#!/usr/bin/python3
"""Prints, from two `cmcplan status --format json` some seconds apart, which host served the application's I/O."""
import json
import sys


def counters(text):
    found = {}
    for migration in json.loads(text)["migrations"]:
        for role in ("source", "destination"):
            for volume in (migration.get(role) or {}).get("volumes", []):
                found[role, volume["name"]] = volume["applicationIO"]
    return found


def main():
    before, after = counters(sys.argv[1]), counters(sys.argv[2])
    seconds = json.loads(sys.argv[2])["observedAt"] - json.loads(sys.argv[1])["observedAt"]
    print(f"  {'host':<12} {'volume':<10} {'r/s':>8} {'rkB/s':>9} {'w/s':>8} {'wkB/s':>9} {'f/s':>8}")
    for (role, volume), now in sorted(after.items(), key=lambda item: (item[0][0] != "source", item[0][1])):
        then = before.get((role, volume), now)
        rate = lambda key: max(0, now[key] - then[key]) / seconds
        print(
            f"  {role:<12} {volume:<10} {rate('reads'):>8.0f} {rate('readBytes') / 1024:>9.0f}"
            f" {rate('writes'):>8.0f} {rate('writeBytes') / 1024:>9.0f} {rate('flushes'):>8.0f}")


if __name__ == "__main__":
    main()
