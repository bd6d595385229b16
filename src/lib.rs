//! mixc: a compiler for long-sequence models.
