//! Places that can't be written, or not any more. A place that needs a right which the tests may lack says whether it
//! could be made.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::eventually;

fn runs(program: &str, args: &[&str], path: &Path) -> bool {
    Command::new(program).args(args).arg(path).output().is_ok_and(|output| output.status.success())
}

/// A small file system, unmounted when dropped.
pub struct Mount<'a>(&'a Path);

impl Mount<'_> {
    /// `None` if we may not mount.
    pub fn new<'a>(path: &'a Path, size: &str) -> Option<Mount<'a>> {
        runs("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], path).then_some(Mount(path))
    }

    /// Makes it read-only (`EROFS`). No file in it may be open for writing.
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

/// A directory that can be made read-only, with everything in it, while a process uses it.
pub struct Frozen {
    path: PathBuf,
    how: How,
}

#[derive(Clone, Copy, Debug)]
enum How {
    /// The attribute that stops even root, and open files. It takes a right, and a file system that supports it.
    Attribute,
    /// Permissions: they stop neither root nor open files, but anybody else's new files.
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

    /// Whether even open files can't be written.
    pub fn stops_open_files(&self) -> bool {
        matches!(self.how, How::Attribute)
    }

    /// Lets nothing be written.
    pub fn freeze(&self) {
        match self.how {
            // Files come and go meanwhile: what counts is that all files that stay are stopped.
            How::Attribute => drop(Command::new("chattr").args(["-R", "-f", "+i"]).arg(&self.path).output()),
            How::Permissions => set_modes(&self.path, 0o500),
        }
    }

    /// Makes it writable again.
    pub fn thaw(&self) {
        match self.how {
            // Files come and go here too, and a vanished one makes the command fail.
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

/// Sets the permissions of a folder and of the folders in it.
fn set_modes(folder: &Path, mode: u32) {
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(mode));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            set_modes(&entry.path(), mode);
        }
    }
}
