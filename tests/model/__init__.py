"""A plain Python model of the pager, written from pager.h's contract, and a world to drive both."""
