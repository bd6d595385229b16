//! Sentence embeddings with MiniLM-L6.
fn main() {}
