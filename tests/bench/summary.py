"""Medians with 95 % intervals from lines of "body connections name round rate"."""

import random
import statistics
import sys
from collections import defaultdict

# Each pair is compared within its round, so that what slows a round down slows both of it.
PAIRS = [("gate", "nginx"), ("gate", "haproxy"), ("gate-tcp", "haproxy-tcp")]


def interval(values):
    """Bootstrap interval of the median; fixed seed, so that the same rounds say the same."""
    source = random.Random(0)
    medians = sorted(
        statistics.median(source.choices(values, k=len(values))) for _ in range(2000)
    )
    return medians[50], medians[1949]


rates = defaultdict(dict)
for line in sys.stdin:
    body, connections, name, round_, rate = line.split()
    rates[body, int(connections), name][round_] = float(rate)

print(f"{'body':>5} {'connections':>11} {'contender':<12} {'requests/s':>11}  95 % interval")
for (body, connections, name), rounds in rates.items():
    low, high = interval(list(rounds.values()))
    median = statistics.median(rounds.values())
    print(f"{body:>5} {connections:>11} {name:<12} {median:>11,.0f}  {low:,.0f} to {high:,.0f}")

print(f"\n{'body':>5} {'connections':>11} {'ratio':<24} {'median':>7}  95 % interval")
for body, connections in dict.fromkeys((key[0], key[1]) for key in rates):
    for ours, theirs in PAIRS:
        mine, other = rates[body, connections, ours], rates[body, connections, theirs]
        ratios = [mine[round_] / other[round_] for round_ in mine]
        low, high = interval(ratios)
        label = f"{ours} / {theirs}"
        median = statistics.median(ratios)
        print(f"{body:>5} {connections:>11} {label:<24} {median:>7.2f}  {low:.2f} to {high:.2f}")
