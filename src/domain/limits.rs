//! Every limit in one place, each with its reason. Nothing a client sends is unbounded.

/// Bytes of a management or batch body. A thousand requests of a kilobyte each fit.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Bytes of one authorize body: 32 KiB of arguments, as much again for the rest.
pub const MAX_AUTHORIZE_BODY_BYTES: usize = 64 * 1024;
/// Bytes of bodies that are on their way in, of all calls together. One that came with its head is not among them. A
/// body comes within milliseconds where nobody is slow on purpose, so this is thousands of calls a second.
pub const MAX_SLOW_BODY_BYTES: usize = 128 * 1024 * 1024;
/// Seconds that a body may take once its head is there: a megabyte at less than the speed of any network in use.
pub const MAX_BODY_SECONDS: u64 = 30;
/// Bytes of large answers that wait for their clients: seven of the largest pages of an audit trail.
pub const MAX_HELD_ANSWER_BYTES: usize = 256 * 1024 * 1024;
/// Characters of a name or an owner's id: longer than any real one, short enough to index and show.
pub const MAX_NAME_CHARS: usize = 256;
/// Characters of a slug: the length of a DNS label (RFC 1035), so that a slug can be a host name's part.
pub const MAX_SLUG_CHARS: usize = 63;
/// Bytes of a resource or of a resource pattern.
pub const MAX_RESOURCE_BYTES: usize = 512;
/// Segments of a resource: one bit each in the matcher's mask.
pub const MAX_RESOURCE_SEGMENTS: usize = 32;
/// Bytes of an action.
pub const MAX_ACTION_BYTES: usize = 128;
/// Permissions of one agent: the matcher stays in a few cache lines' reach up to here.
pub const MAX_PERMISSIONS: usize = 1_000;
/// Actions of one permission.
pub const MAX_ACTIONS: usize = 64;
/// Argument patterns of one permission.
pub const MAX_ARG_PATTERNS: usize = 64;
/// Bytes of one argument pattern.
pub const MAX_ARG_PATTERN_BYTES: usize = 512;
/// Regular expressions of one agent's permissions, or of one delegation's, in all: each may take a millisecond to
/// compile, when it is set and again when it is first needed after a restart.
pub const MAX_REGEXES: usize = 64;
/// Globs that one stands for by its braces: `{a,b}{a,b}…` would be without end.
pub const MAX_GLOB_ALTERNATIVES: usize = 64;
/// Bytes of all argument patterns of one agent's permissions, or of one delegation's.
pub const MAX_ALL_ARG_PATTERN_BYTES: usize = 64 * 1024;
/// Bytes a compiled regular expression may take: 512 bytes of text can ask for gigabytes (`.{9}{9}{9}…`). Two of `\w`
/// or `\pL`, which are large tables, fit.
pub const MAX_REGEX_BYTES: usize = 128 * 1024;
/// The same for one that is kept already, and for what its matcher remembers while it runs. It is what could be set
/// once: what was accepted then goes on to match.
pub const MAX_KEPT_REGEX_BYTES: usize = 256 * 1024;
/// Compiled regular expressions a tenant keeps: those of an agent and of a delegation to it. They are built when first
/// needed, and rebuilt when forgotten, so that a tenant's patterns can't fill the memory of the process.
pub const MAX_CACHED_REGEXES: usize = 2 * MAX_REGEXES;
/// Bytes of a string argument that has to match a pattern: paths, names and addresses are shorter.
pub const MAX_MATCHED_BYTES: usize = 4 * 1024;
/// Steps one decision may take to match its arguments and to look at what was delegated, over all permissions it looks
/// at: some 20 ms of the costliest. A call with a few patterns takes hundreds.
pub const MAX_MATCH_STEPS: usize = 16 * 1024 * 1024;
/// Steps that a delegation's or a grantor's permission counts when a decision looks at it, and each shape among them
/// when it is searched for a match. An agent's own permissions are few enough to be free.
pub const STEPS_PER_PERMISSION: usize = 64;
/// Steps that each of its actions and addresses counts besides; each byte of its resource counts one.
pub const STEPS_PER_ITEM: usize = 8;
/// Steps that a regular expression counts for each byte it is matched against.
pub const REGEX_STEPS_PER_BYTE: usize = 16;
/// Steps that reading a URL counts for each byte of it: names in other scripts are normalized.
pub const URL_STEPS_PER_BYTE: usize = 16;
/// Steps that compiling a regular expression counts: one decision compiles at most twice as many as are kept.
pub const REGEX_COMPILE_STEPS: usize = MAX_MATCH_STEPS / MAX_CACHED_REGEXES / 2;
/// Addresses or networks of one allowlist.
pub const MAX_IP_NETS: usize = 256;
/// Bytes of an agent's metadata as JSON.
pub const MAX_METADATA_BYTES: usize = 16 * 1024;
/// Bytes of a call's arguments as JSON.
pub const MAX_ARGUMENTS_BYTES: usize = 32 * 1024;
/// Nesting of arguments and metadata: far past real calls, far below what could exhaust a stack.
pub const MAX_JSON_DEPTH: usize = 64;
/// Bytes kept of a `User-Agent`: it is shown in the audit log, never decided on.
pub const MAX_USER_AGENT_BYTES: usize = 256;
/// Requests of one batch.
pub const MAX_BATCH: usize = 1_000;
/// Items of one page of a list.
pub const MAX_PAGE: usize = 1_000;
/// Entries of an audit page when no `limit` is given.
pub const DEFAULT_AUDIT_PAGE: usize = 100;
/// Entries an audit query may skip by `offset`: past that a cursor does it, in constant memory.
pub const MAX_AUDIT_OFFSET: usize = 10_000;
/// Actions named by one audit filter.
pub const MAX_FILTER_ACTIONS: usize = 64;
/// Live API keys of one tenant: enough to give each service its own and rotate them.
pub const MAX_TENANT_KEYS: usize = 100;
/// Old tokens of one agent that a rotation's grace still keeps valid.
pub const MAX_GRACED_TOKENS: usize = 8;
/// Seconds of grace a rotation can ask for: 30 days.
pub const MAX_GRACE_SECONDS: u64 = 30 * 24 * 60 * 60;
/// Days of audit retention a tenant can ask for: a century.
pub const MAX_RETENTION_DAYS: u32 = 36_500;
/// Delegation depth a tenant can ask for: chains longer than this are a mistake, and each link costs a check.
pub const MAX_DELEGATION_DEPTH: u32 = 32;
/// Agents of one tenant in all, revoked and expired ones too: they stay known, at most a KiB each, for good. A tenant
/// key can make them at will, so there is an end to it where the tenant has no `maxAgents`.
pub const MAX_ALL_AGENTS: usize = 2_000_000;
/// Active agents a tenant can ask for: as many as it can have at all.
pub const MAX_AGENTS: u32 = 2_000_000;
/// Characters of an argument's value quoted in a reason.
pub const MAX_QUOTED_CHARS: usize = 80;
/// Characters of what a parser says is wrong with a body or a query string: it names all fields there are, and repeats
/// the one that is none.
pub const MAX_CAUSE_CHARS: usize = 400;
/// Budget policies of one tenant. Each matching one is checked and charged with every call.
pub const MAX_POLICIES: usize = 10_000;
/// Warnings that one answer shows: a person reads a few, and a batch's answer holds a thousand times as many.
pub const MAX_WARNINGS: usize = 16;
/// Calls that one usage report can add.
pub const MAX_REPORTED_CALLS: u64 = 1_000_000_000;
/// Settlements a tenant remembers, so that a repeat is answered as the first was. A decision older than all of them
/// can't be settled any more. They are part of each snapshot's copy, which may not take a millisecond.
pub const MAX_SETTLED: usize = 50_000;
/// Journals read at once for audit trails, on a machine with twice as many cores or more: each reader may take a core,
/// and holds a segment of some 20 MB. Half of the cores are left to decisions.
pub const MAX_AUDIT_READERS: usize = 4;
/// Pages of audit entries made at once: each may hold a thousand entries of 32 KiB. More wait.
pub const MAX_AUDIT_PAGES: usize = 8;
/// Pages of one tenant's entries made at once, so that no tenant takes all of them. Here and below, what a tenant's own
/// keys ask of it is counted apart from what operators do.
pub const MAX_AUDIT_PAGES_PER_TENANT: usize = 2;
/// Audit exports under way in a process: each holds a segment in memory while its client takes its time.
pub const MAX_EXPORTS: usize = 8;
/// Of those, exports that only an operator can have, so that tenants together don't take all of them.
pub const RESERVED_EXPORTS: usize = 2;
/// Audit exports of one tenant under way, so that no tenant takes all of them.
pub const MAX_EXPORTS_PER_TENANT: usize = 2;
/// Live audit streams of a process: each is told of every flush of what it follows.
pub const MAX_STREAMS: usize = 256;
/// Of those, streams that only an operator can have.
pub const RESERVED_STREAMS: usize = 16;
/// Live audit streams of one tenant: a few dashboards and collectors.
pub const MAX_STREAMS_PER_TENANT: usize = 16;
/// Delegations of one tenant that are not over. A revocation may have to look at all of them.
pub const MAX_DELEGATIONS: usize = 100_000;
/// Delegations that one may stand on: those that are live into its grantor when it is made. Each names them, in memory
/// and in the journal, and a revocation looks at them: 100 MB over all of a tenant's.
pub const MAX_STANDS_ON: usize = 256;
/// Delegations that leave one agent and are not over: an orchestrator with as many workers. Each revocation of what
/// it holds looks at them.
pub const MAX_DELEGATIONS_FROM_AGENT: usize = 10_000;
/// What a decision about one agent may have to look at for delegations: the permissions of the links that arrive at
/// it, of those that these stand on, and so on, and each standing of one link on another. Every permission an agent can
/// have, passed on through the three links of a usual chain, fits.
pub const MAX_DELEGATION_WEIGHT: usize = 4 * MAX_PERMISSIONS;
/// What delegations that are over and still shown, the newest, may weigh, each one more than its weight: some thousands
/// of usual ones. Older ones are in the audit trail alone: short-lived ones are made without end, and each snapshot
/// copies them.
pub const MAX_ENDED_WEIGHT: usize = 10 * MAX_DELEGATION_WEIGHT;
/// Links that the search for a circle looks at before it gives up: half a millisecond.
pub const MAX_CYCLE_SEARCH: usize = 10_000;
/// Steps by which one call finds out who holds what is delegated: twice those of a decision.
pub const MAX_COVER_STEPS: usize = 2 * MAX_MATCH_STEPS;
/// Steps that each action that is looked for among each other one counts.
pub const STEPS_PER_ACTION_PAIR: usize = 4;
/// Delegations that are over and that an explanation still names, the newest.
pub const MAX_EXPLAINED_LINKS: usize = 20;
/// Steps that an explanation shows, the first: all that an agent's own permissions can take, in a few megabytes.
pub const MAX_EXPLAINED_STEPS: usize = 10_000;
/// Searches under way in a process, each a millisecond's work at a time on its tenant's thread.
pub const MAX_SEARCHES: usize = 16;
/// Searches of one tenant under way: more wait, so that they don't add up in front of its neighbours' calls.
pub const MAX_SEARCHES_PER_TENANT: usize = 1;
/// Microseconds that a search takes of its tenant's thread before others have their turn. A single decision that takes
/// longer is not broken off.
pub const SEARCH_STEP_MICROS: u128 = 1_000;
/// Microseconds of such work for one page: then it ends early, and the next one goes on. A million agents are looked at
/// by then.
pub const MAX_SEARCH_MICROS: u128 = 1_000_000;
/// Permissions that one search looks at for what it could find, and pairs of a link's with its grantor's: some
/// milliseconds. Every permission an agent can have, each about one thing, lent through the three links of a usual
/// chain, takes a tenth. As many patterns are passed on by all links together.
pub const MAX_SEARCH_PAIRS: usize = 50_000;
/// Bytes of a request's identifier that are sent back: many times what identifiers take.
pub const MAX_REQUEST_ID_BYTES: usize = 1_024;
