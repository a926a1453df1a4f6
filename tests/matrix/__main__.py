"""Draws the tables of docs/security.md again."""

from tests.matrix.policy import read
from tests.matrix.table import SECURITY, redrawn

SECURITY.write_text(redrawn(SECURITY.read_text(), read()))
