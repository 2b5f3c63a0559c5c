"""A module of the user's: policies in Python, some with bugs. Tests name them as mine:NAME."""

from collections import OrderedDict, deque

from edm_policy import EvictionPolicy, Prefetcher


class Fifo(EvictionPolicy):
    best = "faults"

    def start(self, pages, limit):
        self.queue = OrderedDict()

    def insert(self, page):
        self.queue[page] = None

    def choose(self):
        return self.queue.popitem(last=False)[0] if self.queue else None

    def remove(self, page):
        del self.queue[page]


class Lru(Fifo):
    needs = best = "exact"

    def touch(self, page):
        self.queue.move_to_end(page)


class SecondChance(EvictionPolicy):
    def start(self, pages, limit):
        self.queue = deque()

    def insert(self, page):
        self.queue.append(page)

    def choose(self):
        while self.queue:
            if not self.used(self.queue[0]):
                return self.queue.popleft()
            self.queue.rotate(-1)
        return None

    def remove(self, page):
        self.queue.remove(page)


class Breaks(SecondChance):
    left = 200

    def choose(self):
        self.left -= 1
        return super().choose() if self.left > 0 else self.no_such_thing


class BreaksOnInsert(SecondChance):
    def insert(self, page):
        super().insert(page)
        if page == 17:
            raise KeyError("seventeen")


class Lies(SecondChance):
    def choose(self):
        return 3 if not self.queue or len(self.queue) % 50 == 0 else super().choose()


class NeverStarts(SecondChance):
    def start(self, pages, limit):
        raise ValueError("no")


class Nobody(SecondChance):
    def choose(self):
        return None


class Shy(SecondChance):
    """Chooses none every other time it is asked."""

    asked = 0

    def choose(self):
        self.asked += 1
        return super().choose() if self.asked % 2 == 0 else None


class Next(Prefetcher):
    def fault(self, page, write):
        for ahead in range(1, 9):
            self.prefetch(page + ahead, marked=ahead == 4)
