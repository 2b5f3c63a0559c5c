"""Policies written in Python, through the same hooks as the ones in C.

Subclass EvictionPolicy or Prefetcher and give the class (or an instance, or
"mymodule:MyPolicy") where a policy's name is taken. A hook that a class does not
override stays in C: a policy that needs no `touch` pays nothing for hits. A callback
costs about a third of a microsecond.

An exception raised in a hook ends the event under way and comes out of the Pager method
that was called, as itself; a run ends with a PolicyError that has it as its cause. The
pager's own state stays consistent: a `choose` that raised chose nothing.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from typing import Any

from edm_policy._core import ffi, lib
from edm_policy.errors import PolicyError, UsageError

OBSERVE: tuple[str, ...] = ("faults", "idle", "exact")


class _Again(Exception):
    """Ends choose(): the marks given so far must be carried out first."""


class _Hooked:
    """What evictors and prefetchers in Python have in common."""

    name = ""
    _pager: Any = None
    _error: BaseException | None = None
    _driven = False  # by a run that ends soon after an error, and until then must go on
    _over = False

    def __repr__(self) -> str:
        return self.name or type(self).__name__

    def start(self, pages: int, limit: int) -> None:
        """Called once, before anything else: the region's and the limit's size in pages."""

    def _fail(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error
        self._over = self._driven
        lib.edm_stop(self._pager)

    def attach(self, pager: Any, pages: int, driven: bool = False) -> None:
        """Called by who made the pager (an edm_pager *).

        driven: threads are at work on it that cannot be told of an error at once. After one,
        no hook is called any more, and any page is chosen, so that they reach their end.
        """
        self._pager, self._driven, self._over = pager, driven, False
        self.start(pages, self.limit)

    def begin(self, pager: Any, pages: int) -> None:
        """attach() for a run; a start() that raises is a PolicyError, too."""
        try:
            self.attach(pager, pages, driven=True)
        except Exception as error:
            self._error = error
        self.raise_policy_error()

    def raise_error(self) -> None:
        """Raises what a hook raised since the last call, if anything."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def raise_policy_error(self) -> None:
        """The same as a PolicyError, which says in one line where it was raised."""
        try:
            self.raise_error()
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            raise PolicyError(
                f"policy {self!r}: {type(error).__name__}: {error} (in {where.name}, "
                f"{where.filename}:{where.lineno}); the run was ended, mend the policy"
            ) from error

    @property
    def limit(self) -> int:
        """The limit in pages as it is now."""
        return int(lib.edm_limit_now(self._pager))


class EvictionPolicy(_Hooked):
    """An eviction policy in Python.

    needs: the least observation it can live with, "faults", "idle" or "exact"; best: the
    one it is made for. Pages are ints below the region's size. Override insert, choose
    and remove; the others as needed.
    """

    needs = "faults"
    best = "idle"

    def miss(self, page: int) -> None:
        """A fault on a page that is not resident, before room is made for it."""

    def insert(self, page: int) -> None:
        """The page is resident now."""
        raise NotImplementedError(f"{type(self).__name__}.insert")

    def touch(self, page: int) -> None:
        """A use was seen: each one under exact observation, a rescue under idle.

        Without an override C notes the use, and used() knows of it. With one, the policy
        keeps count itself and used() says no under exact observation.
        """

    def choose(self) -> int | None:
        """Takes a victim out of the policy's own records and returns it; None if there is none.

        Ask self.used(page) whether a page was used since it was last asked about.
        """
        raise NotImplementedError(f"{type(self).__name__}.choose")

    def keep(self, page: int) -> None:
        """A chosen page stays after all; by default it is inserted anew."""
        self.insert(page)

    def remove(self, page: int) -> None:
        """The page leaves by another way (a discard, a recall)."""
        raise NotImplementedError(f"{type(self).__name__}.remove")

    def used(self, page: int) -> bool:
        """Inside choose(): was the page used since it was last asked about?

        exact: yes or no. idle: a mapped page counts as used and is marked idle now; one
        found untouched since its mark was not. faults: never seen, so no.
        """
        answer = lib.edm_ask_used(self._pager, page)
        if answer == 2:
            raise _Again
        return bool(answer)

    def struct(self) -> Any:
        cls = type(self)
        hooks = 0
        for method, bit in (
            ("miss", lib.EDM_HOOK_MISS),
            ("touch", lib.EDM_HOOK_TOUCH),
            ("keep", lib.EDM_HOOK_KEEP),
        ):
            if getattr(cls, method) is not getattr(EvictionPolicy, method):
                hooks |= bit
        self._name = ffi.new("char[]", repr(self).encode())
        e = ffi.new("edm_evictor *")
        lib.edm_custom_evictor(
            e, self._name, OBSERVE.index(self.needs), OBSERVE.index(self.best), hooks
        )
        return e


class Prefetcher(_Hooked):
    """A prefetcher in Python: override fault(), and call self.prefetch(page) in it."""

    def fault(self, page: int, write: bool) -> None:
        """After a miss, or the first use of a prefetched page that was seen."""
        raise NotImplementedError(f"{type(self).__name__}.fault")

    def used(self, page: int) -> None:
        """A prefetched page was seen used."""

    def unused(self, page: int) -> None:
        """A prefetched page left without being seen used."""

    def prefetch(self, page: int, marked: bool = False) -> bool:
        """Inside fault(): asks for a page. False if it is not in the store, or there is no room.

        marked: its first use will be seen under every observation, and calls fault() again; it
        costs that use a rescue. Mark one page of a window, to be asked for the next in time.
        """
        ask = lib.edm_prefetch_marked if marked else lib.edm_prefetch
        return 0 <= page < 2**32 and bool(ask(self._pager, page))

    def struct(self) -> Any:
        cls = type(self)
        hooks = lib.EDM_HOOK_USED if cls.used is not Prefetcher.used else 0
        hooks |= lib.EDM_HOOK_UNUSED if cls.unused is not Prefetcher.unused else 0
        self._name = ffi.new("char[]", repr(self).encode())
        f = ffi.new("edm_prefetcher *")
        lib.edm_custom_prefetcher(f, self._name, hooks)
        return f


def spec(policy: object) -> str:
    """What load_policy() makes this policy of: "module:Class"."""
    return f"{type(policy).__module__}:{type(policy).__qualname__}"


def load_policy(spec: Any, base: type[_Hooked]) -> Any:
    """The policy object for "module:Class", a class, or an instance; None for a plain name.

    Raises UsageError when the module or class cannot be had.
    """
    if isinstance(spec, base):
        return spec
    if isinstance(spec, type) and issubclass(spec, base):
        return spec()
    if not isinstance(spec, str) or ":" not in spec or "=" in spec:
        return None
    module, _, name = spec.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # the user's own folder, as with python -m
    try:
        cls = getattr(importlib.import_module(module), name)
    except ImportError as e:
        raise UsageError(f"policy {spec}: {e}; write it as module:Class, importable here") from e
    except AttributeError as e:
        raise UsageError(f"policy {spec}: {module} has no {name}") from e
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise UsageError(f"policy {spec}: must be a subclass of edm_policy.{base.__name__}")
    return cls()


def _relay(c_name: str, method: str) -> None:
    """Makes C's callback `c_name` call the policy's method with the page."""

    def relay(ctx: Any, page: int) -> None:
        policy = ffi.from_handle(ctx)
        if policy._over:
            return
        try:
            getattr(policy, method)(page)
        except BaseException as e:  # whatever it is, it must not unwind through C
            policy._fail(e)

    ffi.def_extern(name=c_name)(relay)


for _method in ("miss", "insert", "touch", "keep", "remove"):
    _relay(f"edm_py_{_method}", _method)
for _method in ("used", "unused"):
    _relay(f"edm_py_pf_{_method}", _method)


def _choose(policy: Any) -> int:
    try:
        page = policy.choose()
        if page is None:
            return int(lib.EDM_NONE)
        if not lib.edm_may_leave(policy._pager, page):
            raise ValueError(f"{type(policy).__name__}.choose() returned {page!r}: not resident")
        return int(page)
    except _Again:
        return int(lib.EDM_AGAIN)
    except BaseException as e:
        policy._fail(e)
        return int(lib.EDM_NONE)


@ffi.def_extern(error=int(lib.EDM_NONE))
def edm_py_choose(ctx: Any) -> int:
    policy = ffi.from_handle(ctx)
    page = int(lib.EDM_NONE) if policy._over else _choose(policy)
    return int(lib.edm_any_victim(policy._pager)) if policy._over else page


@ffi.def_extern()
def edm_py_pf_fault(ctx: Any, page: int, write: int) -> None:
    policy = ffi.from_handle(ctx)
    if policy._over:
        return
    try:
        policy.fault(page, bool(write))
    except BaseException as e:
        policy._fail(e)
