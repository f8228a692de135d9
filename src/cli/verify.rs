//! `kavach audit verify`: finds out offline whether audit trails are intact.
//!
//! Every link of the hash chain covers all entries before it. A link that was kept elsewhere (a checkpoint, from
//! `GET /v1/audit/checkpoint`) exposes even a chain that was recomputed. Without one, anyone who can write to the folder
//! can replace the whole trail, or cut off its end, unnoticed.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::domain::{AuditId, Moment, TenantId, TenantRef, Timestamp};
use crate::journal::{
    ChainReport, Fault, FaultKind, Folder, LogTails, Passage, SystemDisk, keep_servers_out, list_tenants, read_small,
    verify_chain,
};
use crate::store::checkpoint::KeptCheckpoint;
use crate::store::codec;
use crate::store::loader::{self, ClaimedIdentity};

/// Options of `audit verify`.
#[derive(Clone, Debug, Args)]
pub struct VerifySettings {
    /// Tenant to verify: its id, its slug, or `default` [default: all, one line each].
    #[arg(long, conflicts_with = "folder")]
    pub tenant: Option<String>,
    /// Directory that holds the tenants' folders; no server may be running on it.
    #[arg(long, env = "KAVACH_DATA_DIR", default_value = "./snapshots")]
    pub data_dir: PathBuf,
    /// A tenant's folder, or a copy of one, instead of --data-dir and --tenant.
    #[arg(long)]
    pub folder: Option<PathBuf>,
    /// A checkpoint kept from earlier (`GET /v1/audit/checkpoint`): a file, or the JSON itself. It belongs to one
    /// tenant, so name that with --tenant or --folder.
    #[arg(long)]
    pub checkpoint: Option<String>,
    /// Report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// The result for one tenant.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Whether the trail is intact, as far as links cover it.
    pub ok: bool,
    /// The tenant.
    pub tenant_id: TenantId,
    /// The folder that was read.
    pub folder: PathBuf,
    /// How many segment files the folder has.
    pub segments: usize,
    /// The first entry that is left; retention removed those before.
    pub first_seq: u64,
    /// The last entry that was read.
    pub last_seq: u64,
    /// How many links fit.
    pub links: u64,
    /// The newest link that fits.
    pub last_link: KeptCheckpoint,
    /// How many entries follow the newest link, so that no link covers them yet.
    pub not_covered: u64,
    /// How many of the last entries only the log has: the folder gets them at the next start.
    pub in_log: u64,
    /// Bytes at the end that are not a whole entry, or that follow a missing one: what a crash leaves.
    pub torn_bytes: u64,
    /// Whether the chain passes through the checkpoint.
    pub checkpoint: CheckpointResult,
    /// The first wrong entry.
    pub fault: Option<FaultReport>,
}

/// Whether the chain passes through the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckpointResult {
    /// No checkpoint was given.
    NotGiven,
    /// The chain passes through it.
    Passed,
    /// The chain does not pass through it, or was not followed that far.
    NotPassed,
    /// The entries that the checkpoint covers are gone.
    TooOld,
}

/// The first wrong entry.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultReport {
    /// `changed`, `removed`, `moved` or `rewritten`.
    pub kind: &'static str,
    /// The entry's sequence number.
    pub seq: u64,
    /// The last entry that it may be instead: the links can't distinguish them.
    pub last_seq: u64,
    /// The entry's audit id, if an entry with that number exists.
    pub audit_id: Option<AuditId>,
    /// The entry's time.
    pub time: Option<Timestamp>,
    /// The entry before it, which is intact.
    pub after_audit_id: Option<AuditId>,
    /// The time of the entry before.
    pub after_time: Option<Timestamp>,
    /// The file that holds it.
    pub file: PathBuf,
    /// Position in the file, in uncompressed bytes.
    pub offset: u64,
    /// What is wrong there.
    pub detail: String,
}

/// Verifies a tenant's folder, and what only the log has of the tenant. Nobody may write to them meanwhile.
///
/// # Errors
/// A sentence that says why it can't be read.
pub fn verify(folder: &Path, log: &LogTails, kept: Option<&KeptCheckpoint>) -> Result<Report, String> {
    let link = kept.map(KeptCheckpoint::link).transpose()?;
    let mut latest = Timestamp::default();
    let mut find_fault = |seq: u64, bytes: &[u8]| match codec::decode_event(seq, bytes) {
        Err(problem) => Some(format!("the entry can't be read: {problem}")),
        Ok((Moment { at, .. }, _)) if at < latest => {
            Some(format!("the entry's time, {at}, is before that of the entry ahead of it"))
        }
        Ok((Moment { at, .. }, _)) => {
            latest = at;
            None
        }
    };
    let opened = Folder::open(folder).map_err(|problem| format!("{}: {problem}", folder.display()))?;
    let found = verify_chain(&opened, log, link, &mut find_fault).map_err(|problem| problem.to_string())?;
    let tenant = TenantId::from_bytes(found.tenant);
    if kept.is_some_and(|kept| kept.tenant_id != tenant) {
        return Err(format!(
            "the checkpoint belongs to another tenant; this folder belongs to {}",
            tenant.folder_name()
        ));
    }
    Ok(Report::new(folder, tenant, found))
}

impl Report {
    fn new(folder: &Path, tenant: TenantId, found: ChainReport) -> Self {
        let ChainReport { tenant: _, segments, first_seq, last_seq, links, link, passage, torn_bytes, in_log, fault } =
            found;
        let ok = fault.is_none() && passage != Passage::TooOld;
        let checkpoint = match (passage, &fault) {
            (Passage::NotAsked, _) => CheckpointResult::NotGiven,
            (Passage::TooOld, _) => CheckpointResult::TooOld,
            (Passage::Through, None) => CheckpointResult::Passed,
            (Passage::Through, Some(_)) => CheckpointResult::NotPassed,
        };
        Self {
            ok,
            tenant_id: tenant,
            folder: folder.to_path_buf(),
            segments,
            first_seq,
            last_seq,
            links,
            last_link: KeptCheckpoint::new(tenant, link),
            not_covered: last_seq.saturating_sub(link.seq),
            torn_bytes,
            in_log,
            checkpoint,
            fault: fault.map(|fault| FaultReport::new(tenant, fault)),
        }
    }
}

impl FaultReport {
    fn new(tenant: TenantId, fault: Fault) -> Self {
        let Fault { kind, file, offset, first, last, event, before, detail } = fault;
        let name_entry = |bytes: Option<Vec<u8>>, seq| {
            let (Moment { at, .. }, _) = codec::decode_event(seq, &bytes?).ok()?;
            Some((AuditId::derive(at, seq, tenant.tag()), at))
        };
        let (audit_id, time) = name_entry(event, first).unzip();
        let (after_audit_id, after_time) = name_entry(before, first.saturating_sub(1)).unzip();
        let kind = match kind {
            FaultKind::Changed => "changed",
            FaultKind::Removed => "removed",
            FaultKind::Moved => "moved",
            FaultKind::Rewritten => "rewritten",
        };
        Self { kind, seq: first, last_seq: last, audit_id, time, after_audit_id, after_time, file, offset, detail }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tenant_id, segments, first_seq, last_seq, links, last_link, not_covered, torn_bytes, in_log, ..
        } = self;
        let tenant = tenant_id.folder_name();
        match &self.fault {
            Some(fault) => write!(f, "The audit trail of tenant {tenant} is NOT intact. {fault}")?,
            None => write!(
                f,
                "The audit trail of tenant {tenant} is intact: {} entries, segments: {segments}, links: {links}.",
                (last_seq + 1).saturating_sub(*first_seq)
            )?,
        }
        if *first_seq > 1 {
            write!(
                f,
                "\nIt starts with entry {first_seq}, since retention removed those before. The chain up to there is taken \
                 on the oldest segment's word."
            )?;
        }
        match self.checkpoint {
            CheckpointResult::Passed => write!(f, "\nThe chain passes through the checkpoint.")?,
            CheckpointResult::NotGiven if self.fault.is_none() => {
                write!(f, "\nNo checkpoint was given, so a trail that was rewritten as a whole would look the same.")?
            }
            CheckpointResult::NotGiven | CheckpointResult::NotPassed => {}
            CheckpointResult::TooOld => write!(
                f,
                "\nThe checkpoint is older than the oldest entry, so it proves nothing any more: keep newer ones."
            )?,
        }
        if self.fault.is_none() {
            write!(f, "\nThe newest link covers everything up to entry {}, {}.", last_link.seq, last_link.time)?;
            if *not_covered > 0 {
                write!(f, " No link covers the {not_covered} entries after it yet.")?;
            }
            if *in_log > 0 {
                write!(f, " The last {in_log} entries are in the log only, and reach the folder at the next start.")?;
            }
            if *torn_bytes > 0 {
                write!(f, " The last {torn_bytes} bytes are torn, as a crash can leave them.")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for FaultReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, seq, last_seq, audit_id, time, after_audit_id, after_time, file, offset, detail } = self;
        match (*kind, last_seq > seq) {
            ("rewritten", true) => {
                write!(f, "An entry up to number {last_seq} was changed, and the links after it were recomputed")?;
            }
            ("changed", true) => write!(f, "One of entries {seq} to {last_seq} was changed, removed or added")?,
            ("removed", true) => write!(f, "Entries {seq} to {last_seq} were removed")?,
            (kind, _) => write!(f, "Entry {seq} was {kind}")?,
        }
        if let (Some(id), Some(time)) = (audit_id, time) {
            let first = if *kind == "changed" && last_seq > seq { ", the first of which is" } else { ":" };
            write!(f, "{first} {id} of {time}")?;
        }
        if let (Some(id), Some(time)) = (after_audit_id, after_time) {
            write!(f, "; the entry before it is {id} of {time}")?;
        }
        write!(f, ". {} at byte {offset}: {detail}.", file.display())
    }
}

/// The result for all tenants of a data directory.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Whether every trail was read and is intact, as far as links cover it.
    pub ok: bool,
    /// The result for each tenant, by folder.
    pub tenants: Vec<Report>,
    /// The folders that could not be read.
    pub not_looked_at: Vec<NotLookedAt>,
}

/// A folder that could not be read.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NotLookedAt {
    /// Path of the folder.
    pub folder: PathBuf,
    /// Why it could not be read.
    pub problem: String,
}

impl Summary {
    /// The worst of all results: a trail that is not intact is worse than one that could not be read.
    fn outcome(&self) -> VerifyOutcome {
        match (self.tenants.iter().all(|report| report.ok), self.not_looked_at.is_empty()) {
            (false, _) => VerifyOutcome::Wrong,
            (true, false) => VerifyOutcome::NotLookedAt,
            (true, true) => VerifyOutcome::Right,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for report in &self.tenants {
            let Report { tenant_id, first_seq, last_seq, links, not_covered, torn_bytes, in_log, .. } = report;
            let tenant = tenant_id.folder_name();
            match &report.fault {
                Some(fault) => writeln!(f, "{tenant}: NOT intact. {fault}")?,
                None => {
                    let entries = (last_seq + 1).saturating_sub(*first_seq);
                    write!(f, "{tenant}: intact, entries: {entries}, links: {links}")?;
                    let more = [
                        (not_covered, "entries not covered yet"),
                        (in_log, "entries in the log only"),
                        (torn_bytes, "torn bytes"),
                    ];
                    for (count, what) in more {
                        if *count > 0 {
                            write!(f, ", {what}: {count}")?;
                        }
                    }
                    writeln!(f)?;
                }
            }
        }
        for NotLookedAt { folder, problem } in &self.not_looked_at {
            writeln!(f, "{}: NOT read. {problem}", folder.display())?;
        }
        let right = self.tenants.iter().filter(|report| report.ok).count();
        let (wrong, unknown) = (self.tenants.len() - right, self.not_looked_at.len());
        write!(
            f,
            "Tenants: {}, intact: {right}, not intact: {wrong}, not read: {unknown}. No checkpoint was given, so trails \
             that were rewritten as a whole would look the same.",
            self.tenants.len() + unknown
        )
    }
}

/// What the exit code reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VerifyOutcome {
    Right,
    Wrong,
    NotLookedAt,
}

/// Runs `kavach audit verify`.
pub fn run(settings: &VerifySettings) -> ExitCode {
    match look_at(settings) {
        Ok((outcome, text)) => {
            let written = writeln!(io::stdout(), "{text}");
            match outcome {
                VerifyOutcome::Right if written.is_ok() => ExitCode::SUCCESS,
                VerifyOutcome::Right | VerifyOutcome::Wrong => ExitCode::FAILURE,
                VerifyOutcome::NotLookedAt => ExitCode::from(2),
            }
        }
        Err(problem) => {
            // If even this fails, nobody is left to tell.
            let _ = writeln!(io::stderr(), "kavach: {problem}");
            ExitCode::from(2)
        }
    }
}

fn look_at(settings: &VerifySettings) -> Result<(VerifyOutcome, String), String> {
    let VerifySettings { tenant, data_dir, folder, checkpoint, json } = settings;
    let kept = checkpoint.as_deref().map(read_checkpoint).transpose()?;
    let home = match folder {
        Some(folder) => folder.parent().unwrap_or(Path::new(".")),
        None => data_dir,
    };
    let _lock = keep_servers_out(home).map_err(|problem| match problem.kind() {
        io::ErrorKind::ResourceBusy => format!("{problem}; stop it, or copy the tenant's folder and use --folder"),
        _ => format!("{}: {problem}", home.display()),
    })?;
    let of_one = |report: Report| {
        let outcome = if report.ok { VerifyOutcome::Right } else { VerifyOutcome::Wrong };
        Ok((outcome, text(*json, &report)?))
    };
    let log = || LogTails::read(&SystemDisk, data_dir).map_err(|problem| problem.to_string());
    match (folder, tenant) {
        // A copy has what it has. A folder beside its log is read with it.
        (Some(folder), _) => {
            let log = LogTails::read(&SystemDisk, home).map_err(|problem| problem.to_string())?;
            of_one(verify(folder, &log, kept.as_ref())?)
        }
        (None, Some(tenant)) => {
            let (folder, named) = find(data_dir, tenant)?;
            of_one(verify_named(&folder, named, &log()?, kept.as_ref())?)
        }
        (None, None) if kept.is_some() => {
            Err("a checkpoint belongs to one tenant: name that tenant with --tenant, or its folder with --folder"
                .to_owned())
        }
        (None, None) => {
            let summary = verify_all(data_dir)?;
            Ok((summary.outcome(), text(*json, &summary)?))
        }
    }
}

fn text<T: Serialize + fmt::Display>(json: bool, found: &T) -> Result<String, String> {
    match json {
        true => serde_json::to_string_pretty(found).map_err(|problem| problem.to_string()),
        false => Ok(found.to_string()),
    }
}

/// Verifies a folder that is named after a tenant.
fn verify_named(
    folder: &Path,
    named: TenantId,
    log: &LogTails,
    kept: Option<&KeptCheckpoint>,
) -> Result<Report, String> {
    let report = verify(folder, log, kept)?;
    match named == report.tenant_id {
        true => Ok(report),
        false => Err(format!(
            "{} is named after one tenant and holds the journal of another, {}",
            folder.display(),
            report.tenant_id.folder_name()
        )),
    }
}

fn verify_all(data_dir: &Path) -> Result<Summary, String> {
    let mut summary = Summary { ok: true, tenants: Vec::new(), not_looked_at: Vec::new() };
    let log = LogTails::read(&SystemDisk, data_dir).map_err(|problem| problem.to_string())?;
    for (folder, claim) in named_folders(data_dir)? {
        match verify_named(&folder, claim.id, &log, None) {
            Ok(report) => summary.tenants.push(report),
            Err(problem) => summary.not_looked_at.push(NotLookedAt { folder, problem }),
        }
    }
    if summary.tenants.is_empty() && summary.not_looked_at.is_empty() {
        return Err(format!("{} holds no tenant", data_dir.display()));
    }
    summary.ok = summary.outcome() == VerifyOutcome::Right;
    Ok(summary)
}

/// The folders that are named after tenants, by name, with the tenant that each claims to belong to.
fn named_folders(data_dir: &Path) -> Result<Vec<(PathBuf, ClaimedIdentity)>, String> {
    let unreadable = |problem: io::Error| format!("{}: {problem}", data_dir.display());
    let folders = list_tenants(data_dir).map_err(unreadable)?.into_iter();
    Ok(folders.filter_map(|folder| loader::claimed_identity(&folder).map(|claim| (folder.path, claim))).collect())
}

fn read_checkpoint(text: &str) -> Result<KeptCheckpoint, String> {
    if text.trim_start().starts_with('{') {
        return KeptCheckpoint::parse(text.as_bytes());
    }
    let problem = |problem: &dyn fmt::Display| format!("the checkpoint {text} can't be read: {problem}");
    let bytes = read_small(&SystemDisk, Path::new(text)).map_err(|error| problem(&error))?;
    KeptCheckpoint::parse(&bytes.ok_or_else(|| problem(&"there is no such file"))?)
}

/// Finds a tenant's folder by id, slug or `default`. Returns it with the tenant that it is named after.
fn find(data_dir: &Path, name: &str) -> Result<(PathBuf, TenantId), String> {
    let wanted = TenantRef::parse(name);
    let is_it = |claim: &ClaimedIdentity| match &wanted {
        TenantRef::Default => claim.id.is_default(),
        TenantRef::Id(wanted) => claim.id == *wanted,
        TenantRef::Slug(wanted) => claim.slug.as_ref().is_some_and(|slug| slug.as_str() == &**wanted),
        TenantRef::Impossible => false,
    };
    // A copy under another name has the slug in its label too. Of two tenants with one slug, the later one has it.
    let found = named_folders(data_dir)?.into_iter().filter(|(_, claim)| is_it(claim));
    let found = found.max_by_key(|(_, claim)| (claim.is_own_label, claim.id));
    let (folder, claim) = found.ok_or_else(|| format!("{} holds no tenant '{name}'", data_dir.display()))?;
    Ok((folder, claim.id))
}
