//! Header fields that concern the connection and not the app: which to drop, keep and check.

use std::str::from_utf8;

use httparse::Header;

/// What a field means to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Connection,
    ContentLength,
    Expect,
    Host,
    /// Hop-by-hop in practice, though no standard gives it a meaning end to end.
    KeepAlive,
    /// A mark that only the gate itself may set.
    Portcullis,
    Te,
    TransferEncoding,
    Upgrade,
    /// Everything that goes through as it is.
    Other,
}

/// What the `Connection` lines of one message say (RFC 9110, section 7.6.1).
#[derive(Debug, Default)]
pub(super) struct Connection<'a> {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
    /// Further fields that these lines name, and that end at this hop.
    named: Vec<&'a [u8]>,
}

/// Fields that a `Connection` line can't make the gate drop: the app relies on them to know who
/// asks for what, so a client must not be able to have them removed.
const PROTECTED: [&[u8]; 9] = [
    b"authorization",
    b"content-length",
    b"content-type",
    b"cookie",
    b"date",
    b"forwarded",
    b"host",
    b"origin",
    b"transfer-encoding",
];

/// Prefixes of protected fields.
const PROTECTED_PREFIXES: [&[u8]; 2] = [b"x-forwarded-", b"x-real-"];

/// The prefix of all fields that the gate itself sets.
const PORTCULLIS: &[u8] = b"x-portcullis-";

/// What a field of this name means.
pub(super) fn classify(name: &str) -> Field {
    let name = name.as_bytes();
    // By length first: most names are compared with nothing at all.
    let (known, field): (&[u8], Field) = match name.len() {
        2 => (b"te", Field::Te),
        4 => (b"host", Field::Host),
        6 => (b"expect", Field::Expect),
        7 => (b"upgrade", Field::Upgrade),
        10 if matches!(name.first(), Some(b'k' | b'K')) => (b"keep-alive", Field::KeepAlive),
        10 => (b"connection", Field::Connection),
        14 => (b"content-length", Field::ContentLength),
        16 => (b"proxy-connection", Field::KeepAlive),
        17 => (b"transfer-encoding", Field::TransferEncoding),
        _ => (b"", Field::Other),
    };
    if !known.is_empty() && name.eq_ignore_ascii_case(known) {
        field
    } else if is_portcullis(name) {
        Field::Portcullis
    } else {
        Field::Other
    }
}

/// A message has a field several times that it may have once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Several;

/// The value of a field that a message may have once. Two of them two readers read differently,
/// even if they are equal.
pub(super) fn single<'a>(
    headers: &[Header<'a>],
    field: Field,
) -> Result<Option<&'a [u8]>, Several> {
    let mut found = headers
        .iter()
        .filter(|header| classify(header.name) == field);
    let first = found.next();
    if found.next().is_some() {
        Err(Several)
    } else {
        Ok(first.map(|header| header.value))
    }
}

/// Whether `value` is `uri-host [":" port]` (RFC 9110, section 7.2), empty included.
///
/// Stricter than parsers of URIs, which take user info, paths and lists for part of a host.
pub(super) fn is_host(value: &[u8]) -> bool {
    let (host, port) = if value.first() == Some(&b'[') {
        match value.iter().position(|byte| *byte == b']') {
            Some(end) => value.split_at(end + 1),
            None => return false,
        }
    } else {
        let end = value
            .iter()
            .position(|byte| *byte == b':')
            .unwrap_or(value.len());
        value.split_at(end)
    };
    let port_is_number = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let host_is_name = match host {
        [b'[', address @ .., b']'] => {
            !address.is_empty()
                && address
                    .iter()
                    .all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte))
        }
        name => name.iter().all(|byte| is_reg_name(*byte)),
    };
    port_is_number && host_is_name && (!host.is_empty() || port.is_empty())
}

/// The one `Content-Length` of a message, or nothing when it is no plain number.
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    let plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    plain.then(|| from_utf8(value).ok()?.parse().ok()).flatten()
}

/// Whether a `Trailer` section may hold this field: none that frames, routes or is the gate's own
/// (RFC 9110, section 6.5.1).
pub(super) fn may_trail(name: &str) -> bool {
    classify(name) == Field::Other && !is_protected(name.as_bytes())
}

/// Writes a field as a line.
pub(super) fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Whether each line feed ends a CRLF. A lone one ends a line for some readers and not for others,
/// and `httparse` takes it for an end.
pub(super) fn ends_lines_with_crlf(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head)
        .all(|end| end.checked_sub(1).and_then(|before| head.get(before)) == Some(&b'\r'))
}

/// The elements of a comma-separated list.
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

// === impl Connection ===

impl<'a> Connection<'a> {
    /// Reads all `Connection` lines: the first alone would let the others' fields through.
    pub(super) fn read(fields: &[Header<'a>]) -> Self {
        let mut connection = Self::default();
        for field in fields
            .iter()
            .filter(|field| classify(field.name) == Field::Connection)
        {
            for element in elements(field.value) {
                if element.eq_ignore_ascii_case(b"close") {
                    connection.close = true;
                } else if element.eq_ignore_ascii_case(b"keep-alive") {
                    connection.keep_alive = true;
                } else if element.eq_ignore_ascii_case(b"upgrade") {
                    connection.upgrade = true;
                } else if !is_protected(element) {
                    connection.named.push(element);
                }
            }
        }
        connection
    }

    /// Whether these lines say that this field ends here.
    pub(super) fn names(&self, field: &str) -> bool {
        self.named
            .iter()
            .any(|name| name.eq_ignore_ascii_case(field.as_bytes()))
    }
}

fn is_protected(name: &[u8]) -> bool {
    let starts_with = |prefix: &&[u8]| {
        name.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    PROTECTED
        .iter()
        .any(|protected| protected.eq_ignore_ascii_case(name))
        || PROTECTED_PREFIXES.iter().any(starts_with)
}

/// Also with underscores: to a CGI-like app `X_Portcullis_Warmup` is the same variable.
fn is_portcullis(name: &[u8]) -> bool {
    let same = |(byte, wanted): (&u8, &u8)| {
        byte.eq_ignore_ascii_case(wanted) || (*wanted == b'-' && *byte == b'_')
    };
    matches!(name.first(), Some(b'x' | b'X'))
        && name.len() >= PORTCULLIS.len()
        && name.iter().zip(PORTCULLIS).all(same)
}

/// `unreserved / pct-encoded / sub-delims` of RFC 3986, without the comma, which would make a list.
fn is_reg_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field<'a>(name: &'a str, value: &'a str) -> Header<'a> {
        Header {
            name,
            value: value.as_bytes(),
        }
    }

    #[test]
    fn knows_fields_whatever_their_case() {
        for (name, kind) in [
            ("Host", Field::Host),
            ("hOST", Field::Host),
            ("content-LENGTH", Field::ContentLength),
            ("Transfer-Encoding", Field::TransferEncoding),
            ("Keep-Alive", Field::KeepAlive),
            ("Proxy-Connection", Field::KeepAlive),
            ("TE", Field::Te),
            ("X-Portcullis-Warmup", Field::Portcullis),
            ("x_portcullis_warmup", Field::Portcullis),
            ("X-Portcullis", Field::Other),
            ("Content-Type", Field::Other),
            ("Hos", Field::Other),
        ] {
            assert_eq!(classify(name), kind, "{name}");
        }
    }

    #[test]
    fn reads_every_connection_line() {
        let fields = [
            field("Connection", "keep-alive, X-One"),
            field("X-One", "1"),
            field(
                "connection",
                "close,x-two , host, Authorization, X-Forwarded-For",
            ),
        ];
        let connection = Connection::read(&fields);
        assert!(connection.close && connection.keep_alive && !connection.upgrade);
        assert!(connection.names("X-One") && connection.names("X-Two"));
        for protected in ["Host", "Authorization", "X-Forwarded-For"] {
            assert!(!connection.names(protected), "{protected}");
        }
    }

    #[test]
    fn a_host_is_a_host_and_a_port() {
        for good in [
            "",
            "shop",
            "shop.example:8080",
            "10.0.0.1",
            "[::1]",
            "[::1]:80",
            "a_b",
            "x:",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "user@shop",
            "shop/path",
            "shop,other",
            "shop other",
            "shop:80:80",
            "shop:port",
            ":80",
            "shop:123456",
            "[::1",
            "[]",
            "[::1]x",
            "sh\top",
            "shop?",
            "shop#",
            "a\\b",
            "http://a",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_content_length_is_a_plain_number() {
        assert_eq!(content_length(b"0"), Some(0));
        assert_eq!(content_length(b"18446744073709551615"), Some(u64::MAX));
        for bad in [
            "",
            "+5",
            "-1",
            "5, 5",
            "0x5",
            "5 ",
            "18446744073709551616",
            "1_0",
        ] {
            assert_eq!(content_length(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_lone_line_feed_is_seen() {
        assert!(ends_lines_with_crlf(b"GET / HTTP/1.1\r\nA: b\r\n\r\n"));
        assert!(!ends_lines_with_crlf(b"GET / HTTP/1.1\r\nA: b\n\r\n"));
        assert!(!ends_lines_with_crlf(b"\nGET"));
    }
}
