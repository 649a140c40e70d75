//! `grpc`: `grpc.health.v1.Health/Check` answers `SERVING`.
//!
//! The two messages have one field each, so they are written and read by hand:
//! <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{
    connection::{Target, drive},
    failure::Failure,
    http::describe_http,
};

/// A gRPC health check, ready to run.
#[derive(Debug)]
pub(super) struct Grpc {
    pub(super) target: Target,
    pub(super) service: String,
}

/// A health response is at most a few bytes.
const MAX_RESPONSE: usize = 1024;

/// Field 1 of `HealthCheckRequest`, `string service`: number 1, wire type 2 (length-delimited).
const SERVICE_TAG: u8 = 0x0a;

/// Field 1 of `HealthCheckResponse`, `ServingStatus status`: number 1, wire type 0 (varint).
const STATUS_TAG: u8 = 0x08;

/// `ServingStatus.SERVING`.
const SERVING: u8 = 1;

// === impl Grpc ===

impl Grpc {
    pub(super) fn subject(&self) -> String {
        let service = if self.service.is_empty() {
            "grpc health".to_owned()
        } else {
            format!("grpc health of {}", self.service)
        };
        match &self.target {
            Target::App(_) => service,
            Target::Host(..) => format!("{service} at {}", self.target.authority()),
        }
    }

    pub(super) async fn run(&self) -> Result<(), Failure> {
        let subject = self.subject();
        let stream = self.target.connect(&subject).await?;
        let broken = |error: hyper::Error| Failure::new(&subject, describe_http(&error));
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .map_err(broken)?;
        let answer = async {
            let request = self
                .request()
                .map_err(|error| Failure::new(&subject, error))?;
            let response = sender.send_request(request).await.map_err(broken)?;
            self.judge(response, &subject).await
        };
        drive(answer, connection).await
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, http::Error> {
        Request::post(format!(
            "http://{}/grpc.health.v1.Health/Check",
            self.target.authority()
        ))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(Full::new(encode(&self.service)))
    }

    async fn judge(
        &self,
        response: http::Response<hyper::body::Incoming>,
        subject: &str,
    ) -> Result<(), Failure> {
        let (head, body) = response.into_parts();
        if head.status != http::StatusCode::OK {
            return Err(Failure::new(subject, head.status.as_u16()));
        }
        let body = Limited::new(body, MAX_RESPONSE)
            .collect()
            .await
            .map_err(|_| Failure::new(subject, "the answer broke off"))?;
        let trailers = body.trailers().cloned().unwrap_or(head.headers);
        if let Some(problem) = refusal(&trailers) {
            return Err(Failure::new(subject, problem));
        }
        match decode(&body.to_bytes()) {
            Some(SERVING) => Ok(()),
            // `SERVICE_UNKNOWN` is 3, but only `Watch` answers it.
            Some(2) => Err(Failure::new(subject, "NOT_SERVING")),
            Some(_) => Err(Failure::new(subject, "status unknown")),
            None => Err(Failure::new(
                subject,
                "what it answers is no health response",
            )),
        }
    }
}

/// Length-prefixed message (gRPC over HTTP/2): not compressed, four bytes of length, the message.
fn encode(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(SERVICE_TAG);
        put_varint(&mut message, service.len());
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put(message);
    framed.freeze()
}

/// Seven bits a byte, the lowest first; the top bit says that more follow.
fn put_varint(to: &mut BytesMut, mut value: usize) {
    while value > 0x7f {
        to.put_u8(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    to.put_u8(u8::try_from(value).unwrap_or_default());
}

/// The status in a framed `HealthCheckResponse`. An empty message holds the default, 0 (unknown).
fn decode(framed: &[u8]) -> Option<u8> {
    match framed {
        [0, 0, 0, 0, 0] => Some(0),
        [0, 0, 0, 0, 2, STATUS_TAG, status] if *status < 0x80 => Some(*status),
        _ => None,
    }
}

/// What a `grpc-status` other than 0 means.
fn refusal(trailers: &HeaderMap) -> Option<String> {
    let status = trailers.get("grpc-status")?.to_str().ok()?;
    match status {
        "0" => None,
        "5" => Some("it knows no such service".to_owned()),
        "12" => Some("it does not implement grpc.health.v1".to_owned()),
        "14" => Some("UNAVAILABLE".to_owned()),
        status => Some(format!("grpc-status {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_as_protobuf_writes_it() {
        assert_eq!(encode("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(encode("ab").as_ref(), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = encode(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    }

    #[test]
    fn reads_the_status_and_nothing_else() {
        assert_eq!(decode(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(decode(&[0, 0, 0, 0, 0]), Some(0));
        for odd in [
            &[][..],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 2, 16, 1],
            &[0, 0, 0, 0, 9],
        ] {
            assert_eq!(decode(odd), None, "{odd:?}");
        }
    }
}
