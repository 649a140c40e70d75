//! Why the gate answered a request by itself: the value of `X-Portcullis-Reason` and the label of the refusal counter.

use http::StatusCode;

/// The header that every answer of the gate itself carries.
pub const HEADER: &str = "x-portcullis-reason";

/// Why the gate, and not the app, answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The gate is closed and will not hold requests.
    Closed,
    /// As many requests are held as may be.
    HoldFull,
    /// The held requests take as many bytes as they may.
    HoldBytes,
    /// The request was held for as long as it may be.
    HoldTimeout,
    /// The ramp's step was full and the settings say to refuse.
    RampFull,
    /// As many connections are open as may be.
    TooManyConnections,
    /// The drain's deadline passed.
    Drained,
    /// Nothing listens on the app's port.
    AppRefused,
    /// The app could not be reached.
    AppUnreachable,
    /// The app closed or reset the connection before it answered.
    AppReset,
    /// What the app answered is not HTTP, or not HTTP that has one meaning.
    AppGarbage,
    /// The request is not HTTP, or not HTTP that has one meaning.
    BadRequest,
    /// The request's head is larger than the gate reads, or has more fields.
    HeadTooLarge,
    /// The request's head did not arrive in time.
    HeadTimeout,
    /// The request's transfer coding is none that the gate can frame.
    TransferCoding,
    /// The method is CONNECT: the gate is no forward proxy.
    Connect,
}

// === impl Reason ===

impl Reason {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 16] = [
        Self::Closed,
        Self::HoldFull,
        Self::HoldBytes,
        Self::HoldTimeout,
        Self::RampFull,
        Self::TooManyConnections,
        Self::Drained,
        Self::AppRefused,
        Self::AppUnreachable,
        Self::AppReset,
        Self::AppGarbage,
        Self::BadRequest,
        Self::HeadTooLarge,
        Self::HeadTimeout,
        Self::TransferCoding,
        Self::Connect,
    ];

    /// The reason as callers and metrics see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HoldFull => "hold_full",
            Self::HoldBytes => "hold_bytes",
            Self::HoldTimeout => "hold_timeout",
            Self::RampFull => "ramp_full",
            Self::TooManyConnections => "too_many_connections",
            Self::Drained => "drained",
            Self::AppRefused => "app_refused",
            Self::AppUnreachable => "app_unreachable",
            Self::AppReset => "app_reset",
            Self::AppGarbage => "app_garbage",
            Self::BadRequest => "bad_request",
            Self::HeadTooLarge => "head_too_large",
            Self::HeadTimeout => "head_timeout",
            Self::TransferCoding => "transfer_coding",
            Self::Connect => "connect",
        }
    }

    /// The HTTP status of an answer with this reason.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Closed
            | Self::HoldFull
            | Self::HoldBytes
            | Self::HoldTimeout
            | Self::RampFull
            | Self::TooManyConnections
            | Self::Drained
            | Self::AppRefused
            | Self::AppUnreachable => StatusCode::SERVICE_UNAVAILABLE,
            Self::AppReset | Self::AppGarbage => StatusCode::BAD_GATEWAY,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::HeadTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    /// Whether no byte of the request reached the app, so that the caller may send it again whatever its method.
    pub fn may_retry(self) -> bool {
        self.status() == StatusCode::SERVICE_UNAVAILABLE
    }

    /// The place of this reason in [`Self::ALL`].
    pub(super) fn index(self) -> usize {
        Self::ALL
            .iter()
            .position(|reason| *reason == self)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_reason_has_a_name_and_a_place_of_its_own() {
        let names: HashSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), place, "{reason:?}");
        }
    }

    #[test]
    fn only_what_never_reached_the_app_may_be_sent_again() {
        assert!(Reason::HoldTimeout.may_retry());
        assert!(Reason::AppRefused.may_retry());
        assert!(!Reason::AppReset.may_retry());
        assert!(!Reason::BadRequest.may_retry());
    }
}
