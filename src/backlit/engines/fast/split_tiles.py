"""How numbers lie that a matrix unit multiplies.

Tiles are 16 lines of 64 bytes: one of A has 16 rows of 32 terms; one of B has 16 columns of 16 pairs of terms. Term t
makes a pair with t + 16, in both, or 2t with 2t + 1. Tiles lie together by steps of 32 terms: two for each part, 6 KB.
"""

LINES = 16
"""Lines of a tile, and numbers of 32 bits in each of them."""
TERMS = 2 * LINES
"""Terms of a sum in a tile."""
TILE = LINES * 64
"""Bytes of a tile."""
PARTS = 3
"""Numbers of bfloat16 that a float32 is split in."""
STEP = 2 * PARTS * TILE
"""Bytes of two tiles' parts."""
