//! Where a request ends in the bytes of its connection.
//!
//! This follows actix-http, which parses the request afterwards: for every head that actix-http accepts, both find the
//! same end of the head and of the body. A head that actix-http rejects may be read any way here, since nothing after
//! it is handed over.

use std::ops::ControlFlow;

use memchr::memchr;

/// Replaces `Upgrade`, both as a header and as a connection option: of the same length, and without meaning.
const IGNORED: &[u8] = b"ignored";

/// Replaces `#` in a request line. No request target may hold one (RFC 9112, 3.2), but actix-http would take the part
/// before it for the whole target. It rejects this byte.
const UNREADABLE: u8 = 0;

/// How far into its current request a connection has been read.
#[derive(Debug, Default)]
pub(super) struct RequestFraming {
    part: RequestPart,
    heads: u32,
}

#[derive(Debug)]
enum RequestPart {
    Head(HeadParser),
    Length(u64),
    Chunked(ChunkedBody),
    /// Everything that comes is its body (`CONNECT`).
    Stream,
    /// The request is complete.
    Behind,
    /// The bytes are not HTTP, or could be read in two ways. Nothing more is handed over.
    Refused,
}

impl Default for RequestPart {
    fn default() -> Self {
        Self::Head(HeadParser::default())
    }
}

impl RequestFraming {
    /// How many of the bytes belong to the request. `bytes` starts where the last call left off; a head is taken all at
    /// once, so until it is complete `bytes` must start with its first byte. Disarms headers that would switch the
    /// connection to another protocol.
    pub(super) fn take(&mut self, bytes: &mut [u8]) -> usize {
        let mut taken = 0;
        while let Some(rest) = bytes.get_mut(taken..).filter(|rest| !rest.is_empty()) {
            let (count, next) = match &mut self.part {
                RequestPart::Head(head) => match head.read(rest) {
                    Some((count, body)) => {
                        self.heads = self.heads.wrapping_add(1);
                        (count, Some(body))
                    }
                    None => break,
                },
                RequestPart::Length(left) => {
                    let count = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= count as u64;
                    (count, (*left == 0).then_some(RequestPart::Behind))
                }
                RequestPart::Chunked(chunks) => chunks.read(rest),
                RequestPart::Stream => (rest.len(), None),
                RequestPart::Behind | RequestPart::Refused => break,
            };
            taken += count;
            if let Some(next) = next {
                self.part = next;
            }
        }
        taken
    }

    /// How many heads were taken (modulo 2^32).
    pub(super) fn heads(&self) -> u32 {
        self.heads
    }

    /// Whether the head is incomplete.
    pub(super) fn is_in_head(&self) -> bool {
        matches!(self.part, RequestPart::Head(_))
    }

    /// Whether the request is complete.
    pub(super) fn is_behind(&self) -> bool {
        matches!(self.part, RequestPart::Behind)
    }

    /// Whether nothing more may be handed over.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.part, RequestPart::Refused)
    }

    /// Starts a new request with the next byte.
    pub(super) fn begin(&mut self) {
        self.part = RequestPart::default();
    }

    /// Hands over nothing more.
    pub(super) fn refuse(&mut self) {
        self.part = RequestPart::Refused;
    }
}

/// Parses a request head.
#[derive(Debug, Default)]
struct HeadParser {
    /// Where the first incomplete line starts.
    at: usize,
    /// Whether the request line was read.
    is_begun: bool,
    is_connect: bool,
    length: Option<u64>,
    is_chunked: bool,
    is_refused: bool,
}

impl HeadParser {
    /// The length of the head, and what follows it. `None` if the head is incomplete.
    fn read(&mut self, bytes: &mut [u8]) -> Option<(usize, RequestPart)> {
        loop {
            let rest = bytes.get_mut(self.at..)?;
            let (line, _) = rest.split_at_mut_checked(memchr(b'\n', rest)?)?;
            self.at += line.len() + 1;
            let line = match line {
                [line @ .., b'\r'] => line,
                line => line,
            };
            if !self.is_begun {
                // Empty lines may precede a request.
                self.is_begun = !line.is_empty();
                self.is_connect = line.starts_with(b"CONNECT ");
                if let Some(byte) = memchr(b'#', line).and_then(|at| line.get_mut(at)) {
                    *byte = UNREADABLE;
                }
            } else if line.is_empty() {
                return Some((self.at, self.body()));
            } else {
                self.field(line);
            }
        }
    }

    fn field(&mut self, line: &mut [u8]) {
        match line.first().copied() {
            Some(b'c' | b'C') => {
                if let Some(value) = value_of(line, b"content-length:") {
                    let length = decimal(value.trim_ascii());
                    self.is_refused |= length.is_none() || self.length.is_some();
                    self.length = length;
                } else if let Some(value) = value_of(line, b"connection:") {
                    let options = value.split_mut(|byte| *byte == b',').map(trim_mut);
                    options.filter(|option| option.eq_ignore_ascii_case(b"upgrade")).for_each(ignore);
                }
            }
            Some(b't' | b'T') => {
                if let Some(value) = value_of(line, b"transfer-encoding:") {
                    self.is_refused |= self.is_chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked");
                    self.is_chunked = true;
                }
            }
            Some(b'u' | b'U') if value_of(line, b"upgrade:").is_some() => {
                if let Some(name) = line.get_mut(..IGNORED.len()) {
                    ignore(name);
                }
            }
            _ => {}
        }
    }

    fn body(&self) -> RequestPart {
        match self.length {
            _ if self.is_refused => RequestPart::Refused,
            None if self.is_chunked => RequestPart::Chunked(ChunkedBody::default()),
            Some(_) if self.is_chunked => RequestPart::Refused,
            Some(length) if length > 0 => RequestPart::Length(length),
            _ if self.is_connect => RequestPart::Stream,
            _ => RequestPart::Behind,
        }
    }
}

/// The value of a header line, if the line has this name. `name` ends with the colon.
fn value_of<'a>(line: &'a mut [u8], name: &[u8]) -> Option<&'a mut [u8]> {
    let (found, value) = line.split_at_mut_checked(name.len())?;
    found.eq_ignore_ascii_case(name).then_some(value)
}

fn trim_mut(text: &mut [u8]) -> &mut [u8] {
    let start = text.len() - text.trim_ascii_start().len();
    let text = text.get_mut(start..).unwrap_or_default();
    let end = text.trim_ascii_end().len();
    text.get_mut(..end).unwrap_or_default()
}

fn ignore(name: &mut [u8]) {
    name.iter_mut().zip(IGNORED).for_each(|(byte, other)| *byte = *other);
}

fn decimal(text: &[u8]) -> Option<u64> {
    let digits = text.iter().map(|byte| char::from(*byte).to_digit(10).map(u64::from));
    let add = |number: u64, digit: Option<u64>| number.checked_mul(10)?.checked_add(digit?);
    (!text.is_empty()).then_some(0).and_then(|zero| digits.into_iter().try_fold(zero, add))
}

/// Parses a chunked body.
#[derive(Debug, Default)]
struct ChunkedBody {
    at: ChunkPart,
    /// Bytes left of the current chunk.
    size: u64,
}

#[derive(Clone, Copy, Debug, Default)]
enum ChunkPart {
    #[default]
    SizeFirst,
    Size,
    Space,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailer,
    TrailerLf,
    EndCr,
    EndLf,
}

impl ChunkedBody {
    /// How many bytes belong to the body, and what follows once it is complete or malformed.
    fn read(&mut self, bytes: &[u8]) -> (usize, Option<RequestPart>) {
        let mut taken = 0;
        while let Some((first, _)) = bytes.get(taken..).and_then(<[u8]>::split_first) {
            if let ChunkPart::Data = self.at {
                let count = (bytes.len() - taken).min(usize::try_from(self.size).unwrap_or(usize::MAX));
                self.size -= count as u64;
                taken += count;
                if self.size == 0 {
                    self.at = ChunkPart::DataCr;
                }
                continue;
            }
            taken += 1;
            match self.step(*first) {
                ControlFlow::Continue(next) => self.at = next,
                ControlFlow::Break(part) => return (taken, Some(part)),
            }
        }
        (taken, None)
    }

    fn step(&mut self, byte: u8) -> ControlFlow<RequestPart, ChunkPart> {
        use ChunkPart::{
            Data, DataCr, DataLf, EndCr, EndLf, Extension, Size, SizeFirst, SizeLf, Space, Trailer, TrailerLf,
        };
        let digit = char::from(byte).to_digit(16).map(u64::from);
        ControlFlow::Continue(match (self.at, byte, digit) {
            (SizeFirst, _, Some(digit)) => {
                self.size = digit;
                Size
            }
            (Size, _, Some(digit)) => match self.size.checked_mul(16) {
                Some(size) => {
                    self.size = size + digit;
                    Size
                }
                None => return ControlFlow::Break(RequestPart::Refused),
            },
            (Size | Space, b'\t' | b' ', _) => Space,
            (Size | Space, b';', _) => Extension,
            (Size | Space | Extension, b'\r', _) => SizeLf,
            (Extension, b'\t' | b' '..=b'~' | 0x80.., _) => Extension,
            (SizeLf, b'\n', _) if self.size > 0 => Data,
            (SizeLf, b'\n', _) => EndCr,
            (DataCr, b'\r', _) => DataLf,
            (DataLf, b'\n', _) => SizeFirst,
            (EndCr, b'\r', _) => EndLf,
            (Trailer, b'\r', _) => TrailerLf,
            (EndCr | Trailer, ..) => Trailer,
            (TrailerLf, b'\n', _) => EndCr,
            (EndLf, b'\n', _) => return ControlFlow::Break(RequestPart::Behind),
            _ => return ControlFlow::Break(RequestPart::Refused),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes the bytes in pieces. Returns those that were handed over.
    fn take(framing: &mut RequestFraming, bytes: &[u8], piece: usize) -> Vec<u8> {
        let (mut waiting, mut taken) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            waiting.extend_from_slice(piece);
            let count = framing.take(&mut waiting);
            taken.extend(waiting.drain(..count));
        }
        taken
    }

    fn whole(text: &str) -> (String, bool, bool) {
        let outcome = |piece| {
            let mut framing = RequestFraming::default();
            let taken = take(&mut framing, text.as_bytes(), piece);
            (String::from_utf8(taken).unwrap(), framing.is_behind(), framing.is_refused())
        };
        let at_once = outcome(usize::MAX);
        for piece in 1..5 {
            assert_eq!(outcome(piece), at_once, "{text:?} in pieces of {piece}");
        }
        at_once
    }

    #[test]
    fn a_request_ends_where_it_says() {
        for request in [
            "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "\r\n\nGET / HTTP/1.1\nHost: h\n\n",
            "POST / HTTP/1.1\r\ncontent-LENGTH: \t011 \r\n\r\n0123456789a",
            "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0A \t;x\r\n0123456789\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding:chunked\r\n\r\n000\r\nA: b\r\nC: d\r\n\r\n",
            "CONNECT h:1 HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
        ] {
            assert_eq!(whole(&format!("{request}GET /")), (request.to_owned(), true, false));
        }
    }

    #[test]
    fn an_ambiguous_request_is_the_last_one() {
        for headers in [
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 0",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: chunked, chunked",
            "Content-Length: +1",
            "Content-Length: -1",
            "Content-Length:",
            "Content-Length: 1, 1",
            "Content-Length: 18446744073709551616",
        ] {
            let head = format!("POST / HTTP/1.1\r\n{headers}\r\n\r\n");
            assert_eq!(whole(&format!("{head}0\r\n\r\n")), (head, false, true));
        }
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (good, bad) in [("", "g"), ("1\r", "x"), ("1", "_"), ("1\r\nab", ""), ("0\r\n\r", "x"), ("1;a", "\0")] {
            assert_eq!(whole(&format!("{head}{good}{bad}GET /")).0, format!("{head}{good}{bad}"));
        }
    }

    #[test]
    fn a_fragment_is_refused_by_the_parser() {
        let (seen, ..) = whole("GET /a#b HTTP/1.1\r\nHost: #\r\n\r\n");
        assert_eq!(seen, "GET /a\0b HTTP/1.1\r\nHost: #\r\n\r\n");
        let mut headers = [httparse::EMPTY_HEADER; 1];
        assert!(httparse::Request::new(&mut headers).parse(seen.as_bytes()).is_err());
    }

    #[test]
    fn nothing_is_upgraded() {
        for (line, seen) in [
            ("Upgrade: websocket", "ignored: websocket"),
            ("connection: keep-alive,\tUPGRADE , close", "connection: keep-alive,\tignored , close"),
            ("Connection: upgrade", "Connection: ignored"),
            ("Connection: upgrades", "Connection: upgrades"),
            ("X-Upgrade: upgrade", "X-Upgrade: upgrade"),
        ] {
            let head = |line: &str| format!("GET / HTTP/1.1\r\nHost: h\r\n{line}\r\n\r\n");
            assert_eq!(whole(&head(line)), (head(seen), true, false));
        }
    }

    proptest! {
        /// actix-http parses heads with httparse: every head that it accepts ends here at the same byte.
        #[test]
        fn heads_end_where_the_parser_ends_them(
            text in "(\r?\n){0,2}(GET|CONNECT|P) [/a:]{1,3} HTTP/1.[01](\r?\n|\r| )([a-cX-]{1,2}: ?[a\t ,\"]{0,4}(\r?\n|\r|\n ){1,2}){0,4}(\r?\n){0,2}[a\r\n]{0,4}"
        ) {
            let mut headers = [httparse::EMPTY_HEADER; 16];
            let parsed = httparse::Request::new(&mut headers).parse(text.as_bytes());
            let mut bytes = text.clone().into_bytes();
            let mut head = HeadParser::default();
            let found = head.read(&mut bytes).map(|(end, _)| end);
            match parsed {
                Ok(httparse::Status::Complete(end)) => prop_assert_eq!(found, Some(end)),
                Ok(httparse::Status::Partial) => prop_assert_eq!(found, None),
                Err(_) => {}
            }
        }
    }
}
