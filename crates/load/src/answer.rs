//! Answers of an HTTP/1.1 server, read from a connection's bytes as they come (RFC 9112). Nothing is allocated for an
//! answer; the bytes stay in one buffer, which only grows.

use std::mem::MaybeUninit;

use httparse::{ParserConfig, Response, Status};

/// Bytes a buffer starts with: some answers to single requests.
const FIRST_BYTES: usize = 4 << 10;
/// Bytes of one answer, at most: far past that of the largest batch.
const MAX_BYTES: usize = 64 << 20;
/// Headers of one answer, at most.
const MAX_HEADERS: usize = 64;

/// One answer.
#[derive(Debug, PartialEq, Eq)]
pub struct ServerAnswer<'a> {
    /// Its status.
    pub status: u16,
    /// Its body, without the marks between chunks.
    pub body: &'a [u8],
    /// Whether another request may follow on its connection.
    pub keep_alive: bool,
}

/// Bytes that are not an HTTP answer, or too long for one. Nothing more can be read from their connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The bytes of one connection, and how far they have been read.
pub struct AnswerReader {
    bytes: Vec<u8>,
    /// Start of the bytes that were received but not yet returned.
    start: usize,
    filled: usize,
    /// The head of the current answer.
    head: Option<AnswerHead>,
}

#[derive(Clone, Copy)]
struct AnswerHead {
    status: u16,
    keep_alive: bool,
    /// Where the body begins.
    body: usize,
    framing: BodyFraming,
}

/// How an answer's end is found.
#[derive(Clone, Copy)]
enum BodyFraming {
    Length(usize),
    /// The decoded part of the body ends at `end`; the undecoded part begins at `next`.
    Chunked {
        end: usize,
        next: usize,
    },
    UntilClose,
}

impl Default for AnswerReader {
    fn default() -> Self {
        Self { bytes: vec![0; FIRST_BYTES], start: 0, filled: 0, head: None }
    }
}

impl AnswerReader {
    /// Where the next bytes go. It is never empty.
    pub fn space(&mut self) -> &mut [u8] {
        if self.filled == self.bytes.len() {
            self.bytes.resize(2 * self.bytes.len(), 0);
        }
        self.bytes.get_mut(self.filled..).unwrap_or_default()
    }

    /// Takes over the first `count` bytes of the space, which were just filled.
    pub fn received(&mut self, count: usize) {
        self.filled = (self.filled + count).min(self.bytes.len());
    }

    /// Forgets all that came, for a new connection.
    pub fn clear(&mut self) {
        (self.start, self.filled, self.head) = (0, 0, None);
    }

    /// The next answer that is there as a whole.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn next(&mut self) -> Result<Option<ServerAnswer<'_>>, Malformed> {
        let Some((head, body, end)) = self.find()? else {
            self.move_to_front();
            // A reader that waits for more must have room for it.
            return if self.filled < MAX_BYTES { Ok(None) } else { Err(Malformed) };
        };
        self.start = end;
        self.head = None;
        let body = self.bytes.get(head.body..body).unwrap_or_default();
        Ok(Some(ServerAnswer { status: head.status, body, keep_alive: head.keep_alive }))
    }

    /// The answer that the end of the connection ends.
    pub fn at_close(&mut self) -> Option<ServerAnswer<'_>> {
        let head = self.head.take().filter(|head| matches!(head.framing, BodyFraming::UntilClose))?;
        let body = self.bytes.get(head.body..self.filled).unwrap_or_default();
        Some(ServerAnswer { status: head.status, body, keep_alive: false })
    }

    /// The next answer: its head, the end of its body, and the end of its bytes.
    fn find(&mut self) -> Result<Option<(AnswerHead, usize, usize)>, Malformed> {
        loop {
            let Some(mut head) = self.head else {
                if self.start == self.filled || !self.read_head()? {
                    return Ok(None);
                }
                continue;
            };
            // 1xx: the answer is still to come.
            if head.status < 200 {
                (self.start, self.head) = (head.body, None);
                continue;
            }
            let found = match &mut head.framing {
                BodyFraming::Length(length) => {
                    let end = head.body + *length;
                    (end <= self.filled).then_some((end, end))
                }
                BodyFraming::Chunked { end, next } => {
                    join_chunks(self.bytes.get_mut(..self.filled).unwrap_or_default(), end, next)?
                        .then_some((*end, *next))
                }
                BodyFraming::UntilClose => None,
            };
            self.head = Some(head);
            return Ok(found.map(|(body, end)| (head, body, end)));
        }
    }

    /// Reads a head, if it is there as a whole.
    fn read_head(&mut self) -> Result<bool, Malformed> {
        let bytes = self.bytes.get(self.start..self.filled).unwrap_or_default();
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut response = Response::new(&mut []);
        let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, &mut headers);
        let Status::Complete(length) = parsed.map_err(|_| Malformed)? else { return Ok(false) };
        let status = response.code.ok_or(Malformed)?;
        let body = self.start + length;
        let mut keep_alive = response.version == Some(1);
        let has_body = !matches!(status, ..200 | 204 | 304);
        let mut framing = if has_body { BodyFraming::UntilClose } else { BodyFraming::Length(0) };
        for header in response.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                let text = str::from_utf8(header.value).map_err(|_| Malformed)?;
                let length = text.trim().parse().ok().filter(|length| *length <= MAX_BYTES).ok_or(Malformed)?;
                // Chunks take precedence, wherever their header stands (RFC 9112, 6.3).
                if has_body && !matches!(framing, BodyFraming::Chunked { .. }) {
                    framing = BodyFraming::Length(length);
                }
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                if has_body {
                    framing = BodyFraming::Chunked { end: body, next: body };
                }
            } else if header.name.eq_ignore_ascii_case("connection") {
                keep_alive &= !header.value.eq_ignore_ascii_case(b"close");
            }
        }
        keep_alive &= !matches!(framing, BodyFraming::UntilClose);
        self.head = Some(AnswerHead { status, keep_alive, body, framing });
        Ok(true)
    }

    /// Makes room by dropping what was handed out.
    fn move_to_front(&mut self) {
        let by = self.start;
        if by == 0 {
            return;
        }
        self.bytes.copy_within(by..self.filled, 0);
        self.start = 0;
        self.filled -= by;
        if let Some(head) = &mut self.head {
            head.body -= by;
            if let BodyFraming::Chunked { end, next } = &mut head.framing {
                *end -= by;
                *next -= by;
            }
        }
    }
}

/// Moves the whole chunks from `next` on to `end`, and both behind them. Answers whether that was all of them.
fn join_chunks(bytes: &mut [u8], end: &mut usize, next: &mut usize) -> Result<bool, Malformed> {
    loop {
        let rest = bytes.get(*next..).unwrap_or_default();
        let Status::Complete((start, size)) = httparse::parse_chunk_size(rest).map_err(|_| Malformed)? else {
            return Ok(false);
        };
        let size = usize::try_from(size).ok().filter(|size| *size <= MAX_BYTES).ok_or(Malformed)?;
        if size == 0 {
            // Trailers, and an empty line.
            let mut trailers = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let rest = rest.get(start..).unwrap_or_default();
            let Status::Complete((length, _)) = httparse::parse_headers(rest, &mut trailers).map_err(|_| Malformed)?
            else {
                return Ok(false);
            };
            *next += start + length;
            return Ok(true);
        }
        match rest.get(start + size..start + size + 2) {
            None => return Ok(false),
            Some(b"\r\n") => {}
            Some(_) => return Err(Malformed),
        }
        let from = *next + start;
        bytes.copy_within(from..from + size, *end);
        *end += size;
        *next = from + size + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the bytes in pieces of a size; answers all that was read, and what the close ended.
    fn read(bytes: &[u8], piece: usize) -> Result<Vec<(u16, String, bool)>, Malformed> {
        let mut reader = AnswerReader::default();
        let mut read = Vec::new();
        let owned = |answer: ServerAnswer<'_>| {
            (answer.status, String::from_utf8(answer.body.to_vec()).unwrap(), answer.keep_alive)
        };
        for piece in bytes.chunks(piece) {
            let mut piece = piece;
            while !piece.is_empty() {
                let space = reader.space();
                let count = space.len().min(piece.len());
                space[..count].copy_from_slice(&piece[..count]);
                reader.received(count);
                piece = &piece[count..];
                while let Some(answer) = reader.next()? {
                    read.push(owned(answer));
                }
            }
        }
        read.extend(reader.at_close().map(owned));
        Ok(read)
    }

    const THREE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\ndate: now\r\n\r\n{\"allowed\":true}\
        HTTP/1.1 100 Continue\r\n\r\n\
        HTTP/1.1 503 Service Unavailable\r\ntransfer-encoding: chunked\r\n\r\n\
        5;name=value\r\n{\"cod\r\n3\r\ne\":\r\nb\r\n\"OVERLOADED\r\n2\r\n\"}\r\n0\r\nTrailer: x\r\n\r\n\
        HTTP/1.1 204 No Content\r\nconnection: Close\r\n\r\n";

    #[test]
    fn answers_are_the_same_however_their_bytes_are_split() {
        let whole = vec![
            (200, "{\"allowed\":true}".to_owned(), true),
            (503, "{\"code\":\"OVERLOADED\"}".to_owned(), true),
            (204, String::new(), false),
        ];
        for piece in 1..=THREE.len() {
            assert_eq!(read(THREE, piece).unwrap(), whole, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_buffer_grows_with_its_answer_and_is_used_again() {
        let body = "x".repeat(100_000);
        let one = format!("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{body}");
        let chunk = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n186a0\r\n{body}\r\n0\r\n\r\n");
        let many = (one + &chunk).repeat(5);
        for piece in [977, 65_536, usize::MAX] {
            let answers = read(many.as_bytes(), piece).unwrap();
            assert_eq!(answers.len(), 10);
            assert!(answers.iter().all(|(_, answer, _)| *answer == body));
        }
    }

    #[test]
    fn an_answer_without_a_length_ends_with_its_connection() {
        for piece in [1, 7, 1000] {
            let read = read(b"HTTP/1.0 200 OK\r\n\r\nall of it", piece).unwrap();
            assert_eq!(read, [(200, "all of it".to_owned(), false)]);
        }
        assert_eq!(read(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut", 1000).unwrap(), []);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for bytes in [
            &b"SSH-2.0-OpenSSH\r\n"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffff\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc",
        ] {
            assert_eq!(read(bytes, 1000), Err(Malformed), "{}", String::from_utf8_lossy(bytes));
        }
    }
}
