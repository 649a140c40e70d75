//! Why a check failed, in words for the person on call.

use std::{fmt, io, time::Duration};

/// Why a check failed. Holds no secret by construction: what the other side or a library says is
/// never quoted, only sorted into known words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure(String);

// === impl Failure ===

impl Failure {
    /// What is checked, and what is wrong with it.
    pub(super) fn new(subject: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self(format!("{subject}: {problem}"))
    }

    pub(super) fn io(subject: impl fmt::Display, error: &io::Error) -> Self {
        Self::new(subject, describe(error))
    }

    pub(super) fn late(subject: impl fmt::Display, timeout: Duration) -> Self {
        let timeout = humantime::format_duration(timeout);
        Self::new(subject, format_args!("no answer within {timeout}"))
    }

    /// A sentence of its own.
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

/// The words for an error of the operating system, without its number.
pub(in crate::gate) fn describe(error: &io::Error) -> String {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the rest keep the system's own words"
    )]
    let known = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset => "connection reset",
        io::ErrorKind::HostUnreachable => "host unreachable",
        io::ErrorKind::NetworkUnreachable => "network unreachable",
        io::ErrorKind::NotFound => "does not exist",
        io::ErrorKind::PermissionDenied => "permission denied",
        io::ErrorKind::TimedOut => "timed out",
        io::ErrorKind::UnexpectedEof => "connection closed in mid-answer",
        io::ErrorKind::IsADirectory => "is a directory",
        _ => return without_number(&error.to_string()).to_owned(),
    };
    known.to_owned()
}

/// `std` ends the text of a system error with ` (os error N)`.
fn without_number(text: &str) -> &str {
    text.split_once(" (os error")
        .map_or(text, |(words, _)| words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_it_in_words() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(
            Failure::io("postgres shop-db:5432", &refused).into_text(),
            "postgres shop-db:5432: connection refused"
        );
        let other = io::Error::from_raw_os_error(24);
        assert_eq!(describe(&other), "Too many open files");
    }
}
