//! The server's certificate, and how to change it without a restart.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, InconsistentKeys, ServerConfig};

/// The protocol spoken within TLS. HTTP/2 would save callers nothing: a service keeps a few connections open and waits
/// for each answer.
const PROTOCOL: &[u8] = b"http/1.1";

/// TLS 1.2 and 1.3 with one certificate, whatever host a client names. Clones share the certificate.
#[derive(Clone)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    shown: Arc<CurrentCertificate>,
    acceptor: TlsAcceptor,
}

/// The certificate that new connections get.
struct CurrentCertificate(RwLock<Arc<CertifiedKey>>);

impl fmt::Debug for CurrentCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CurrentCertificate(..)")
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Tls {
    /// Reads a certificate chain and its private key, both as PEM.
    ///
    /// # Errors
    /// Which file is at fault, and what is wrong with it.
    pub fn read(certificate: &Path, key: &Path) -> io::Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let shown = Arc::new(CurrentCertificate(RwLock::new(Arc::new(read(certificate, key, &provider)?))));
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(&shown) as _;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), shown, acceptor })
    }

    /// Reads both files again. Open connections go on; new ones get the new certificate.
    ///
    /// # Errors
    /// As for [`Tls::read`]. The old certificate stays in use.
    pub fn read_again(&self) -> io::Result<()> {
        let new = read(&self.certificate, &self.key, &ring::default_provider())?;
        *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(())
    }

    /// Runs the TLS handshake of a connection.
    pub fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }
}

fn read(certificate: &Path, key: &Path, provider: &CryptoProvider) -> io::Result<CertifiedKey> {
    let bytes = read_file(certificate)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|problem| wrong(certificate, &not_pem(&problem)))?;
    if chain.is_empty() {
        return Err(wrong(certificate, "holds no certificate: no 'BEGIN CERTIFICATE' is in it"));
    }
    let private = read_key(key)?;
    CertifiedKey::from_der(chain, private, provider).map_err(|problem| match problem {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            wrong(key, &format!("is not the key of the first certificate in {}", certificate.display()))
        }
        rustls::Error::InvalidCertificate(problem) => {
            wrong(certificate, &format!("its first certificate can't be used: {problem}"))
        }
        problem => wrong(key, &format!("can't be used: {problem}")),
    })
}

fn read_key(path: &Path) -> io::Result<PrivateKeyDer<'static>> {
    let bytes = read_file(path)?;
    let is_encrypted = bytes.split(|byte| *byte == b'\n').any(|line| {
        line.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY") || line.starts_with(b"Proc-Type: 4,ENCRYPTED")
    });
    if is_encrypted {
        return Err(wrong(path, "is encrypted, and nobody is there to enter its password; store it without one"));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|problem| match problem {
        pem::Error::NoItemsFound => wrong(path, "holds no private key: no 'BEGIN PRIVATE KEY' is in it"),
        problem => wrong(path, &not_pem(&problem)),
    })
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path)
        .map_err(|problem| io::Error::new(problem.kind(), format!("{}: can't be read: {problem}", path.display())))
}

fn not_pem(problem: &pem::Error) -> String {
    let part = match problem {
        pem::Error::MissingSectionEnd { .. } => "a part of it has no end",
        pem::Error::IllegalSectionStart { .. } => "a part of it has no proper beginning",
        pem::Error::Base64Decode(_) => "a part of it is not base64",
        _ => "it can't be read",
    };
    format!("is not PEM: {part}")
}

fn wrong(path: &Path, problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {problem}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_BASE64: &str = "-----BEGIN PRIVATE KEY-----\n!!!\n-----END PRIVATE KEY-----\n";
    const NO_DER: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    const NO_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    const OLD_ENCRYPTED: &str = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";

    #[test]
    fn errors_name_the_file_and_the_problem() {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let folder = tempfile::tempdir().unwrap();
        let (cert_path, key_path) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        let read = |certificate: &str, key: &str| {
            fs::write(&cert_path, certificate).unwrap();
            fs::write(&key_path, key).unwrap();
            Tls::read(&cert_path, &key_path).err().map(|problem| problem.to_string())
        };
        assert_eq!(read(&certificate, &key), None);
        assert_eq!(read(&format!("{certificate}{}", other.cert.pem()), &format!("{certificate}{key}")), None);
        for (certificate, key, file, problem) in [
            ("", &*key, &cert_path, "holds no certificate"),
            (&*key, &*key, &cert_path, "holds no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", &*key, &cert_path, "is not PEM"),
            (NO_CERTIFICATE, &*key, &cert_path, "its first certificate can't be used"),
            (&*certificate, "", &key_path, "holds no private key"),
            (&*certificate, &*certificate, &key_path, "holds no private key"),
            (&*certificate, NO_BASE64, &key_path, "is not PEM"),
            (&*certificate, NO_DER, &key_path, "can't be used"),
            (&*certificate, ENCRYPTED, &key_path, "is encrypted"),
            (&*certificate, OLD_ENCRYPTED, &key_path, "is encrypted"),
            (&*certificate, &*other.signing_key.serialize_pem(), &key_path, "is not the key of the first certificate"),
        ] {
            let sentence = read(certificate, key).unwrap_or_else(|| panic!("{problem} was not seen"));
            assert!(sentence.starts_with(&format!("{}: {problem}", file.display())), "{problem}: {sentence}");
            assert!(!sentence.contains("AAAA"), "nothing of a file is shown: {sentence}");
        }
        fs::remove_file(&key_path).unwrap();
        let sentence = Tls::read(&cert_path, &key_path).err().unwrap().to_string();
        assert!(sentence.starts_with(&format!("{}: can't be read: ", key_path.display())), "{sentence}");
    }
}
