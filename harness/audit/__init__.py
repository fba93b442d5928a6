"""A second look at what is stored: the numbers anew from the bits, the files against their digests.

Nothing here goes through `harness.standings`, whose results it judges, but for `drawings`, which
compares files with what they were made by.
"""

from harness.audit.drawings import drawing_problems
from harness.audit.files import file_problems
from harness.audit.numbers import number_problems
from harness.audit.pages import page_problems

__all__ = ["drawing_problems", "file_problems", "number_problems", "page_problems"]
