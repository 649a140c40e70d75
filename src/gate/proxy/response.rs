//! The app's response head: read, and written anew for the client.

use std::mem::MaybeUninit;

use httparse::{Header, Status};

use super::{
    body::Body,
    fields::{self, Connection, Field, Several},
    request::{MAX_FIELDS, MAX_HEAD, Request},
};

/// What the gate has to know about a response once its head is written for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: Body,
    /// The app would answer another request on this connection.
    pub(super) app_keeps: bool,
    /// The client may send another request on this connection; the head says so.
    pub(super) client_keeps: bool,
}

/// What the app sent is no response of HTTP/1 with one meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the app's answer is not HTTP/1 with one meaning")]
pub(super) struct Garbage;

impl From<Several> for Garbage {
    fn from(Several: Several) -> Self {
        Self
    }
}

/// Reads a head from the start of `input` and writes it for the client to `out`.
///
/// Returns its length with the response, or nothing when the head is not complete. `closing` is
/// whether the client's connection ends with this exchange for reasons of the gate's own.
pub(super) fn read(
    input: &[u8],
    request: &Request,
    closing: bool,
    out: &mut Vec<u8>,
) -> Result<Option<(usize, Response)>, Garbage> {
    let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, input, &mut slots) {
        Ok(Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(Status::Partial) if input.len() < MAX_HEAD => return Ok(None),
        Ok(_) | Err(_) => return Err(Garbage),
    };
    let (Some(status), Some(version)) = (parsed.code, parsed.version) else {
        return Err(Garbage);
    };
    let connection = Connection::read(parsed.headers);
    let body = framing(parsed.headers, status, request)?;
    let app_keeps =
        body != Body::UntilClose && !connection.close && (version == 1 || connection.keep_alive);
    // Chunks are taken apart for a client of HTTP/1.0, and only the end of the connection then
    // says where the body ends.
    let frames = !(request.is_http10 && matches!(body, Body::Chunked(_)));
    let client_keeps = request.keep_alive && !closing && frames && body != Body::UntilClose;
    let response = Response {
        status,
        body,
        app_keeps,
        client_keeps,
    };
    write(out, &response, &parsed, &connection, request);
    Ok(Some((length, response)))
}

fn write(
    out: &mut Vec<u8>,
    response: &Response,
    parsed: &httparse::Response<'_, '_>,
    connection: &Connection<'_>,
    request: &Request,
) {
    let &Response {
        status,
        client_keeps,
        ..
    } = response;
    let tunnel = status == 101;
    out.clear();
    out.extend_from_slice(b"HTTP/1.1 ");
    write_status(out, status);
    out.push(b' ');
    out.extend_from_slice(parsed.reason.unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for header in &*parsed.headers {
        let pass = match fields::classify(header.name) {
            Field::Connection | Field::KeepAlive | Field::Te => false,
            Field::Upgrade => tunnel,
            Field::TransferEncoding => !request.is_http10,
            Field::ContentLength | Field::Expect | Field::Host | Field::Portcullis => true,
            Field::Other => !connection.names(header.name),
        };
        if pass {
            fields::write_line(out, header.name.as_bytes(), header.value);
        }
    }
    if tunnel {
        out.extend_from_slice(b"Connection: Upgrade\r\n");
    } else if status >= 200 && !client_keeps {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if status >= 200 && request.is_http10 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn write_status(out: &mut Vec<u8>, status: u16) {
    for unit in [100, 10, 1] {
        let digit = u8::try_from(status / unit % 10).unwrap_or_default();
        out.push(b'0' + digit);
    }
}

/// How the body is framed (RFC 9112, section 6.3).
fn framing(headers: &[Header<'_>], status: u16, request: &Request) -> Result<Body, Garbage> {
    let length = fields::single(headers, Field::ContentLength)?;
    let coding = fields::single(headers, Field::TransferEncoding)?;
    let length = length
        .map(|length| fields::content_length(length).ok_or(Garbage))
        .transpose()?;
    let chunked = match coding {
        None => false,
        Some(coding) if coding.eq_ignore_ascii_case(b"chunked") && length.is_none() => true,
        Some(_) => return Err(Garbage),
    };
    Ok(
        if request.is_head || status < 200 || matches!(status, 204 | 304) {
            Body::Length(0)
        } else if chunked {
            Body::chunked()
        } else {
            length.map_or(Body::UntilClose, Body::Length)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Request = Request {
        body: Body::Length(0),
        is_head: false,
        is_idempotent: true,
        is_http10: false,
        keep_alive: true,
        upgrade: false,
    };

    fn pass(head: &str, request: &Request, closing: bool) -> (String, Response) {
        let mut out = Vec::new();
        let (length, response) = read(head.as_bytes(), request, closing, &mut out)
            .unwrap()
            .unwrap();
        assert_eq!(length, head.len());
        (String::from_utf8(out).unwrap(), response)
    }

    #[test]
    fn keeps_order_case_and_reason() {
        let head = "HTTP/1.1 299 Fine so far\r\ncontent-LENGTH: 3\r\nSet-Cookie: a\r\nKeep-Alive: 5\
                    \r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nSet-Cookie: b\r\n\r\n";
        let (out, response) = pass(head, &GET, false);
        assert_eq!(
            out,
            "HTTP/1.1 299 Fine so far\r\ncontent-LENGTH: 3\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n"
        );
        let expected = Response {
            status: 299,
            body: Body::Length(3),
            app_keeps: true,
            client_keeps: true,
        };
        assert_eq!(response, expected);
    }

    #[test]
    fn says_when_the_connection_ends() {
        let (out, response) = pass("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", &GET, true);
        assert!(out.ends_with("Connection: close\r\n\r\n"), "{out}");
        assert!(response.app_keeps && !response.client_keeps);
        let (out, response) = pass("HTTP/1.0 200 OK\r\n\r\n", &GET, false);
        assert!(out.ends_with("Connection: close\r\n\r\n"), "{out}");
        assert_eq!(response.body, Body::UntilClose);
        assert!(!response.app_keeps);
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let (_, response) = pass(head, &GET, false);
        assert!(!response.app_keeps && response.client_keeps);
    }

    #[test]
    fn http10_gets_no_chunks() {
        let request = Request {
            is_http10: true,
            ..GET
        };
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (out, response) = pass(chunked, &request, false);
        assert_eq!(out, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        assert!(!response.client_keeps);
        let (out, _) = pass(
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n",
            &request,
            false,
        );
        assert!(out.ends_with("Connection: keep-alive\r\n\r\n"), "{out}");
    }

    #[test]
    fn some_responses_have_no_body_whatever_they_say() {
        let with_length = |status| format!("HTTP/1.1 {status} X\r\nContent-Length: 9\r\n\r\n");
        for status in [100, 101, 103, 204, 304] {
            let (_, response) = pass(&with_length(status), &GET, false);
            assert_eq!(response.body, Body::Length(0), "{status}");
        }
        let head = Request {
            is_head: true,
            ..GET
        };
        let (out, response) = pass(&with_length(200), &head, false);
        assert_eq!(response.body, Body::Length(0));
        assert!(out.contains("Content-Length: 9"), "{out}");
    }

    #[test]
    fn refuses_garbage() {
        for garbage in [
            "220 smtp.example ready\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA\0: b\r\n\r\n",
        ] {
            let read = read(garbage.as_bytes(), &GET, false, &mut Vec::new());
            assert_eq!(read, Err(Garbage), "{garbage:?}");
        }
    }
}
