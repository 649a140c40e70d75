//! The chunked transfer coding (RFC 9112, section 7.1), read strictly: what two readers could read
//! differently is malformed.

use httparse::{EMPTY_HEADER, Status};

use super::fields;

/// Longest line with a chunk's size. Extensions are legal and without use: this is far more than
/// any real one, and little enough to wait for.
const MAX_SIZE_LINE: usize = 256;

/// Largest section of trailers.
const MAX_TRAILERS: usize = 8 * 1024;

/// Most trailer fields.
const MAX_TRAILER_FIELDS: usize = 32;

/// A chunked body while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunked {
    /// A line with a size is due.
    Size,
    /// So many bytes of the chunk are due.
    Data(u64),
    /// The line's end after a chunk's data is due.
    DataEnd,
    /// Trailers, perhaps none, and the empty line are due.
    Trailers,
    /// The body is complete.
    Done,
}

/// A stretch of a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// So many bytes of framing that can be passed on as they are.
    Framing(usize),
    /// So many bytes with the size of a chunk in a form that is better written anew.
    Size {
        /// Bytes to skip.
        skip: usize,
        /// The chunk's size.
        size: u64,
    },
    /// So many bytes of data.
    Data(usize),
    /// The end of the body: bytes to skip, and the last lines to write instead.
    End {
        /// Bytes to skip.
        skip: usize,
        /// Trailer lines, those left out that have no place there, and the empty line.
        lines: Vec<u8>,
    },
}

/// The body is not chunked as the standard says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed chunk")]
pub(super) struct Malformed;

// === impl Chunked ===

impl Chunked {
    /// Reads the next piece, or nothing when the input ends too early for one.
    pub(super) fn next(&mut self, input: &[u8]) -> Result<Option<Piece>, Malformed> {
        match *self {
            Self::Size => self.size(input),
            // Size => (Data | Trailers), Data => DataEnd: below.
            Self::Data(left) => {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                if here == 0 {
                    return Ok(None);
                }
                *self = match left - u64::try_from(here).unwrap_or(left) {
                    0 => Self::DataEnd,
                    rest => Self::Data(rest),
                };
                Ok(Some(Piece::Data(here)))
            }
            // DataEnd => Size
            Self::DataEnd => match input {
                [] | [b'\r'] => Ok(None),
                [b'\r', b'\n', ..] => {
                    *self = Self::Size;
                    Ok(Some(Piece::Framing(2)))
                }
                _ => Err(Malformed),
            },
            Self::Trailers => self.trailers(input),
            Self::Done => Ok(None),
        }
    }

    fn size(&mut self, input: &[u8]) -> Result<Option<Piece>, Malformed> {
        let Some(end) = memchr::memchr(b'\n', input.get(..MAX_SIZE_LINE).unwrap_or(input)) else {
            return if input.len() < MAX_SIZE_LINE {
                Ok(None)
            } else {
                Err(Malformed)
            };
        };
        let line = input
            .get(..end)
            .and_then(|line| line.strip_suffix(b"\r"))
            .ok_or(Malformed)?;
        let digits = line
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        let (number, extension) = line.split_at(digits);
        let size = hexadecimal(number).ok_or(Malformed)?;
        if !is_extension(extension) {
            return Err(Malformed);
        }
        // Size => (Data | Trailers)
        *self = if size == 0 {
            Self::Trailers
        } else {
            Self::Data(size)
        };
        let length = end + 1;
        Ok(Some(match (size, extension) {
            // The last chunk is written with the trailers.
            (0, _) => Piece::End {
                skip: length,
                lines: Vec::new(),
            },
            (_, []) => Piece::Framing(length),
            _ => Piece::Size { skip: length, size },
        }))
    }

    fn trailers(&mut self, input: &[u8]) -> Result<Option<Piece>, Malformed> {
        let mut slots = [EMPTY_HEADER; MAX_TRAILER_FIELDS];
        let (length, trailers) = match httparse::parse_headers(input, &mut slots) {
            Ok(Status::Complete(found)) => found,
            Ok(Status::Partial) if input.len() < MAX_TRAILERS => return Ok(None),
            Ok(Status::Partial) | Err(_) => return Err(Malformed),
        };
        if !input
            .get(..length)
            .is_some_and(fields::ends_lines_with_crlf)
        {
            return Err(Malformed);
        }
        // Trailers => Done
        *self = Self::Done;
        let mut lines = b"0\r\n".to_vec();
        for trailer in trailers
            .iter()
            .filter(|trailer| fields::may_trail(trailer.name))
        {
            fields::write_line(&mut lines, trailer.name.as_bytes(), trailer.value);
        }
        lines.extend_from_slice(b"\r\n");
        Ok(Some(Piece::End {
            skip: length,
            lines,
        }))
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    // Sixteen digits fill a u64; what is longer overflows some reader.
    let fits = (1..=16).contains(&digits.len());
    fits.then(|| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
        .flatten()
}

/// `*( BWS ";" ...)`: nothing that could end the line for another reader.
fn is_extension(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    text.is_empty()
        || (text.first() == Some(&b';')
            && text
                .iter()
                .all(|byte| *byte == b'\t' || (b' '..=b'~').contains(byte)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a chunked body says when it arrives in pieces of `step` bytes: data and trailer lines.
    fn read(input: &[u8], step: usize) -> Result<(Vec<u8>, Vec<u8>, usize), Malformed> {
        let (mut chunked, mut data, mut lines) = (Chunked::Size, Vec::new(), Vec::new());
        let (mut start, mut end) = (0, 0);
        while chunked != Chunked::Done {
            match chunked.next(&input[start..end])? {
                Some(Piece::Framing(n) | Piece::Size { skip: n, .. }) => start += n,
                Some(Piece::Data(n)) => {
                    data.extend_from_slice(&input[start..start + n]);
                    start += n;
                }
                Some(Piece::End { skip, lines: more }) => {
                    lines.extend(more);
                    start += skip;
                }
                None if end == input.len() => return Err(Malformed),
                None => end = (end + step).min(input.len()),
            }
        }
        Ok((data, lines, start))
    }

    #[test]
    fn reads_chunks_extensions_and_trailers_in_any_pieces() {
        let body = b"5\r\nhello\r\n1;a=\"b\"\r\n!\r\n000\r\nX-Sum: 7\r\nHost: evil\r\n\r\nGET";
        for step in 1..body.len() {
            let (data, lines, length) = read(body, step).unwrap();
            assert_eq!(data, b"hello!", "step {step}");
            assert_eq!(lines, b"0\r\nX-Sum: 7\r\n\r\n", "step {step}");
            assert_eq!(length, body.len() - 3);
        }
    }

    #[test]
    fn refuses_what_readers_disagree_about() {
        for bad in [
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5 5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            "-1\r\n\r\n",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
            "5;a\nb\r\nhello\r\n0\r\n\r\n",
            "5;a\rb\r\nhello\r\n0\r\n\r\n",
            "5;\0\r\nhello\r\n0\r\n\r\n",
            "0\r\nX: y\n\r\n",
            "0\r\n folded\r\n\r\n",
            "0\r\nbad name: y\r\n\r\n",
        ] {
            assert_eq!(read(bad.as_bytes(), 64), Err(Malformed), "{bad:?}");
        }
        let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(MAX_SIZE_LINE));
        assert_eq!(read(long.as_bytes(), 64), Err(Malformed));
        let many = format!("0\r\n{}\r\n", "A: b\r\n".repeat(MAX_TRAILER_FIELDS + 1));
        assert_eq!(read(many.as_bytes(), 64), Err(Malformed));
    }

    proptest! {
        #[test]
        fn what_was_chunked_is_read(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            step in 1_usize..50,
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend(format!("{:x}\r\n", chunk.len()).bytes());
                body.extend(chunk);
                body.extend(b"\r\n");
            }
            body.extend(b"0\r\n\r\n");
            let (data, _, length) = read(&body, step).unwrap();
            prop_assert_eq!(data, chunks.concat());
            prop_assert_eq!(length, body.len());
        }

        #[test]
        fn any_bytes_are_read_alike_in_any_pieces(
            body in prop::collection::vec(prop::sample::select(b"0159afAF;=\r\n x:".to_vec()), 0..40),
            step in 1_usize..10,
        ) {
            prop_assert_eq!(read(&body, step), read(&body, 1000));
        }
    }
}
