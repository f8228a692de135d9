//! The key of the data directory, from which the secret of every webhook is made. So no secret is stored, and each can be
//! made again for every message.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::domain::WebhookId;
use crate::domain::webhook::WebhookProfile;

/// The key's file in the data directory.
const FILE: &str = "webhook.key";
/// Bytes of the key, and of a secret made from it: what SHA-256 makes.
const KEY_BYTES: usize = 32;

/// The key's file. The key is made when it is first needed.
pub struct SigningKeyFile {
    path: PathBuf,
    key: Mutex<Option<SigningKey>>,
}

/// The key of a data directory.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey([u8; KEY_BYTES]);

/// The secret of a webhook.
pub struct WebhookSecret([u8; KEY_BYTES]);

impl SigningKeyFile {
    /// The file in that data directory.
    pub fn within(data_dir: &Path) -> Self {
        Self { path: data_dir.join(FILE), key: Mutex::default() }
    }

    /// Whether there is a key: without one no webhook was ever made.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Reads the key; `None` if there is none. Blocking.
    ///
    /// # Errors
    /// The file can't be read, or is not a key. It is never replaced then: every secret would change.
    pub fn read(&self) -> io::Result<Option<SigningKey>> {
        let mut known = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            *known = read(&self.path)?;
        }
        Ok(known.clone())
    }

    /// Reads the key, or makes one. Blocking. It is on disk before this returns.
    ///
    /// # Errors
    /// As for [`SigningKeyFile::read`]; the system gave no random bytes; the file can't be written.
    pub fn read_or_make(&self) -> io::Result<SigningKey> {
        let mut known = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            *known = read(&self.path)?;
        }
        Ok(match &*known {
            Some(key) => key.clone(),
            None => known.insert(make(&self.path)?).clone(),
        })
    }
}

fn read(path: &Path) -> io::Result<Option<SigningKey>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes)?,
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(problem) => return Err(problem),
    };
    let key = bytes.try_into().map_err(|_| {
        let sentence = format!("{} is not a key of {KEY_BYTES} bytes; restore it from a backup", path.display());
        io::Error::new(io::ErrorKind::InvalidData, sentence)
    })?;
    Ok(Some(SigningKey(key)))
}

fn make(path: &Path) -> io::Result<SigningKey> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let temporary = path.with_extension("key.tmp");
    // One that a crash left may have other rights.
    match fs::remove_file(&temporary) {
        Err(problem) if problem.kind() != io::ErrorKind::NotFound => return Err(problem),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(&key)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(SigningKey(key))
}

impl SigningKey {
    /// The secret that a webhook has after that many rotations.
    pub fn secret(&self, webhook: WebhookId, rotation: u32) -> WebhookSecret {
        WebhookSecret(hmac(&self.0, &[webhook.to_string().as_bytes(), b".", &rotation.to_be_bytes()]))
    }

    /// The secret that a webhook has now.
    pub fn current(&self, profile: &WebhookProfile) -> WebhookSecret {
        self.secret(profile.id, profile.rotation)
    }
}

impl WebhookSecret {
    /// The secret as its owner gets it.
    pub fn reveal(&self) -> String {
        format!("whsec_{}", STANDARD.encode(self.0))
    }

    /// The HMAC-SHA256 of these parts, one after the other.
    pub fn sign(&self, parts: &[&[u8]]) -> [u8; KEY_BYTES] {
        hmac(&self.0, parts)
    }
}

fn hmac(key: &[u8; KEY_BYTES], parts: &[&[u8]]) -> [u8; KEY_BYTES] {
    // A key shorter than a block is filled up with zeros (RFC 2104, 2), and so there is no length that could be refused.
    let mut block = [0; 64];
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::domain::{TenantTag, Timestamp};

    #[test]
    fn a_key_is_made_once_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = SigningKeyFile::within(folder.path());
        assert!(!file.exists() && file.read().unwrap().is_none());
        let key = file.read_or_make().unwrap();
        assert!(file.exists());
        assert_eq!(fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        let again = SigningKeyFile::within(folder.path());
        assert!(again.read().unwrap().unwrap() == key && again.read_or_make().unwrap() == key);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_key_is_not_replaced() {
        for bytes in [&[7; KEY_BYTES - 1][..], &[7; KEY_BYTES + 1], &[]] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(FILE), bytes).unwrap();
            let file = SigningKeyFile::within(folder.path());
            assert!(file.read().is_err() && file.read_or_make().is_err());
            assert_eq!(fs::read(folder.path().join(FILE)).unwrap(), bytes);
        }
    }

    #[test]
    fn every_webhook_and_every_rotation_has_its_own_secret() {
        let key = SigningKey([7; KEY_BYTES]);
        let id = |seq| WebhookId::derive(Timestamp::from_millis(1_700_000_000_000), seq, TenantTag(1));
        let secrets = [key.secret(id(1), 0), key.secret(id(1), 1), key.secret(id(2), 0)].map(|secret| secret.reveal());
        assert!(secrets[0] != secrets[1] && secrets[0] != secrets[2] && secrets[1] != secrets[2]);
        assert_eq!(secrets[0], key.secret(id(1), 0).reveal());
        // Secrets are made anew for each message, so this may never change.
        assert_eq!(secrets[0].len(), "whsec_".len() + 44);
    }
}
