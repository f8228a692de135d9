//! Places in which nothing, or no more, can be written. What needs a right that the tests may not have says whether it
//! could be made.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::eventually;

fn runs(program: &str, args: &[&str], path: &Path) -> bool {
    Command::new(program).args(args).arg(path).output().is_ok_and(|output| output.status.success())
}

/// A small file system of its own, unmounted at the end.
pub struct Mount<'a>(&'a Path);

impl Mount<'_> {
    /// `None` where nobody lets us mount anything.
    pub fn new<'a>(path: &'a Path, size: &str) -> Option<Mount<'a>> {
        runs("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], path).then_some(Mount(path))
    }

    /// Lets nothing be written in it any more (`EROFS`). No file in it may be open for writing.
    pub fn make_read_only(&self) {
        assert!(runs("mount", &["-o", "remount,ro"], self.0));
    }

    pub fn make_writable(&self) {
        assert!(runs("mount", &["-o", "remount,rw"], self.0));
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        runs("umount", &["-l"], self.0);
    }
}

/// A directory that can be made read-only, with all in it, while a process uses it.
pub struct Frozen {
    path: PathBuf,
    how: How,
}

#[derive(Clone, Copy, Debug)]
enum How {
    /// The attribute that stops even root and files that are open already. It takes a right and a file system with it.
    Attribute,
    /// Permissions: they stop neither root nor who has a file open already, but new files of others.
    Permissions,
}

impl Frozen {
    /// By permissions, which stop a server without rights.
    pub fn by_permissions(path: &Path) -> Self {
        Self { path: path.to_owned(), how: How::Permissions }
    }

    /// Whatever works for that directory.
    pub fn new(path: &Path) -> Self {
        let (path, probe) = (path.to_owned(), path.join("probe.tmp"));
        fs::write(&probe, b"").unwrap();
        let attribute = runs("chattr", &["+i"], &probe) && fs::write(&probe, b"x").is_err();
        runs("chattr", &["-i"], &probe);
        fs::remove_file(&probe).unwrap();
        let how = if attribute { How::Attribute } else { How::Permissions };
        if !attribute {
            eprintln!("{} is made read-only by its permissions: open files are written on", path.display());
        }
        Self { path, how }
    }

    /// Whether a file that is open already can't be written either.
    pub fn stops_open_files(&self) -> bool {
        matches!(self.how, How::Attribute)
    }

    /// Lets nothing be written.
    pub fn freeze(&self) {
        match self.how {
            // Files come and go meanwhile: what counts is that all those are stopped that stay.
            How::Attribute => drop(Command::new("chattr").args(["-R", "-f", "+i"]).arg(&self.path).output()),
            How::Permissions => set_modes(&self.path, 0o500),
        }
    }

    /// Takes that back.
    pub fn thaw(&self) {
        match self.how {
            // Files come and go here too, and one that is gone makes it fail.
            How::Attribute => {
                eventually("it is writable again", || runs("chattr", &["-R", "-i"], &self.path).then_some(()))
            }
            How::Permissions => set_modes(&self.path, 0o700),
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if self.path.exists() {
            self.thaw();
        }
    }
}

/// Sets the permissions of a folder and of those in it.
fn set_modes(folder: &Path, mode: u32) {
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(mode));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            set_modes(&entry.path(), mode);
        }
    }
}
