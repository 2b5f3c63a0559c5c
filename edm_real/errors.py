"""What can go wrong with a region, as exceptions."""

from __future__ import annotations

import errno
import os

from edm_policy.errors import CannotError, EdmError, UsageError


class PageLostError(EdmError):
    """A page's content could not be had from its store: the page is poisoned, never wrong."""

    def __init__(self, page: int, store: str, error: int):
        wrong = error == errno.EBADMSG
        why = "its bytes are not those that were stored" if wrong else os.strerror(error)
        super().__init__(f"page {page} is lost: store {store}: {why}; use no result made from it")
        self.page, self.store, self.errno = page, store, error


class WritebackError(EdmError):
    """Changed pages could not be written to the store. They stay in local memory."""


def open_error(code: int, why: str) -> EdmError:
    """The exception for what edm_region_open() answered: -errno, and its line."""
    if code in (-errno.EPERM, -errno.ENOSYS, -errno.EACCES):
        return CannotError(f"{why}; python -m edm_real doctor tells what is missing, and the fix")
    return UsageError(why) if code == -errno.EINVAL else EdmError(why)
