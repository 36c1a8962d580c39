"""Whether what clients saw of registers could have come about with every operation taking effect at one instant between its
start and its end: linearizability. Every value is written once, so that a read names its write, and Gibbons and Korach's
conditions decide in n log n ("Testing Shared Memories", 1997)."""
import collections, math

# A register holds this before the first write.
NOTHING = 0
NEVER = math.inf

Operation = collections.namedtuple("Operation", "is_write value start end")


def write(value, start, end=NEVER):
    """Of one whose answer never came the end is NEVER: it may take effect late, or not at all."""
    return Operation(True, value, start, end)


def read(value, start, end):
    return Operation(False, value, start, end)


def objection(history):
    """What is wrong with the history of one register, in words; None where nothing is."""
    writes = {NOTHING: write(NOTHING, -math.inf, -math.inf)}
    reads = collections.defaultdict(list)
    for operation in history:
        if not operation.is_write:
            reads[operation.value].append(operation)
        elif operation.value in writes:
            return f"{operation.value} was written twice, so that nobody knows which write a read saw"
        else:
            writes[operation.value] = operation
    forward, backward = [], []
    for value, seen in reads.items():
        if value not in writes:
            return f"{value} was read at {seen[0].start} to {seen[0].end}, and nobody wrote it"
        early = min(seen, key=lambda r: r.end)
        if early.end < writes[value].start:
            return f"{value} was read by {early.end}, before its write began at {writes[value].start}"
    for value, own in writes.items():
        if own.end == NEVER and value not in reads:
            continue  # Not answered and never seen: it need not have happened.
        everything = [own] + reads[value]
        # The value was there from `first` to `last`, or at one instant that may be chosen between `last` and `first`.
        first, last = min(o.end for o in everything), max(o.start for o in everything)
        (forward if first < last else backward).append((min(first, last), max(first, last), value))
    return overlap(sorted(forward)) or enclosed(sorted(forward), backward)


def overlap(forward):
    """Two values that both must have been there at one time."""
    for (begin, end, value), (next_begin, next_end, other) in zip(forward, forward[1:]):
        if next_begin < end:
            return (f"{value} was there from {begin} to {end}, and so must {other} have been from {next_begin} to {next_end}: "
                    f"a read was stale, or a write was lost")
    return None


def enclosed(forward, backward):
    """A value that must have come and gone while another one was there all the time. `forward` is disjoint."""
    begins = [zone[0] for zone in forward]
    for begin, end, value in backward:
        place = last_before(begins, begin)
        if place >= 0 and end < forward[place][1]:
            around = forward[place]
            return (f"{value} was there at some time from {begin} to {end}, and {around[2]} all the time from {around[0]} to "
                    f"{around[1]}: a read was stale, or a write was lost")
    return None


def last_before(values, limit):
    """The place of the last one that is less than `limit`; -1 for none."""
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if values[middle] < limit else (low, middle)
    return low - 1
