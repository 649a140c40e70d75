"""Medians with 95 % intervals, as Markdown, from what gate.sh wrote."""

import random
import statistics
import sys
from collections import defaultdict

# Each pair is compared within its round, so that what slows a round down slows both of it.
PAIRS = [("gate", "nginx"), ("gate", "haproxy"), ("gate-tcp", "haproxy-tcp")]

HELD = {"gate-held": "held requests of HTTP/1", "gate-streams": "held streams of HTTP/2"}


def interval(values):
    """Bootstrap interval of the median; fixed seed, so that the same rounds say the same."""
    source = random.Random(0)
    medians = sorted(
        statistics.median(source.choices(values, k=len(values))) for _ in range(2000)
    )
    return medians[50], medians[1949]


def told(values, form):
    """The median, and where it lies with 95 % certainty."""
    low, high = interval(values)
    return f"{statistics.median(values):{form}} ({low:{form}} to {high:{form}})"


rates, costs, latencies = (defaultdict(dict) for _ in range(3))
loads = defaultdict(list)
memory, notes = {}, []
for line in sys.stdin:
    kind, *rest = line.split()
    if kind == "closed":
        body, connections, name, round_, rate, cost = rest
        rates[body, int(connections), name][round_] = float(rate)
        costs[body, int(connections), name][round_] = int(cost) / 1000
    elif kind == "open":
        body, name, round_, rate, *taken = rest
        loads[body].append(int(rate))
        latencies[body, name][round_] = [float(part) for part in taken]
    elif kind == "rss":
        memory[rest[0]] = [int(kib) / 1024 for kib in rest[1:]]
    elif kind in HELD:
        count, idle, full = map(int, rest)
        each = (full - idle) * 1024 / count
        notes.append(f"{count:,} {HELD[kind]}: {full / 1024:.1f} MiB, {each:,.0f} bytes each.")
    elif kind == "idle-cpu":
        notes.append(f"CPU of an idle {rest[0]}: {int(rest[1]) / 1e7:.3f} % of a core.")
    elif kind == "after":
        notes.append(f"Memory of {rest[0]} after the load: {int(rest[1]) / 1024:.1f} MiB.")


def table(*head):
    print()
    print("| " + " | ".join(head) + " |")
    print("| " + " | ".join("---" for _ in head) + " |")


if rates:
    table("body", "connections", "contender", "requests/s", "CPU us/request")
for (body, connections, name), rounds in rates.items():
    rate = told(list(rounds.values()), ",.0f")
    used = costs[body, connections, name].values()
    cost = "" if name == "direct" else f"{statistics.median(used):.1f}"
    print(f"| {body} | {connections:,} | {name} | {rate} | {cost} |")

if rates:
    table("body", "connections", "ratio", "requests/s")
for body, connections in dict.fromkeys((key[0], key[1]) for key in rates):
    for ours, theirs in PAIRS:
        mine, other = rates[body, connections, ours], rates[body, connections, theirs]
        ratio = told([mine[round_] / other[round_] for round_ in mine], ".2f")
        print(f"| {body} | {connections:,} | {ours} / {theirs} | {ratio} |")

if latencies:
    table("body", "contender", "requests/s sent", "p50", "p99", "p99.9")
for (body, name), rounds in latencies.items():
    parts = [statistics.median(part) for part in zip(*rounds.values())]
    cells = " | ".join(f"{part:.2f} ms" for part in parts)
    print(f"| {body} | {name} | {statistics.median(loads[body]):,.0f} | {cells} |")

if latencies:
    table("body", "ratio", "p99 at equal rate")
for body in loads:
    for ours, theirs in PAIRS:
        mine, other = latencies[body, ours], latencies[body, theirs]
        slower = told([mine[round_][1] / other[round_][1] for round_ in mine], ".2f")
        print(f"| {body} | {ours} / {theirs} | {slower} |")

if memory:
    table("contender", "memory idle", "with 1,000 connections")
for name, (idle, busy) in memory.items():
    print(f"| {name} | {idle:.1f} MiB | {busy:.1f} MiB |")

for note in notes:
    print(f"\n{note}")
