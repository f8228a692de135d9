//! Secrets in other encodings, and the search for any piece of one.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use kavach::domain::SecretHash;

/// Characters of a secret that must not appear together. All of a secret is random, except for a tenant's part.
const RUN: usize = 16;
/// Bytes by which a piece is looked up.
const HEAD: usize = 8;

/// Pieces of secrets, in every encoding that somebody might use.
#[derive(Default)]
pub struct Pieces {
    by_head: HashMap<u64, Vec<(Vec<u8>, String)>>,
    /// Whether a head may exist, by its upper bits: most of a text is none.
    may_be: Vec<bool>,
}

fn head(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..HEAD].try_into().unwrap())
}

fn slot(head: u64) -> usize {
    (head.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize
}

/// The part of a secret that nobody may see: not its prefix, nor the part that names its tenant.
fn secret_part(secret: &str) -> &str {
    let (prefix, rest) = secret.split_once('_').unwrap();
    if matches!(prefix, "kv" | "kvt") { &rest[28.min(rest.len())..] } else { rest }
}

fn hex(bytes: &[u8], upper: bool) -> String {
    bytes.iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect()
}

impl Pieces {
    /// Adds every run of `run` bytes.
    fn add(&mut self, text: &[u8], run: usize, what: &str) {
        self.may_be.resize(1 << 16, false);
        for piece in text.windows(run) {
            let known = self.by_head.entry(head(piece)).or_default();
            if known.iter().all(|(bytes, _)| bytes != piece) {
                known.push((piece.to_vec(), what.to_owned()));
            }
            self.may_be[slot(head(piece))] = true;
        }
    }

    /// Adds a secret as text, in base64, hexadecimal, percent-encoded and as a list of numbers, and the bytes that its
    /// text encodes.
    pub fn add_secret(&mut self, name: &str, secret: &str) {
        let part = secret_part(secret);
        self.add(part.as_bytes(), RUN, &format!("{name} as text"));
        let mut shapes = vec![("its text", part.as_bytes().to_vec())];
        // Characters that encode whole bytes.
        let whole = part.len() - part.len() % 4;
        if let Ok(bytes) = URL_SAFE_NO_PAD.decode(&part[part.len() - whole..]) {
            self.add(&bytes, RUN * 3 / 4, &format!("{name} as bytes"));
            shapes.push(("its bytes", bytes));
        }
        for (what, bytes) in shapes {
            for upper in [false, true] {
                self.add(hex(&bytes, upper).as_bytes(), 2 * RUN, &format!("{name}: {what} in hexadecimal"));
                let percent: String = hex(&bytes, upper)
                    .as_bytes()
                    .chunks(2)
                    .flat_map(|two| ['%', two[0].into(), two[1].into()])
                    .collect();
                self.add(percent.as_bytes(), 3 * RUN, &format!("{name}: {what} percent-encoded"));
            }
            // By its offset within three bytes, its middle is written in one of three ways.
            for before in 0..3 {
                let shifted = [&vec![0; before][..], &bytes].concat();
                for encoded in [STANDARD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
                    let inner = &encoded[4..encoded.len() - 4];
                    self.add(inner.as_bytes(), RUN, &format!("{name}: {what} in base64"));
                }
            }
            let numbers = bytes.iter().map(u8::to_string).collect::<Vec<_>>();
            for separator in [", ", ","] {
                for run in numbers.windows(RUN) {
                    let run = run.join(separator);
                    self.add(run.as_bytes(), run.len(), &format!("{name}: {what} as numbers"));
                }
            }
        }
    }

    /// Adds a secret's hash, which is stored, but must not be shown either.
    pub fn add_hash(&mut self, name: &str, secret: &str) {
        let hash = SecretHash::of(secret).to_hex();
        self.add(hash.as_bytes(), 2 * RUN, &format!("the hash of {name}"));
        self.add(hash.to_uppercase().as_bytes(), 2 * RUN, &format!("the hash of {name}"));
    }

    /// The first piece found in a text.
    pub fn find_in(&self, text: &[u8]) -> Option<&str> {
        text.windows(HEAD).enumerate().filter(|(_, window)| self.may_be[slot(head(window))]).find_map(|(at, window)| {
            let known = self.by_head.get(&head(window))?;
            let found = known.iter().find(|(piece, _)| text[at..].starts_with(piece));
            found.map(|(_, what)| what.as_str())
        })
    }
}

#[test]
fn every_encoding_of_a_piece_is_found() {
    let secret = "kvo_Zm9vYmFyMTIzNDU2Nzg5MC1fQUJDREVGR0hJSktM";
    let mut pieces = Pieces::default();
    pieces.add_secret("it", secret);
    let text = &secret[10..40];
    let bytes = URL_SAFE_NO_PAD.decode(&secret[4..]).unwrap();
    let shapes = [
        text.to_owned(),
        hex(text.as_bytes(), false),
        hex(&bytes, true),
        STANDARD.encode(format!("user:{secret}")),
        URL_SAFE_NO_PAD.encode(format!("x{secret}")),
        format!("{:?}", text.as_bytes()),
        text.bytes().map(|byte| format!("%{byte:02X}")).collect(),
    ];
    for shape in shapes {
        assert!(pieces.find_in(format!("before {shape} after").as_bytes()).is_some(), "{shape}");
    }
    assert!(pieces.find_in(&[b"\0\xff", &bytes[..]].concat()).is_some());
    assert_eq!(pieces.find_in(b"kvo_ and nothing of it, whatever comes after that, 0123456789abcdef"), None);
}
