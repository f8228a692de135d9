//! The manifest: which log a data directory has, and how many slots.
//!
//! It lies beside the log's folder, so a folder that was lost or exchanged is noticed. Text, so that people can read it.

use std::io;
use std::path::{Path, PathBuf};

use super::error::LogError;
use crate::disk::Disk;
use crate::files::{read_small, remove_if_there, write_atomic};

/// The manifest's name in the data directory.
pub(super) const MANIFEST: &str = "log.manifest";

/// The format of the log's files that this server writes and reads.
pub(super) const VERSION: u32 = 1;

/// Identifies one log. Slots of another log are never read.
pub(super) type LogId = [u8; 16];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub id: LogId,
    /// Slots 0 to `slots - 1` belong to the log.
    pub slots: u32,
    /// Every tenant's folder has everything, so the log's files may go.
    pub is_closed: bool,
    /// Tenants that were erased, and of which the files may still have something.
    pub erased: Vec<[u8; 16]>,
}

pub(super) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(MANIFEST)
}

impl Manifest {
    pub fn read(disk: &dyn Disk, data_dir: &Path) -> Result<Option<Self>, LogError> {
        let path = path(data_dir);
        let Some(bytes) = read_small(disk, &path).map_err(LogError::io(&path))? else { return Ok(None) };
        Self::decode(&bytes, &path).map(Some)
    }

    pub fn write(&self, disk: &dyn Disk, data_dir: &Path) -> io::Result<()> {
        write_atomic(disk, &path(data_dir), self.encode().as_bytes())
    }

    pub fn remove(disk: &dyn Disk, data_dir: &Path) -> io::Result<()> {
        remove_if_there(disk, &path(data_dir))?;
        disk.sync_folder(data_dir)
    }

    fn encode(&self) -> String {
        let Self { id, slots, is_closed, erased } = self;
        let state = if *is_closed { "closed" } else { "open" };
        let id = u128::from_be_bytes(*id);
        let erased = erased.iter().map(|tenant| format!("erased {:032x}\n", u128::from_be_bytes(*tenant)));
        format!("kavach-log {VERSION}\nid {id:032x}\nslots {slots}\nstate {state}\n{}", erased.collect::<String>())
    }

    fn decode(bytes: &[u8], path: &Path) -> Result<Self, LogError> {
        let damaged = |detail: &str| LogError::damaged(path, 0, detail);
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
        let mut lines = text.lines();
        let mut line = |key: &str| {
            let value = lines.next().and_then(|line| line.strip_prefix(key)?.strip_prefix(' '));
            value.ok_or_else(|| damaged(&format!("a line with '{key}' is missing")))
        };
        let version = line("kavach-log")?.parse::<u32>().map_err(|_| damaged("its version is no number"))?;
        if version != VERSION {
            return Err(LogError::Version { file: path.to_path_buf(), version, supported: VERSION });
        }
        let uuid = |text: &str| {
            let number = u128::from_str_radix(text, 16).map_err(|_| damaged("an id in it is no hexadecimal number"))?;
            Ok(number.to_be_bytes())
        };
        let id = uuid(line("id")?)?;
        let slots = line("slots")?.parse().map_err(|_| damaged("its count of slots is no number"))?;
        let is_closed = match line("state")? {
            "open" => false,
            "closed" => true,
            _ => return Err(damaged("its state is neither 'open' nor 'closed'")),
        };
        let erased = lines.map(|line| uuid(line.strip_prefix("erased ").unwrap_or_default()));
        let erased = erased.collect::<Result<_, _>>()?;
        Ok(Self { id, slots, is_closed, erased })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_survives_and_what_is_no_manifest_is_an_error() {
        let manifest = Manifest { id: [7; 16], slots: 3, is_closed: false, erased: vec![[1; 16], [2; 16]] };
        let text = manifest.encode();
        let path = Path::new("log.manifest");
        assert_eq!(Manifest::decode(text.as_bytes(), path).unwrap(), manifest);
        for bad in
            ["", "kavach-log one\n", &text[..20], &text.replace("open", "ajar"), &text.replace("slots 3", "slots x")]
        {
            assert!(matches!(Manifest::decode(bad.as_bytes(), path), Err(LogError::Damaged { .. })), "{bad}");
        }
        let newer = text.replace("kavach-log 1", "kavach-log 2");
        let error = Manifest::decode(newer.as_bytes(), path).unwrap_err().to_string();
        assert!(error.contains("format version 2"), "{error}");
    }
}
