//! Answers that the gate itself makes over HTTP/1.

use crate::gate::reason::Reason;

/// Seconds after which a refused client may come again. A gate that opens does so within seconds,
/// and the queue that refused it has a place as soon as one request is answered.
pub(super) const RETRY_AFTER: &str = "1";

/// A whole answer with this reason. `closing` says that the connection ends with it; to a HEAD the
/// answer has no body.
pub(super) fn answer(reason: Reason, closing: bool, is_head: bool) -> Vec<u8> {
    let status = reason.status();
    let text = text(reason);
    let mut answer = format!(
        "HTTP/1.1 {} {}\r\nX-Portcullis-Reason: {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n",
        status.as_str(),
        status.canonical_reason().unwrap_or_default(),
        reason.as_str(),
        text.len(),
    );
    if reason.may_retry() {
        answer += "Retry-After: ";
        answer += RETRY_AFTER;
        answer += "\r\n";
    }
    if reason == Reason::Connect {
        // RFC 9110, section 15.5.6: a 405 names what is allowed; an empty list names nothing.
        answer += "Allow:\r\n";
    }
    if closing {
        answer += "Connection: close\r\n";
    }
    answer += "\r\n";
    if !is_head {
        answer += &text;
    }
    answer.into_bytes()
}

/// What a person reads who asked by hand.
pub(super) fn text(reason: Reason) -> String {
    format!("portcullis-gate: {}\n", reason.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_makes_a_whole_answer() {
        for reason in Reason::ALL {
            let answer = String::from_utf8(answer(reason, true, false)).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(
                head.contains(&format!("X-Portcullis-Reason: {}", reason.as_str())),
                "{head}"
            );
            assert!(
                head.contains(&format!("Content-Length: {}", body.len())),
                "{head}"
            );
            assert_eq!(head.contains("Retry-After"), reason.may_retry(), "{head}");
        }
    }

    #[test]
    fn a_head_gets_no_body() {
        let answer = String::from_utf8(answer(Reason::HoldFull, false, true)).unwrap();
        assert!(
            answer.ends_with("\r\n\r\n") && !answer.contains("close"),
            "{answer}"
        );
    }
}
