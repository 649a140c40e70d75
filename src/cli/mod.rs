//! The command line beside the server: the same rules on files, a rule explained, the settings' schema.

/// What a terminal is shown, and what a pipe.
mod terminal;

/// `portcullis check`.
pub mod check;

/// `portcullis explain`.
pub mod explain;

/// `portcullis settings`.
pub mod settings;

pub use terminal::Color;
