//! The integration tests: the real server binary, driven over HTTP as its users drive it.
//!
//! Each test has its own server and its own directory. None waits for a fixed time: [`harness::eventually`] polls a
//! condition instead. What belongs where:
//!
//! **Who may do what**
//!
//! | module | what belongs in it |
//! | --- | --- |
//! | `access`, `access_table` | who may call each route, with every kind of key: a new route gets a row in the table |
//! | `foreign_ids` | another tenant's id gets the same answer as an unknown one, in every place that takes an id |
//! | `tokens` | keys and tokens: rotation, grace, revocation, expiry; how many agents a tenant may have |
//! | `keys` | keys' roles and ends, operators' keys, what ends with a key, what a token is |
//! | `suspended_agents` | agents that are stopped for a while: what is denied, and what stays |
//! | `policy_owners` | a tenant key can't change what an operator set last |
//! | `attempts` | too many calls without a valid key |
//! | `secrets`, `leaks` | no secret is stored, logged or shown, in any encoding |
//!
//! **Decisions**
//!
//! | module | what belongs in it |
//! | --- | --- |
//! | `life` | one tenant from its creation to a restart after `kill -9`: the overview |
//! | `decisions` | the order of the checks, who decides and records, batches, explain |
//! | `constraints`, `arg_patterns` | constraints; patterns for arguments, and warnings about them |
//! | `arguments` | arguments by their names: tools confined to a folder and to an amount |
//! | `delegations` | delegations: answers, refusals, crashes |
//! | `budgets`, `budget_input`, `budget_proof` | policies and their actions; bad input; exactness under threads and `kill -9` |
//! | `policy_terms` | periods, calendars, scopes and temporary limits of policies; labels; all policies at once |
//! | `usage` | usage reports and settlements |
//! | `idempotency` | requests that are sent again with their idempotency key |
//! | `if_match` | changes of what was changed since |
//! | `holds`, `hold_proof` | holds and how they end; exactness under 64 connections and `kill -9` |
//! | `instance_policies` | policies of the whole instance: exactness over tenants and `kill -9`, isolation |
//! | `webhooks` | messages to endpoints: signatures, order, failures, `kill -9`; which addresses they reach |
//! | `clock` | a system clock that jumps |
//! | `tools` | every tool of the fixture, as real calls |
//! | `gateways` | forward-auth, with a real nginx |
//! | `authzen` | the AuthZEN certification scenario, and beyond it |
//!
//! **What a request may look like**
//!
//! | module | what belongs in it |
//! | --- | --- |
//! | `bad_input`, `bad_table` | requests that are wrong in one way each: a new refusal gets a row in the table |
//! | `wrong_types` | a value of the wrong type in every place of every body |
//! | `bad_bytes`, `mutation` | odd bytes in paths and headers; random bodies: never a 5xx |
//! | `bodies` | one call, however its body is spelled and split |
//! | `words` | texts and numbers in every spelling and size |
//! | `sentences` | the words in reasons and messages that clients look for; what an entry says of who asked |
//! | `queries` | query strings, filters, dates; `no-store` |
//! | `reasons` | the `reason` of what ends something |
//! | `limits` | the last value that each limit still allows |
//! | `openapi`, `conformance` | the document is complete; every answer that a test gets is held against it |
//! | `pages` | the dashboard's files and their security policy |
//!
//! **The audit trail**
//!
//! | module | what belongs in it |
//! | --- | --- |
//! | `audit` | queries: filters, paging, single entries |
//! | `audit_streams`, `stream_resume` | exports, live streams, checkpoints, `audit verify`; resuming a broken stream |
//! | `trail_access` | what ends a long read: its key, its tenant, an unreadable trail |
//! | `trail_changes`, `trail_billing` | what entries of changes say; what a month cost |
//! | `spend` | spend reports, against sums of exported entries |
//! | `retention` | retention, on reading and on disk |
//! | `verify_all` | `audit verify` over all tenants |
//!
//! **Crashes and disks**
//!
//! | module | what belongs in it |
//! | --- | --- |
//! | `crash`, `rounds` | `kill -9` under load; round after round, at random moments |
//! | `upgrade` | data directories that older versions wrote, and `kill -9` at their first start |
//! | `every_byte`, `damage` | every byte cut or flipped; a damaged tenant stays down alone |
//! | `copied_folders` | folders that somebody copied, renamed or restored |
//! | `storage`, `places` | storage that fails for a while; places that can't be written |
//! | `residency` | tenants that leave memory and come back, and the catalog of those that are not there |
//! | `snapshots` | snapshots that many events cause |
//! | `faults` | the process: signals, a second process, bad settings, erasure |
//! | `panics` | a panic in one tenant's actor |
//!
//! **Connections and load**
//!
//! | module | what belongs in it |
//! | --- | --- |
//! | `connections` | which worker serves a connection makes no difference |
//! | `framing` | each answer is framed as its own request asks |
//! | `network` | slow, silent and too many clients |
//! | `tls` | TLS, and certificates that can't be used |
//! | `overload`, `overload_figures` | more calls than a tenant can take; figures to print on demand |
//! | `load` | `kavach load` counts what happened |
//! | `metrics`, `stats` | `/metrics` and `/v1/stats` agree with what happened |
//!
//! **The tests' own tools**
//!
//! | module | what belongs in it |
//! | --- | --- |
//! | `readme`, `guides`, `followed` | runs the commands of the README and of `docs/guides` |
//! | `harness` | starts, kills and restarts the server |
//! | `client`, `events` | an HTTP client; a client of the live stream |
//! | `world` | makes tenants, keys and agents |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test ends by a panic that says what was wrong"
)]

mod access;
mod access_table;
mod arg_patterns;
mod arguments;
mod attempts;
mod audit;
mod audit_streams;
mod authzen;
mod bad_bytes;
mod bad_input;
mod bad_table;
mod bodies;
mod budget_input;
mod budget_proof;
mod budgets;
mod client;
mod clock;
mod conformance;
mod connections;
mod constraints;
mod copied_folders;
mod crash;
mod damage;
mod decisions;
mod delegations;
mod events;
mod every_byte;
mod faults;
mod followed;
mod foreign_ids;
mod framing;
mod gateways;
mod guides;
mod harness;
mod hold_proof;
mod holds;
mod idempotency;
mod if_match;
mod instance_policies;
mod keys;
mod leaks;
mod life;
mod limits;
mod load;
mod metrics;
mod mutation;
mod network;
mod openapi;
mod overload;
#[allow(clippy::print_stdout, reason = "it is there to print figures")]
mod overload_figures;
mod pages;
mod panics;
mod places;
mod policy_owners;
mod policy_terms;
mod queries;
mod readme;
mod reasons;
mod residency;
mod retention;
mod rounds;
mod secrets;
mod sentences;
mod snapshots;
mod spend;
mod stats;
mod storage;
mod stream_resume;
mod suspended_agents;
mod tls;
mod tokens;
mod tools;
mod trail_access;
mod trail_billing;
mod trail_changes;
mod upgrade;
mod usage;
mod verify_all;
mod webhooks;
mod words;
mod world;
mod wrong_types;
