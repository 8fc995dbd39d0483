"""Requests that are almost right, made of those that are."""


def mutated(random_, text, words, longest=60):
    """A text as bytes, after one to four changes: a byte that is another one, a part that is left out, doubled
    or put elsewhere, one of `words` put between, or an end too early."""
    data = bytearray(text.encode())
    for _ in range(random_.randint(1, 4)):
        at = random_.randrange(len(data) or 1)
        part = data[at:at + random_.randint(1, longest)]
        kind = random_.randrange(6)
        if kind == 0 and data:
            data[at] = random_.randrange(256)
        elif kind == 1:
            del data[at:at + len(part)]
        elif kind == 2:
            data[at:at] = part * random_.randint(1, 3)
        elif kind == 3:
            del data[at:at + len(part)]
            to = random_.randrange(len(data) + 1)
            data[to:to] = part
        elif kind == 4:
            data[at:at] = random_.choice(words)
        elif random_.randrange(3) == 0:
            # Seldom: what is left of most requests after it says little.
            del data[at:]
    return bytes(data)
