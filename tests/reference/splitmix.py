"""splitmix64: the one source of random numbers and hashes in the references.

Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014;
the constants are those of java.util.SplittableRandom. All arithmetic is modulo 2^64.

    mix(z):   z = (z XOR z >> 30) * 0xBF58476D1CE4E5B9
              z = (z XOR z >> 27) * 0x94D049BB133111EB
              return z XOR z >> 31
    stream:   state starts as `seed`; a draw is  state += 0x9E3779B97F4A7C15; return mix(state)
    below(n): (draw >> 32) * n >> 32     one draw each, also for n = 1; n < 2^32
    hash(x):  mix(x + 0x9E3779B97F4A7C15), the first draw of a stream seeded with x

With seed 1234567 the stream begins 6457827717110365317, 3203168211198807973,
9817491932198370423.
"""

from __future__ import annotations

MASK64 = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK64
    return z ^ (z >> 31)


def hash64(x: int) -> int:
    return mix((x + GOLDEN) & MASK64)


class SplitMix64:
    def __init__(self, seed: int) -> None:
        self.state = seed & MASK64

    def draw(self) -> int:
        self.state = (self.state + GOLDEN) & MASK64
        return mix(self.state)

    def below(self, n: int) -> int:
        return (self.draw() >> 32) * n >> 32


class ResidentArray:
    """Resident pages in an array, so that a random index finds one.

    Insertion appends; a removed page's slot is filled by the last element.
    """

    def __init__(self) -> None:
        self.pages: list[int] = []
        self.slot: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.pages)

    def append(self, page: int) -> None:
        self.slot[page] = len(self.pages)
        self.pages.append(page)

    def remove(self, page: int) -> None:
        slot = self.slot.pop(page)
        last = self.pages.pop()
        if last != page:
            self.pages[slot] = last
            self.slot[last] = slot
