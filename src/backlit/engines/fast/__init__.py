"""The fast engine: a graph becomes a listing of kernel calls on planned memory. The reference engine is its judge."""
