//! What is given as files, folders and standard input: found, read as kubectl reads it, and taken apart into objects.

/// Files, folders, standard input.
pub(super) mod input;

/// Documents into objects.
pub(super) mod object;
