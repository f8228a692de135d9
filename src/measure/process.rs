//! CPU, memory, files and threads of this process, from the kernel.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// CPU, memory, files and threads of the process. What the kernel does not report is 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    /// CPU time in user and system mode, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// Virtual memory, in bytes.
    pub virtual_bytes: u64,
    /// Open file descriptors, including sockets.
    pub open_files: u64,
    /// The limit of open file descriptors.
    pub max_files: u64,
    /// Threads.
    pub threads: u64,
}

impl Process {
    /// The current values. Reads from `/proc`, which takes a moment with thousands of open files.
    pub fn now() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let open_files = fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64);
        let max_files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self { open_files, max_files, ..Self::of(&stat).unwrap_or_default() }
    }

    /// Parses the line of `/proc/self/stat`; see proc_pid_stat(5).
    fn of(stat: &str) -> Option<Self> {
        // The program's name, in parentheses, may hold any character.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<_> = fields.split_ascii_whitespace().collect();
        // Fields are numbered from 1, and `fields` starts with the third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) as f64 / clock_ticks_per_second() as f64,
            threads: field(20)?,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page_size() as u64,
            ..Self::default()
        })
    }
}

/// Bytes of memory that the process may use: what its control group allows, or all that the machine has.
pub fn memory() -> usize {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_of(&text)).unwrap_or(usize::MAX);
    // A group without a limit says "max".
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    machine.min(group.unwrap_or(usize::MAX))
}

/// The total of `/proc/meminfo`; see proc_meminfo(5).
fn total_of(meminfo: &str) -> Option<usize> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(total.trim().strip_suffix(" kB")?.parse::<usize>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_what_the_kernel_says() {
        assert_eq!(total_of("MemTotal:       24594908 kB\nMemFree: 1 kB\n"), Some(24_594_908 << 10));
        assert_eq!(total_of("garbage"), None);
        assert!(memory() > 64 << 20);
    }

    #[test]
    fn this_process_has_plausible_values() {
        let now = Process::now();
        assert!(now.resident_bytes > 100_000 && now.virtual_bytes > now.resident_bytes, "{now:?}");
        assert!(now.open_files >= 3 && now.open_files <= now.max_files && now.threads >= 1, "{now:?}");
        let stat = "7 (a) b) S 1 7 7 0 -1 4 0 0 0 0 150 50 0 0 20 0 9 0 100 8192 3 0 0";
        let read = Process::of(stat).unwrap();
        assert_eq!((read.threads, read.virtual_bytes), (9, 8192));
        assert_eq!(read.resident_bytes, 3 * page_size() as u64);
        assert_eq!(read.cpu_seconds, 200.0 / clock_ticks_per_second() as f64);
        assert!(Process::of("garbage").is_none());
    }
}
