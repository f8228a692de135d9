//! `kavach audit verify`: whether a tenant's audit trail is as it was written, found out offline.
//!
//! Every link of the hash chain covers all entries before it. A link that was kept elsewhere (a checkpoint, from
//! `GET /v1/audit/checkpoint`) shows even a chain that was computed anew. Without one, whoever can write to the folder
//! can replace the whole trail, or cut it off at its end, unseen.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::actors::loader;
use crate::domain::{AuditId, TenantId, TenantRef, Timestamp};
use crate::journal::{
    self, Checkpoint, Fault, FaultKind, Folder, Inspection, Passage, SystemDisk, codec, inspect, keep_servers_out,
    list_tenants, read_small,
};
use crate::settings::VerifySettings;

/// A link of a tenant's hash chain, to be kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeptLink {
    /// The tenant.
    pub tenant_id: TenantId,
    /// The last entry it covers.
    pub seq: u64,
    /// The link, as 64 hex digits.
    pub hash: String,
    /// When it was written.
    pub time: Timestamp,
}

impl KeptLink {
    /// The link of that tenant.
    pub fn new(tenant_id: TenantId, link: Checkpoint) -> Self {
        let hash = link.hash.iter().fold(String::new(), |mut hex, byte| {
            // A string takes all that is written to it.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        Self { tenant_id, seq: link.seq, hash, time: Timestamp::from_millis(link.time_ms) }
    }

    /// Reads the JSON of one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Text {
            tenant_id: Option<String>,
            seq: u64,
            hash: String,
            time: Timestamp,
        }
        let Text { tenant_id, seq, hash, time } = serde_json::from_slice(json)
            .map_err(|problem| format!("the checkpoint is not the JSON of one: {problem}"))?;
        let tenant_id = match tenant_id {
            None => TenantId::DEFAULT,
            Some(id) => TenantId::parse(&id).ok_or("the checkpoint's tenantId is no tenant's id")?,
        };
        let kept = Self { tenant_id, seq, hash, time };
        kept.link().map(|_| kept)
    }

    fn link(&self) -> Result<Checkpoint, String> {
        let problem = "the checkpoint's hash is not 64 hex digits";
        let mut hash = [0; 32];
        if self.hash.len() != 64 {
            return Err(problem.to_owned());
        }
        for (at, byte) in hash.iter_mut().enumerate() {
            let digits = self.hash.get(2 * at..2 * at + 2).ok_or(problem)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| problem)?;
        }
        Ok(Checkpoint { seq: self.seq, hash, time_ms: self.time.millis() })
    }
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Whether the trail is as it was written, as far as links cover it.
    pub ok: bool,
    /// The tenant.
    pub tenant_id: TenantId,
    /// The folder that was looked at.
    pub folder: PathBuf,
    /// Segment files in it.
    pub segments: usize,
    /// The first entry there is; retention removed those before.
    pub first_seq: u64,
    /// The last entry that was looked at.
    pub last_seq: u64,
    /// Links that fit.
    pub links: u64,
    /// The newest of them.
    pub last_link: KeptLink,
    /// Entries after it: no link covers them yet.
    pub not_covered: u64,
    /// Bytes at the end that are no whole entry, or behind one that is not there: what a crash leaves.
    pub torn_bytes: u64,
    /// How the chain stands to the checkpoint.
    pub checkpoint: CheckpointResult,
    /// The first wrong entry.
    pub fault: Option<FaultReport>,
}

/// How the chain stands to the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckpointResult {
    /// None was given.
    NotGiven,
    /// The chain passes through it.
    Passed,
    /// The chain does not pass through it, or was not followed that far.
    NotPassed,
    /// The entries it covers are no longer there.
    TooOld,
}

/// The first wrong entry.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultReport {
    /// `changed`, `removed`, `moved` or `rewritten`.
    pub kind: &'static str,
    /// Its number.
    pub seq: u64,
    /// The last entry it may be instead: the links do not tell them apart.
    pub last_seq: u64,
    /// Its audit id, where there is an entry of that number.
    pub audit_id: Option<AuditId>,
    /// Its time.
    pub time: Option<Timestamp>,
    /// The entry before it, which is as it was.
    pub after_audit_id: Option<AuditId>,
    /// That one's time.
    pub after_time: Option<Timestamp>,
    /// The file.
    pub file: PathBuf,
    /// The place in the file, once uncompressed.
    pub offset: u64,
    /// What was seen there.
    pub detail: String,
}

/// Checks a tenant's folder, which nobody may write to meanwhile.
///
/// # Errors
/// A sentence that says why it can't be looked at.
pub fn verify(folder: &Path, kept: Option<&KeptLink>) -> Result<Report, String> {
    let link = kept.map(KeptLink::link).transpose()?;
    let mut latest = Timestamp::default();
    let mut odd = |_: u64, bytes: &[u8]| match codec::decode_event(bytes) {
        Err(problem) => Some(format!("the entry can't be read: {problem}")),
        Ok((at, _)) if at < latest => Some(format!("the entry is of {at}, before the one ahead of it")),
        Ok((at, _)) => {
            latest = at;
            None
        }
    };
    let opened = Folder::open(folder).map_err(|problem| format!("{}: {problem}", folder.display()))?;
    let found = inspect(&opened, link, &mut odd).map_err(|problem| problem.to_string())?;
    let tenant = TenantId::from_bytes(found.tenant);
    if kept.is_some_and(|kept| kept.tenant_id != tenant) {
        return Err(format!("the checkpoint is of another tenant; this folder is of {}", tenant.folder_name()));
    }
    Ok(Report::new(folder, tenant, found))
}

impl Report {
    fn new(folder: &Path, tenant: TenantId, found: Inspection) -> Self {
        let Inspection { tenant: _, segments, first_seq, last_seq, links, link, passage, torn_bytes, fault } = found;
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
            last_link: KeptLink::new(tenant, link),
            not_covered: last_seq.saturating_sub(link.seq),
            torn_bytes,
            checkpoint,
            fault: fault.map(|fault| FaultReport::new(tenant, fault)),
        }
    }
}

impl FaultReport {
    fn new(tenant: TenantId, fault: Fault) -> Self {
        let Fault { kind, file, offset, first, last, event, before, detail } = fault;
        let told = |bytes: Option<Vec<u8>>, seq| {
            let (at, _) = codec::decode_event(&bytes?).ok()?;
            Some((AuditId::derive(at, seq, tenant.tag()), at))
        };
        let (audit_id, time) = told(event, first).unzip();
        let (after_audit_id, after_time) = told(before, first.saturating_sub(1)).unzip();
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
        let Self { tenant_id, segments, first_seq, last_seq, links, last_link, not_covered, torn_bytes, .. } = self;
        let tenant = tenant_id.folder_name();
        match &self.fault {
            Some(fault) => write!(f, "The audit trail of tenant {tenant} is not as it was written. {fault}")?,
            None => write!(
                f,
                "The audit trail of tenant {tenant} is as it was written: {} entries, segments: {segments}, links: {links}.",
                (last_seq + 1).saturating_sub(*first_seq)
            )?,
        }
        if *first_seq > 1 {
            write!(
                f,
                "\nIt starts with entry {first_seq}: retention removed those before, and the oldest segment's word is \
                 taken for the chain up to there."
            )?;
        }
        match self.checkpoint {
            CheckpointResult::Passed => write!(f, "\nThe chain passes through the checkpoint.")?,
            CheckpointResult::NotGiven if self.fault.is_none() => write!(
                f,
                "\nNo checkpoint was given, so a trail that was written anew as a whole would look the same."
            )?,
            CheckpointResult::NotGiven | CheckpointResult::NotPassed => {}
            CheckpointResult::TooOld => write!(
                f,
                "\nThe checkpoint is older than the oldest entry and proves nothing any more: keep newer ones."
            )?,
        }
        if self.fault.is_none() {
            write!(f, "\nThe newest link covers all up to entry {}, {}.", last_link.seq, last_link.time)?;
            if *not_covered > 0 {
                write!(f, " {not_covered} entries after it are not covered yet.")?;
            }
            if *torn_bytes > 0 {
                write!(
                    f,
                    " The last {torn_bytes} bytes can't be followed, as a crash leaves what nothing says was on disk."
                )?;
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
                write!(f, "An entry up to number {last_seq} was changed, and the links after it computed anew")?;
            }
            ("changed", true) => write!(f, "One of the entries {seq} to {last_seq} was changed, removed or added")?,
            ("removed", true) => write!(f, "The entries {seq} to {last_seq} were removed")?,
            (kind, _) => write!(f, "Entry {seq} was {kind}")?,
        }
        if let (Some(id), Some(time)) = (audit_id, time) {
            let first = if *kind == "changed" && last_seq > seq { ", the first of which is" } else { ":" };
            write!(f, "{first} {id} of {time}")?;
        }
        if let (Some(id), Some(time)) = (after_audit_id, after_time) {
            write!(f, "; right before it is {id} of {time}")?;
        }
        write!(f, ". {} at byte {offset}: {detail}.", file.display())
    }
}

/// Runs `kavach audit verify`.
pub fn run(settings: &VerifySettings) -> ExitCode {
    let looked_at = look_at(settings).and_then(|report| {
        let text = match settings.json {
            true => serde_json::to_string_pretty(&report).map_err(|problem| problem.to_string())?,
            false => report.to_string(),
        };
        Ok((report.ok, text))
    });
    match looked_at {
        Ok((ok, text)) => {
            let written = writeln!(io::stdout(), "{text}");
            if ok && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(problem) => {
            // Nobody is left to tell where even that fails.
            let _ = writeln!(io::stderr(), "kavach: {problem}");
            ExitCode::from(2)
        }
    }
}

fn look_at(settings: &VerifySettings) -> Result<Report, String> {
    let VerifySettings { tenant, data_dir, folder, checkpoint, json: _ } = settings;
    let kept = checkpoint.as_deref().map(read_checkpoint).transpose()?;
    let home = match folder {
        Some(folder) => folder.parent().unwrap_or(Path::new(".")),
        None => data_dir,
    };
    let _lock = keep_servers_out(home).map_err(|problem| match problem.kind() {
        io::ErrorKind::ResourceBusy => format!("{problem}; stop it, or copy the tenant's folder and use --folder"),
        _ => format!("{}: {problem}", home.display()),
    })?;
    let (folder, named) = match (folder, tenant) {
        (Some(folder), _) => (folder.clone(), None),
        (None, Some(tenant)) => find(data_dir, tenant)?,
        (None, None) => return Err("--tenant or --folder is needed".to_owned()),
    };
    let report = verify(&folder, kept.as_ref())?;
    match named {
        Some(id) if id != report.tenant_id => Err(format!(
            "{} holds the journal of tenant {}, not of the one it is named after",
            folder.display(),
            report.tenant_id.folder_name()
        )),
        _ => Ok(report),
    }
}

fn read_checkpoint(text: &str) -> Result<KeptLink, String> {
    if text.trim_start().starts_with('{') {
        return KeptLink::parse(text.as_bytes());
    }
    let problem = |problem: &dyn fmt::Display| format!("the checkpoint {text} can't be read: {problem}");
    let bytes = read_small(&SystemDisk, Path::new(text)).map_err(|error| problem(&error))?;
    KeptLink::parse(&bytes.ok_or_else(|| problem(&"there is no such file"))?)
}

/// The folder of the tenant that is named, by id, slug or `default`.
fn find(data_dir: &Path, name: &str) -> Result<(PathBuf, Option<TenantId>), String> {
    let unreadable = |problem: io::Error| format!("{}: {problem}", data_dir.display());
    let wanted = TenantRef::parse(name);
    let folders: Vec<journal::TenantFolder> = list_tenants(data_dir).map_err(unreadable)?;
    for folder in folders {
        let Some(loader::Claim { id, slug, .. }) = loader::identify(&folder) else { continue };
        let is_it = match &wanted {
            TenantRef::Default => id.is_default(),
            TenantRef::Id(wanted) => id == *wanted,
            TenantRef::Slug(wanted) => slug.is_some_and(|slug| slug.as_str() == &**wanted),
            TenantRef::Impossible => false,
        };
        if is_it {
            return Ok((folder.path, Some(id)));
        }
    }
    Err(format!("{} holds no tenant '{name}'", data_dir.display()))
}
