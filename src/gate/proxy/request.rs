//! A client's request head: read strictly, and written anew for the app.

use std::mem::MaybeUninit;

use httparse::{Header, Status};

use super::{
    body::Body,
    fields::{self, Connection, Field, Several},
};
use crate::gate::reason::Reason;

/// Largest head: as much as nginx reads by default (four buffers of 8 KiB).
pub(super) const MAX_HEAD: usize = 32 * 1024;

/// Most fields in a head: what hyper and Apache httpd allow.
pub(super) const MAX_FIELDS: usize = 100;

/// What the gate has to know about a request once its head is written for the app.
#[expect(
    clippy::struct_excessive_bools,
    reason = "five facts, no two of which exclude each other"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) body: Body,
    /// A response has no body, whatever its fields say.
    pub(super) is_head: bool,
    /// Sending it twice does what sending it once does (RFC 9110, section 9.2.2).
    pub(super) is_idempotent: bool,
    /// The client speaks HTTP/1.0: it knows neither chunks nor interim responses.
    pub(super) is_http10: bool,
    /// The client would send another request on this connection.
    pub(super) keep_alive: bool,
    /// The client asks for another protocol, and the gate passed that on.
    pub(super) upgrade: bool,
}

/// What the first line for the app and `Host` are made of.
struct Line<'a> {
    method: &'a str,
    /// `None` when the request's own `Host` stands.
    host: Option<&'a [u8]>,
    /// Without a leading slash if the target had no path but a query.
    path: &'a [u8],
}

impl From<Several> for Reason {
    fn from(Several: Several) -> Self {
        Self::BadRequest
    }
}

// === impl Request ===

impl Request {
    /// Whether it may be sent again after it may have been read: the same once and twice, and with
    /// nothing in it that is gone when it was sent.
    pub(super) fn may_repeat(&self) -> bool {
        self.is_idempotent && self.body.is_done()
    }
}

/// Reads a head from the start of `input` and writes it for the app to `out`.
///
/// Returns its length with the request, or nothing when the head is not complete. `app` is what
/// a request of HTTP/1.0 without `Host` is sent to.
pub(super) fn read(
    input: &[u8],
    app: &str,
    out: &mut Vec<u8>,
) -> Result<Option<(usize, Request)>, Reason> {
    let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(input, &mut slots) {
        Ok(Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(Status::Partial) if input.len() < MAX_HEAD => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Reason::HeadTooLarge),
        Err(_) => return Err(Reason::BadRequest),
    };
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Reason::BadRequest);
    };
    if !input
        .get(..length)
        .is_some_and(fields::ends_lines_with_crlf)
    {
        return Err(Reason::BadRequest);
    }
    let is_http10 = version == 0;
    let mut line = read_target(method, target)?;
    let connection = Connection::read(parsed.headers);
    let body = framing(parsed.headers, is_http10)?;
    if !has_host(parsed.headers, is_http10)? {
        line.host = line.host.or(Some(app.as_bytes()));
    }
    let upgrade = !is_http10 && connection.upgrade && asks_for_tunnel(parsed.headers);
    let request = Request {
        body,
        is_head: method == "HEAD",
        is_idempotent: matches!(
            method,
            "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"
        ),
        is_http10,
        keep_alive: !connection.close && (!is_http10 || connection.keep_alive),
        upgrade,
    };
    write(out, &request, &line, parsed.headers, &connection);
    Ok(Some((length, request)))
}

fn write(
    out: &mut Vec<u8>,
    request: &Request,
    line: &Line<'_>,
    headers: &[Header<'_>],
    connection: &Connection<'_>,
) {
    out.clear();
    out.extend_from_slice(line.method.as_bytes());
    out.push(b' ');
    if !matches!(line.path.first(), Some(b'/' | b'*')) {
        out.push(b'/');
    }
    out.extend_from_slice(line.path);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(host) = line.host {
        fields::write_line(out, b"Host", host);
    }
    let mut trailers = false;
    for header in headers {
        let pass = match fields::classify(header.name) {
            Field::Connection | Field::KeepAlive | Field::Portcullis => false,
            Field::Host => line.host.is_none(),
            Field::Upgrade => request.upgrade,
            // HTTP/1.0 has no interim responses (RFC 9110, section 10.1.1).
            Field::Expect => !request.is_http10,
            // Checked already: they frame the body that is passed on as it comes.
            Field::ContentLength | Field::TransferEncoding => true,
            Field::Te => {
                trailers |= fields::elements(header.value)
                    .any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
                false
            }
            Field::Other => !connection.names(header.name),
        };
        if pass {
            fields::write_line(out, header.name.as_bytes(), header.value);
        }
    }
    if trailers {
        fields::write_line(out, b"TE", b"trailers");
    }
    let options: [(bool, &[u8]); 3] = [
        (request.upgrade, b"Upgrade"),
        (trailers, b"TE"),
        (!request.keep_alive, b"close"),
    ];
    let mut separator: &[u8] = b"Connection: ";
    for (_, option) in options.iter().filter(|(say, _)| *say) {
        out.extend_from_slice(separator);
        out.extend_from_slice(option);
        separator = b", ";
    }
    if separator == b", " {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Takes origin-form, `*` for OPTIONS, and absolute-form, which is rebuilt (RFC 9112, section 3.2).
fn read_target<'a>(method: &'a str, target: &'a str) -> Result<Line<'a>, Reason> {
    if method == "CONNECT" {
        return Err(Reason::Connect);
    }
    // A target has no fragment; some readers would cut it there.
    if target.contains('#') {
        return Err(Reason::BadRequest);
    }
    match target.as_bytes() {
        path @ [b'/', ..] => Ok(Line {
            method,
            host: None,
            path,
        }),
        path @ b"*" if method == "OPTIONS" => Ok(Line {
            method,
            host: None,
            path,
        }),
        absolute => {
            let rest = ["http://", "https://"]
                .iter()
                .find_map(|scheme| {
                    let (start, rest) = absolute.split_at_checked(scheme.len())?;
                    start
                        .eq_ignore_ascii_case(scheme.as_bytes())
                        .then_some(rest)
                })
                .ok_or(Reason::BadRequest)?;
            let end = rest
                .iter()
                .position(|byte| b"/?".contains(byte))
                .unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            if authority.is_empty() || !fields::is_host(authority) {
                return Err(Reason::BadRequest);
            }
            let path = if path.is_empty() && method == "OPTIONS" {
                b"*"
            } else {
                path
            };
            Ok(Line {
                method,
                host: Some(authority),
                path,
            })
        }
    }
}

/// How the body is framed (RFC 9112, section 6.3), or a refusal where two readers could differ.
fn framing(headers: &[Header<'_>], is_http10: bool) -> Result<Body, Reason> {
    let length = fields::single(headers, Field::ContentLength)?;
    let coding = fields::single(headers, Field::TransferEncoding)?;
    match (length, coding) {
        (None, None) => Ok(Body::Length(0)),
        (Some(length), None) => fields::content_length(length)
            .map(Body::Length)
            .ok_or(Reason::BadRequest),
        (None, Some(coding)) if !is_http10 => match coding {
            chunked if chunked.eq_ignore_ascii_case(b"chunked") => Ok(Body::chunked()),
            compressed if ends_in_one_chunked(compressed) => Err(Reason::TransferCoding),
            _ => Err(Reason::BadRequest),
        },
        _ => Err(Reason::BadRequest),
    }
}

/// A list of registered codings that ends in the only `chunked`: legal, though nobody sends it.
fn ends_in_one_chunked(codings: &[u8]) -> bool {
    const COMPRESSIONS: [&[u8]; 5] = [b"compress", b"deflate", b"gzip", b"x-compress", b"x-gzip"];
    let mut codings: Vec<_> = fields::elements(codings).collect();
    codings
        .pop()
        .is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"))
        && codings.iter().all(|coding| {
            COMPRESSIONS
                .iter()
                .any(|compression| compression.eq_ignore_ascii_case(coding))
        })
}

/// Whether there is a `Host`: exactly one that is one; HTTP/1.0 may have none (RFC 9112, section 3.2).
fn has_host(headers: &[Header<'_>], is_http10: bool) -> Result<bool, Reason> {
    match fields::single(headers, Field::Host)? {
        Some(host) if fields::is_host(host) => Ok(true),
        None if is_http10 => Ok(false),
        Some(_) | None => Err(Reason::BadRequest),
    }
}

/// Whether `Upgrade` names a protocol that may become a tunnel.
///
/// Not `h2c`, whose requests would then pass the gate unseen, and not `TLS/1.2`, which
/// Apache HttpClient 5 offers to every server: without the field both go on as HTTP/1.1.
fn asks_for_tunnel(headers: &[Header<'_>]) -> bool {
    let mut protocols = headers
        .iter()
        .filter(|field| fields::classify(field.name) == Field::Upgrade)
        .flat_map(|field| fields::elements(field.value))
        .peekable();
    protocols.peek().is_some()
        && protocols.all(|protocol| {
            let is = |name: &[u8]| {
                protocol
                    .get(..name.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(name))
            };
            !is(b"h2c") && !is(b"tls")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(head: &str) -> (String, Request) {
        let mut out = Vec::new();
        let (length, request) = read(head.as_bytes(), "app:81", &mut out).unwrap().unwrap();
        assert_eq!(length, head.len());
        (String::from_utf8(out).unwrap(), request)
    }

    fn refusal(head: &str) -> Reason {
        match read(head.as_bytes(), "app:81", &mut Vec::new()) {
            Err(reason) => reason,
            Ok(read) => panic!("{head:?} was read: {read:?}"),
        }
    }

    #[test]
    fn keeps_order_case_and_values() {
        let head =
            "PATCH /a?b=%20 HTTP/1.1\r\nhOsT: shop\r\nX-b: 1\r\nx-B:   2  \r\nEmpty:\r\n\r\n";
        let (out, request) = pass(head);
        assert_eq!(
            out,
            "PATCH /a?b=%20 HTTP/1.1\r\nhOsT: shop\r\nX-b: 1\r\nx-B: 2\r\nEmpty: \r\n\r\n"
        );
        assert!(request.keep_alive && !request.is_idempotent);
        assert_eq!(request.body, Body::Length(0));
    }

    #[test]
    fn drops_what_ends_at_this_hop() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-one, Keep-Alive\r\nX-One: 1\r\n\
                    Keep-Alive: 5\r\nProxy-Connection: close\r\nTE: deflate, trailers\r\n\
                    Connection: X-Two, authorization\r\nAuthorization: b\r\nx-two: 2\r\n\
                    X-Portcullis-Warmup: 1\r\nX_Portcullis_Reason: x\r\n\r\n";
        let (out, _) = pass(head);
        assert_eq!(
            out,
            "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: b\r\nTE: trailers\r\n\
             Connection: TE\r\n\r\n"
        );
    }

    #[test]
    fn serves_http10() {
        let (out, request) = pass("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(
            out,
            "GET / HTTP/1.1\r\nHost: app:81\r\nConnection: close\r\n\r\n"
        );
        assert!(request.is_http10 && !request.keep_alive);
        let (_, request) = pass("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
        assert!(request.keep_alive);
    }

    #[test]
    fn rebuilds_an_absolute_target() {
        for (target, line, host) in [
            ("http://b:8/x?y", "GET /x?y", "b:8"),
            ("HTTPS://b", "GET /", "b"),
            ("http://b?q", "GET /?q", "b"),
        ] {
            let (out, _) = pass(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(out, format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        }
        let (out, _) = pass("OPTIONS http://b HTTP/1.1\r\nHost: b\r\n\r\n");
        assert!(out.starts_with("OPTIONS * HTTP/1.1\r\n"), "{out}");
    }

    #[test]
    fn passes_on_only_upgrades_that_are_tunnels() {
        let upgrade = |to: &str| {
            pass(&format!(
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {to}\r\n\r\n"
            ))
        };
        let (out, request) = upgrade("websocket");
        assert!(request.upgrade);
        assert!(
            out.contains("Upgrade: websocket\r\nConnection: Upgrade\r\n"),
            "{out}"
        );
        for not in ["h2c", "TLS/1.2", "tls/1.0, HTTP/1.1", ""] {
            let (out, request) = upgrade(not);
            assert!(!request.upgrade && !out.contains("pgrade"), "{not}: {out}");
        }
        let (out, request) = pass("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n");
        assert!(
            !request.upgrade && !out.contains("pgrade"),
            "not named by Connection: {out}"
        );
    }

    #[test]
    fn frames_bodies() {
        let (_, request) = pass("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n");
        assert_eq!(request.body, Body::Length(7));
        let (_, request) = pass("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n");
        assert_eq!(request.body, Body::chunked());
    }

    #[test]
    fn refuses_what_two_readers_could_read_differently() {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: \r\n",
            "Content-Length : 5\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: identity, chunked\r\n",
            "Transfer-Encoding: chunked, gzip\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: \"chunked\"\r\n",
            "Transfer-Encoding:\r\n",
            "Transfer-Encoding: \x0bchunked\r\n",
            "Host: b\r\n",
            "A: b\nC: d\r\n",
            "A: b\r\n folded\r\n",
            "A: b\0c\r\n",
            "A: b\rC: d\r\n",
            " A: b\r\n",
            "A b: c\r\n",
            ": c\r\n",
            "A\r\n",
        ] {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            assert_eq!(refusal(&head), Reason::BadRequest, "{fields:?}");
        }
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET http://u@b/ HTTP/1.1\r\nHost: b\r\n\r\n",
            "GET http:///x HTTP/1.1\r\nHost: b\r\n\r\n",
            "GET ftp://b/ HTTP/1.1\r\nHost: b\r\n\r\n",
            "GET b:80 HTTP/1.1\r\nHost: b\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: b\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nHost: b\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: b\r\n\r\n",
            "GET / HTTP/1.2\r\nHost: b\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: b\r\n\r\n",
            "GET /\r\n\r\n",
            "GET / HTTP/1.1\nHost: b\r\n\r\n",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "G@T / HTTP/1.1\r\nHost: b\r\n\r\n",
        ] {
            assert_eq!(refusal(head), Reason::BadRequest, "{head:?}");
        }
    }

    #[test]
    fn says_why_it_will_not_pass_what_is_legal() {
        let connect = "CONNECT b:80 HTTP/1.1\r\nHost: b:80\r\n\r\n";
        assert_eq!(refusal(connect), Reason::Connect);
        let gzip = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
        assert_eq!(refusal(gzip), Reason::TransferCoding);
        let fields = "A: b\r\n".repeat(MAX_FIELDS);
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        assert_eq!(refusal(&many), Reason::HeadTooLarge);
        let large = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}", "b".repeat(MAX_HEAD));
        assert_eq!(refusal(&large), Reason::HeadTooLarge);
    }

    #[test]
    fn waits_for_the_rest() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for end in 0..head.len() {
            assert_eq!(
                read(&head[..end], "app:81", &mut Vec::new()),
                Ok(None),
                "{end}"
            );
        }
    }
}
