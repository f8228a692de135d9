//! Every limit in one place, each with its reason. Nothing a client sends is unbounded.

/// Milliseconds of a day.
pub const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Bytes of a management or batch body. A thousand requests of a kilobyte each fit.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Bytes of one authorize body: arguments may hold a file.
pub const MAX_AUTHORIZE_BODY_BYTES: usize = MAX_BODY_BYTES;
/// Bytes of an authorize body that we read before checking its key, which is cheaper if the key is good: fully recorded
/// arguments, and as much again for the rest.
pub const MAX_UNCHECKED_BODY_BYTES: usize = 64 * 1024;
/// Bytes of bodies still arriving, over all calls. Bodies that came with their head do not count. Unless a client is
/// slow on purpose its body comes within milliseconds, so this is thousands of calls a second.
pub const MAX_SLOW_BODY_BYTES: usize = 128 * 1024 * 1024;
/// Seconds that a body may take after its head: a megabyte at less than the speed of any network in use.
pub const MAX_BODY_SECONDS: u64 = 30;
/// Bytes of large answers that wait for their clients: seven of the largest audit pages.
pub const MAX_HELD_ANSWER_BYTES: usize = 256 * 1024 * 1024;
/// Characters of a name or an owner's id: longer than any real one, short enough to index and show.
pub const MAX_NAME_CHARS: usize = 256;
/// Characters of a slug: the length of a DNS label (RFC 1035), so that a slug can be part of a host name.
pub const MAX_SLUG_CHARS: usize = 63;
/// Bytes of a resource or of a resource pattern.
pub const MAX_RESOURCE_BYTES: usize = 512;
/// Segments of a resource: one bit each in the matcher's mask.
pub const MAX_RESOURCE_SEGMENTS: usize = 32;
/// Bytes of an action.
pub const MAX_ACTION_BYTES: usize = 128;
/// Permissions of one agent: up to this many, the matcher needs only a few cache lines.
pub const MAX_PERMISSIONS: usize = 1_000;
/// Actions of one permission.
pub const MAX_ACTIONS: usize = 64;
/// Argument patterns of one permission.
pub const MAX_ARG_PATTERNS: usize = 64;
/// Bytes of one argument pattern.
pub const MAX_ARG_PATTERN_BYTES: usize = 512;
/// Regular expressions in all permissions of one agent, or of one delegation. Each may take a millisecond to compile,
/// when it is set and again when it is first needed after a restart.
pub const MAX_REGEXES: usize = 64;
/// Globs that the braces of one may expand to: `{a,b}{a,b}…` doubles with every pair.
pub const MAX_GLOB_ALTERNATIVES: usize = 64;
/// Bytes of all argument patterns, and of all names and values of arguments, in the permissions of one agent, or of one
/// delegation.
pub const MAX_ALL_ARG_PATTERN_BYTES: usize = 64 * 1024;
/// Bytes of a compiled regular expression: 512 bytes of text can ask for gigabytes (`.{9}{9}{9}…`). Two of `\w` or
/// `\pL`, which are large tables, fit.
pub const MAX_REGEX_BYTES: usize = 128 * 1024;
/// Bytes of a stored regular expression once compiled, and of its matcher's cache. This is the limit under which older
/// versions accepted it, so it still matches.
pub const MAX_KEPT_REGEX_BYTES: usize = 256 * 1024;
/// Compiled regular expressions that a tenant keeps: those of an agent and of a delegation to it. They are built when
/// first needed and rebuilt after they were dropped, so that a tenant's patterns can't fill the process's memory.
pub const MAX_CACHED_REGEXES: usize = 2 * MAX_REGEXES;
/// Bytes of a string argument that must match a pattern: paths, names and addresses are shorter.
pub const MAX_MATCHED_BYTES: usize = 4 * 1024;
/// Steps that one decision may take to match its arguments and to search delegations, over all permissions: some 20 ms
/// at worst. A step is a unit of work, about a nanosecond. A call with a few patterns takes hundreds.
pub const MAX_MATCH_STEPS: usize = 16 * 1024 * 1024;
/// Steps that a decision pays for each permission of a delegation or a grantor, and for each shape among them when it
/// searches them. An agent's own permissions are few enough to be free.
pub const STEPS_PER_PERMISSION: usize = 64;
/// Steps for each action and address of such a permission; each byte of its resource costs one.
pub const STEPS_PER_ITEM: usize = 8;
/// Strings among a call's arguments that can be matched: more of them than a call of the usual size can hold.
pub const MAX_MATCHED_STRINGS: usize = 16 * 1024;
/// Steps of holding a value against a glob, however short both are.
pub const GLOB_STEPS: usize = 16;
/// The same for a regular expression.
pub const REGEX_STEPS: usize = 64;
/// The same for a glob for URLs, which is taken apart each time.
pub const URL_GLOB_STEPS: usize = 128;
/// The same for a glob with braces, whose alternatives are made each time.
pub const BRACES_STEPS: usize = 512;
/// Steps of a regular expression for each byte it is matched against.
pub const REGEX_STEPS_PER_BYTE: usize = 16;
/// Steps of reading a URL, for each byte: names in other scripts are normalized.
pub const URL_STEPS_PER_BYTE: usize = 16;
/// Steps of compiling a regular expression: one decision compiles at most twice as many as are kept.
pub const REGEX_COMPILE_STEPS: usize = MAX_MATCH_STEPS / MAX_CACHED_REGEXES / 2;
/// Arguments that one permission may name: more than any known tool has.
pub const MAX_NAMED_ARGUMENTS: usize = 64;
/// Bytes of the name of an argument, with the names of all that it is in.
pub const MAX_ARGUMENT_NAME_BYTES: usize = 256;
/// Steps from a call's arguments to one that a permission names. Each level is read once more.
pub const MAX_ARGUMENT_NAME_STEPS: usize = 16;
/// Values of one argument that a permission may list.
pub const MAX_ARGUMENT_VALUES: usize = 64;
/// Bytes of such a value as JSON.
pub const MAX_ARGUMENT_VALUE_BYTES: usize = MAX_ARG_PATTERN_BYTES;
/// Bytes of a number that an argument is compared with: more digits than a double or an amount of money has.
pub const MAX_NUMBER_BYTES: usize = 64;
/// Addresses or networks of one allowlist.
pub const MAX_IP_NETS: usize = 256;
/// Bytes of an agent's metadata as JSON.
pub const MAX_METADATA_BYTES: usize = 16 * 1024;
/// Bytes of a call's arguments, as JSON without needless escapes, that we record whole. Of larger ones we record the
/// hash and the size: the trail is kept for years.
pub const MAX_ARGUMENTS_BYTES: usize = 32 * 1024;
/// Nesting of arguments and metadata: far past real calls, far below what could exhaust a stack. A call with deeper
/// arguments is denied.
pub const MAX_JSON_DEPTH: usize = 64;
/// Bytes that we keep of a `User-Agent`: the audit log shows it, and no decision depends on it.
pub const MAX_USER_AGENT_BYTES: usize = 256;
/// Requests of one batch.
pub const MAX_BATCH: usize = 1_000;
/// Items of one page of a list.
pub const MAX_PAGE: usize = 1_000;
/// Entries of an audit page when no `limit` is given.
pub const DEFAULT_AUDIT_PAGE: usize = 100;
/// Entries that an audit query may skip by `offset`: beyond that a cursor does it, in constant memory.
pub const MAX_AUDIT_OFFSET: usize = 10_000;
/// Actions named by one audit filter.
pub const MAX_FILTER_ACTIONS: usize = 64;
/// Things that one spend report groups by: more make groups that nobody reads.
pub const MAX_GROUP_BY: usize = 4;
/// Groups of one spend report. They are all that a report holds in memory, up to 2 KiB each, and one answer.
pub const MAX_SPEND_GROUPS: usize = 10_000;
/// Spend reports made at once: each may read whole trails and holds its groups. Others wait.
pub const MAX_SPEND_REPORTS: usize = 4;
/// Spend reports of one tenant made at once, so that no tenant takes all of them.
pub const MAX_SPEND_REPORTS_PER_TENANT: usize = 1;
/// Live API keys of one tenant: enough to give each service its own and rotate them.
pub const MAX_TENANT_KEYS: usize = 100;
/// Operator keys besides the first: one for each person and each tool that runs the server, and rotation.
pub const MAX_OPERATOR_KEYS: usize = 100;
/// Old tokens of one agent that are still valid after rotations.
pub const MAX_GRACED_TOKENS: usize = 8;
/// Seconds for which a rotation may keep the old token: 30 days.
pub const MAX_GRACE_SECONDS: u64 = 30 * 24 * 60 * 60;
/// Days of audit retention that a tenant may set: a century.
pub const MAX_RETENTION_DAYS: u32 = 36_500;
/// Delegation depth that a tenant may set: longer chains are a mistake, and each link costs a check.
pub const MAX_DELEGATION_DEPTH: u32 = 32;
/// Agents of one tenant in all, revoked and expired ones too: each stays known for good and takes up to a KiB. A tenant
/// key can create agents at will, so this limit holds even if the tenant has no `maxAgents`.
pub const MAX_ALL_AGENTS: usize = 2_000_000;
/// Active agents that a tenant may set: as many as it can have at all.
pub const MAX_AGENTS: u32 = 2_000_000;
/// Characters of an argument's value quoted in a reason.
pub const MAX_QUOTED_CHARS: usize = 80;
/// Characters of a parser's message about a body or a query string: it names every field there is, and repeats the
/// unknown one.
pub const MAX_CAUSE_CHARS: usize = 400;
/// Budget policies of one tenant. Each call checks and charges every one that applies.
pub const MAX_POLICIES: usize = 10_000;
/// Instance policies, over all tenants. A call looks at those that match, and whoever lends looks at all tenants that have
/// a slice.
pub const MAX_INSTANCE_POLICIES: usize = 100;
/// The last day on which a policy's months may start: every month has it.
pub const MAX_MONTH_START: u8 = 28;
/// Labels of one agent, or of a policy's scope. A call looks for policies by each of its agent's.
pub const MAX_LABELS: usize = 32;
/// Characters of a label's key or value: the length of a label in the tools that people carry labels over from.
pub const MAX_LABEL_CHARS: usize = 63;
/// Warnings in one answer: a person reads a few, and a batch has a thousand answers.
pub const MAX_WARNINGS: usize = 16;
/// Calls in one usage report.
pub const MAX_REPORTED_CALLS: u64 = 1_000_000_000;
/// Settlements that a tenant remembers, so that a repeat gets the first answer. A decision older than all of them can
/// no longer be settled. They are part of each snapshot's copy, which must stay under a millisecond.
pub const MAX_SETTLED: usize = 50_000;
/// Seconds that a hold may last from the moment it is made or prolonged: a day, longer than any call takes. What nobody
/// settles is left again after that.
pub const MAX_HOLD_SECONDS: u32 = 24 * 60 * 60;
/// Open holds of one tenant: a thousand a second that are settled within 100 seconds. Each takes some 150 bytes, and a
/// restart reads all of them.
pub const MAX_HOLDS: usize = 100_000;
/// Holds that have ended and that a tenant remembers, so that a repeat gets the first answer: as many as settlements.
pub const MAX_ENDED_HOLDS: usize = 50_000;
/// Journals read at once for audit trails, at most one for every two cores: each reader may take a core, and holds a
/// segment of some 20 MB. Half of the cores are left to decisions.
pub const MAX_AUDIT_READERS: usize = 4;
/// Audit pages made at once: each may hold a thousand entries of 32 KiB. Others wait.
pub const MAX_AUDIT_PAGES: usize = 8;
/// Audit pages of one tenant made at once, so that no tenant takes all of them. Here and below, a tenant's own keys and
/// the operators are counted apart.
pub const MAX_AUDIT_PAGES_PER_TENANT: usize = 2;
/// Audit exports under way in the process: each holds a segment in memory while its client takes its time.
pub const MAX_EXPORTS: usize = 8;
/// Exports reserved for operators, so that tenants together can't take all of them.
pub const RESERVED_EXPORTS: usize = 2;
/// Audit exports of one tenant under way, so that no tenant takes all of them.
pub const MAX_EXPORTS_PER_TENANT: usize = 2;
/// Live audit streams of the process: every flush of a journal wakes the streams that follow it.
pub const MAX_STREAMS: usize = 256;
/// Streams reserved for operators.
pub const RESERVED_STREAMS: usize = 16;
/// Live audit streams of one tenant: a few dashboards and collectors.
pub const MAX_STREAMS_PER_TENANT: usize = 16;
/// Delegations of one tenant that are not over. A revocation may have to look at all of them.
pub const MAX_DELEGATIONS: usize = 100_000;
/// Delegations that one may stand on: those to its grantor live when it is made. Each holds the list in memory and in
/// the journal, and a revocation looks at it: 100 MB over all of a tenant's.
pub const MAX_STANDS_ON: usize = 256;
/// Delegations from one agent that are not over: an orchestrator with as many workers. Each revocation of a delegation
/// to it looks at them.
pub const MAX_DELEGATIONS_FROM_AGENT: usize = 10_000;
/// How much a decision about one agent may have to look at for delegations: the permissions of the links to it, of
/// those that these stand on, and so on, and each edge between two links. All permissions of an agent at its limit,
/// passed on through the three links of a usual chain, fit.
pub const MAX_DELEGATION_WEIGHT: usize = 4 * MAX_PERMISSIONS;
/// Weight of the newest delegations that are over and still shown, each one more than its own: some thousands of usual
/// ones. Older ones are only in the audit trail: short-lived ones are made without end, and each snapshot copies them.
pub const MAX_ENDED_WEIGHT: usize = 10 * MAX_DELEGATION_WEIGHT;
/// Links that the search for a circle visits before it gives up: half a millisecond.
pub const MAX_CYCLE_SEARCH: usize = 10_000;
/// Steps in which one call finds out who holds what is delegated: twice those of a decision.
pub const MAX_COVER_STEPS: usize = 2 * MAX_MATCH_STEPS;
/// Steps for each pair of a wanted action and an action it is compared with.
pub const STEPS_PER_ACTION_PAIR: usize = 4;
/// Delegations that are over and that an explanation still names, newest first.
pub const MAX_EXPLAINED_LINKS: usize = 20;
/// Steps that an explanation shows, from the first: all that an agent's own permissions can take, in a few megabytes.
pub const MAX_EXPLAINED_STEPS: usize = 10_000;
/// Searches under way in the process, each working a millisecond at a time on its tenant's thread.
pub const MAX_SEARCHES: usize = 16;
/// Searches of one tenant under way: others wait, so that they don't add up in front of its neighbours' calls.
pub const MAX_SEARCHES_PER_TENANT: usize = 1;
/// Microseconds for which a search holds its tenant's thread before it lets others run. A single decision that takes
/// longer is not interrupted.
pub const SEARCH_STEP_MICROS: u128 = 1_000;
/// Microseconds of such work for one page: then the page ends early, and the next one goes on. That is enough for a
/// million agents.
pub const MAX_SEARCH_MICROS: u128 = 1_000_000;
/// Permissions that one search considers, and pairs of a link's permission with its grantor's: some milliseconds. An
/// agent at its limit of permissions, each about one thing and lent through the three links of a usual chain, takes a
/// tenth. All links together pass on as many patterns.
pub const MAX_SEARCH_PAIRS: usize = 50_000;
/// Thresholds of a policy. Each charge looks at those that its window has not told.
pub const MAX_THRESHOLDS: usize = 10;
/// The highest threshold, in percent of the limit: of spending ten times past it there is nothing new to say.
pub const MAX_THRESHOLD: u16 = 1_000;
/// Webhooks of one tenant. Each event that makes a message looks at all of them.
pub const MAX_WEBHOOKS: usize = 16;
/// Bytes of a webhook's URL: the most that servers and proxies commonly take.
pub const MAX_WEBHOOK_URL_BYTES: usize = 2_048;
/// Names of messages that a webhook may list: more than there are.
pub const MAX_WEBHOOK_EVENTS: usize = 64;
/// Messages that wait for one webhook. Past that the oldest is given up and listed with the dead letters. They are part
/// of each snapshot's copy: those of all of a tenant's webhooks take some megabytes.
pub const MAX_WAITING_MESSAGES: usize = 10_000;
/// Delivered messages that a webhook still lists: enough to see how it does. The audit trail has all.
pub const MAX_KEPT_DELIVERIES: usize = 100;
/// Messages given up that a webhook still lists, to be sent again: those of a long weekend.
pub const MAX_DEAD_LETTERS: usize = 1_000;
/// Milliseconds after which a message that nobody took is given up: a day, in which somebody notices.
pub const MESSAGE_LIFE_MS: i64 = DAY_MS;
/// Milliseconds for which messages are also signed with the secret before the last rotation: a day to change the endpoint.
pub const OLD_SECRET_MS: i64 = DAY_MS;
/// Milliseconds by which the clock may step back and be waited out: more than a clock kept right by NTP ever does.
pub const MAX_STANDSTILL_MS: i64 = 10_000;
/// Bytes of a request's identifier that we send back: many times what identifiers take.
pub const MAX_REQUEST_ID_BYTES: usize = 1_024;
/// Characters of an idempotency key: seven times those of a UUID, and what other services take.
pub const MAX_IDEMPOTENCY_KEY_CHARS: usize = 255;
/// Milliseconds for which a key is remembered, by the time of events: a day, far longer than any client retries.
pub const KEY_LIFETIME_MS: i64 = DAY_MS;
/// Keys that a tenant remembers, the newest ones: six megabytes. At a hundred requests a second with a key each that is
/// a quarter of an hour, which is longer than clients retry for.
pub const MAX_REMEMBERED_KEYS: usize = 100_000;
