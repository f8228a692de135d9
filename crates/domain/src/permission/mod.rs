//! Permissions, and the index that finds those that match a call.
//!
//! The index is a tuple space search (Srinivasan, Suri, Varghese: Packet Classification using Tuple Space Search,
//! SIGCOMM 1999): patterns are grouped by their shape (which segments are literal), and within a shape they are
//! sorted by a hash of their literal segments and their action. A call looks once into each shape that fits its
//! number of segments, so the cost follows the number of shapes, a handful, not the number of permissions.

pub mod arg_pattern;
pub mod argument_name;
pub mod check;
pub mod constraint;
pub mod decimal;
pub mod glob;
pub mod interning;
pub mod oddity;
pub mod pattern;
pub mod rate_window;
pub mod regexes;
pub mod stored;
pub mod url_glob;
pub mod warnings;
pub mod work_budget;

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::FixedState;
#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::error::{Code, Error};
use crate::limits::{
    MAX_ACTION_BYTES, MAX_ACTIONS, MAX_ALL_ARG_PATTERN_BYTES, MAX_PERMISSIONS, MAX_REGEXES, STEPS_PER_ACTION_PAIR,
    STEPS_PER_ITEM, STEPS_PER_PERMISSION,
};
use crate::permission::arg_pattern::is_regex;
use crate::permission::constraint::named_arguments::NamedArgumentsSpec;
use crate::permission::constraint::{Constraints, ConstraintsSpec};
use crate::permission::pattern::{Pattern, Segments, Shape};
use crate::permission::stored::StoredPermission;
use crate::text::check_no_secret;
use crate::text::{problem_of_compared, quote};

/// The action that stands for every action.
pub(crate) const ANY_ACTION: &str = "*";

/// A permission as requests and answers spell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(
    feature = "schema",
    schemars(
        rename = "NewPermission",
        description = "Which actions on which resources are granted, and on what conditions."
    )
)]
pub struct PermissionSpec {
    /// A resource pattern: segments joined by `:`. `*` alone matches everything, a last `*` one or more segments, an inner
    /// `*` exactly one. It never stands for an empty segment.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::ResourcePattern"))]
    pub resource: String,
    /// Actions it grants; `*` is any action.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<crate::schema::ActionPattern>", length(min = 1, max = MAX_ACTIONS)))]
    pub actions: Vec<String>,
    /// What must hold besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraints: Option<ConstraintsSpec>,
}

/// A checked permission.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Permission {
    resource: Pattern,
    actions: Box<[Box<str>]>,
    constraints: Option<Box<Constraints>>,
}

impl Permission {
    /// Reads what a request says. Fields are named from the permission on.
    fn parse(spec: PermissionSpec) -> Result<Self, Error> {
        let PermissionSpec { resource, actions, constraints } = spec;
        let resource = Pattern::parse("resource", &resource)?;
        check_no_secret("resource", resource.as_str())?;
        check_actions(&actions)?;
        Self::new(resource, actions, constraints.map(Constraints::parse))
    }

    /// Takes what was stored. It was a request's once, and was checked then.
    fn restore(stored: StoredPermission) -> Result<Self, Error> {
        let StoredPermission { resource, actions, constraints } = stored;
        let resource = Pattern::stored("resource", &resource)?;
        Self::new(resource, actions, constraints.map(Constraints::restore))
    }

    fn new(
        resource: Pattern,
        actions: Vec<String>,
        constraints: Option<Result<Constraints, Error>>,
    ) -> Result<Self, Error> {
        let constraints = constraints
            .transpose()
            .map_err(|error| error.within("constraints"))?
            .filter(|constraints| *constraints != Constraints::default())
            .map(Box::new);
        Ok(Self { resource, actions: actions.into_iter().map(String::into_boxed_str).collect(), constraints })
    }

    /// The permission as it is spelled.
    pub fn spec(&self) -> PermissionSpec {
        PermissionSpec {
            resource: self.resource.as_str().to_owned(),
            actions: self.actions.iter().map(|action| action.to_string()).collect(),
            constraints: self.constraints.as_ref().map(|constraints| constraints.spec()),
        }
    }

    fn stored(&self) -> StoredPermission {
        StoredPermission {
            resource: self.resource.as_str().to_owned(),
            actions: self.actions.iter().map(|action| action.to_string()).collect(),
            constraints: self.constraints.as_ref().map(|constraints| constraints.stored()),
        }
    }

    /// The resource pattern.
    pub fn resource(&self) -> &str {
        self.resource.as_str()
    }

    /// The resource pattern, checked.
    pub fn pattern(&self) -> &Pattern {
        &self.resource
    }

    /// The actions, `*` for any.
    pub fn actions(&self) -> impl Iterator<Item = &str> {
        self.actions.iter().map(|action| &**action)
    }

    /// What must hold besides.
    pub fn constraints(&self) -> Option<&Constraints> {
        self.constraints.as_deref()
    }

    /// Calls it grants in a sliding hour, where that is limited.
    pub fn max_calls_per_hour(&self) -> Option<u32> {
        self.constraints.as_ref().and_then(|constraints| constraints.max_calls_per_hour())
    }

    /// Steps that a look at it counts, but for those that a check takes as it goes.
    pub fn steps(&self) -> usize {
        let constraints = self.constraints.as_ref().map_or(0, |constraints| constraints.steps());
        STEPS_PER_PERMISSION + self.resource().len() + self.actions.len() * STEPS_PER_ITEM + constraints
    }

    /// Whether it is about this call at all.
    pub fn matches(&self, segments: &[&str], action: &str) -> bool {
        self.grants_action(action) && self.resource.matches(segments)
    }

    /// Whether it is about every call that `other` is about.
    pub fn covers(&self, other: &Self) -> bool {
        self.resource.covers(&other.resource) && other.actions.iter().all(|action| self.grants_action(action))
    }

    /// Whether it is about that action.
    pub fn grants_action(&self, action: &str) -> bool {
        self.actions.iter().any(|own| &**own == action || &**own == ANY_ACTION)
    }
}

/// Checks a list of actions.
///
/// # Errors
/// `INVALID_FIELD` or `INVALID_PATTERN`, naming `actions`.
pub(crate) fn check_actions(actions: &[String]) -> Result<(), Error> {
    if actions.is_empty() || actions.len() > MAX_ACTIONS {
        let problem = format!("must contain 1 to {MAX_ACTIONS} actions, not {}", actions.len());
        return Err(Error::field(Code::InvalidField, "actions", problem));
    }
    for (at, action) in actions.iter().enumerate() {
        let field = format!("actions[{at}]");
        check_action(&field, action)?;
        check_no_secret(&field, action)?;
        if action != ANY_ACTION && action.contains('*') {
            let problem = format!("has a '*' in '{}': '*' alone is any action", quote(action));
            return Err(Error::field(Code::InvalidPattern, &field, problem));
        }
    }
    Ok(())
}

/// Checks what all permissions together may have, before any of it is compiled.
fn check_totals(specs: &[PermissionSpec]) -> Result<(), Error> {
    let refuse = |problem| Err(Error::field(Code::InvalidField, "permissions", problem));
    if specs.len() > MAX_PERMISSIONS {
        return refuse(format!("must contain at most {MAX_PERMISSIONS} permissions, not {}", specs.len()));
    }
    let constraints = specs.iter().filter_map(|spec| spec.constraints.as_ref());
    let named = || constraints.clone().filter_map(|spec| spec.arguments.as_ref());
    let patterns = || {
        let any = constraints.clone().filter_map(|spec| spec.allowed_arg_patterns.as_ref()).flatten();
        any.chain(named().flat_map(NamedArgumentsSpec::patterns))
    };
    let bytes = patterns().map(String::len).chain(named().map(NamedArgumentsSpec::bytes)).sum::<usize>();
    if bytes > MAX_ALL_ARG_PATTERN_BYTES {
        return refuse(format!(
            "must contain at most {MAX_ALL_ARG_PATTERN_BYTES} bytes of allowedArgPatterns and arguments in all, not {bytes}"
        ));
    }
    let regexes = patterns().filter(|pattern| is_regex(pattern)).count();
    if regexes > MAX_REGEXES {
        return refuse(format!(
            "must contain at most {MAX_REGEXES} regular expressions in allowedArgPatterns and arguments in all, not {regexes}"
        ));
    }
    Ok(())
}

/// Checks an action that a call names.
///
/// # Errors
/// `INVALID_FIELD` for one that is empty or too long, has invisible characters or is not in NFC.
pub fn check_action(field: &str, action: &str) -> Result<(), Error> {
    let problem = if action.is_empty() {
        "must not be empty".to_owned()
    } else if action.len() > MAX_ACTION_BYTES {
        format!("must have at most {MAX_ACTION_BYTES} bytes")
    } else if let Some(problem) = problem_of_compared(action) {
        problem.to_owned()
    } else {
        return Ok(());
    };
    Err(Error::field(Code::InvalidField, field, problem))
}

/// An agent's permissions in declared order, with the index over them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<StoredPermission>", into = "Vec<StoredPermission>")]
pub struct PermissionSet {
    permissions: Box<[Permission]>,
    /// Positions of those with `maxCallsPerHour`, ascending.
    rated: Box<[u32]>,
    shapes: Box<[ShapeRange]>,
    /// Within a shape's range sorted by hash.
    entries: Box<[ActionEntry]>,
}

impl TryFrom<Vec<StoredPermission>> for PermissionSet {
    type Error = Error;

    fn try_from(stored: Vec<StoredPermission>) -> Result<Self, Error> {
        Self::read(stored, Permission::restore)
    }
}

impl From<PermissionSet> for Vec<StoredPermission> {
    fn from(set: PermissionSet) -> Self {
        set.permissions.iter().map(Permission::stored).collect()
    }
}

#[derive(Clone, Copy, Debug)]
struct ShapeRange {
    shape: Shape,
    start: u32,
    end: u32,
}

#[derive(Clone, Copy, Debug)]
struct ActionEntry {
    hash: u64,
    permission: u32,
}

impl PartialEq for PermissionSet {
    fn eq(&self, other: &Self) -> bool {
        self.permissions == other.permissions
    }
}

impl Eq for PermissionSet {}

impl Hash for PermissionSet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.permissions.hash(state);
    }
}

impl PermissionSet {
    /// Reads a request's permissions and builds the index.
    ///
    /// # Errors
    /// `INVALID_PATTERN` or `INVALID_FIELD`, naming the field from `permissions[0]` on.
    pub fn parse(specs: Vec<PermissionSpec>) -> Result<Self, Error> {
        check_totals(&specs)?;
        Self::read(specs, Permission::parse)
    }

    fn read<T>(all: Vec<T>, read: impl Fn(T) -> Result<Permission, Error>) -> Result<Self, Error> {
        let read = |(at, one)| read(one).map_err(|error| error.within(&format!("permissions[{at}]")));
        Ok(Self::index(all.into_iter().enumerate().map(read).collect::<Result<_, _>>()?))
    }

    fn index(permissions: Box<[Permission]>) -> Self {
        let mut sorted: Vec<(Shape, u64, u32)> = Vec::new();
        for (permission, at) in permissions.iter().zip(0u32..) {
            let literals = join(permission.resource.literals().map(hash_text));
            let shape = permission.resource.shape();
            sorted.extend(permission.actions.iter().map(|action| (shape, append(literals, hash_text(action)), at)));
        }
        sorted.sort_unstable();
        let entries = sorted.iter().map(|&(_, hash, permission)| ActionEntry { hash, permission }).collect();
        let mut shapes: Vec<ShapeRange> = Vec::new();
        for (&(shape, ..), at) in sorted.iter().zip(0u32..) {
            match shapes.last_mut() {
                Some(last) if last.shape == shape => last.end = at + 1,
                _ => shapes.push(ShapeRange { shape, start: at, end: at + 1 }),
            }
        }
        let rated = (0..).zip(&permissions).filter(|(_, permission)| permission.max_calls_per_hour().is_some());
        let rated = rated.map(|(at, _)| at).collect();
        Self { permissions, rated, shapes: shapes.into(), entries }
    }

    /// Positions of the permissions with `maxCallsPerHour`, ascending.
    pub fn rated(&self) -> &[u32] {
        &self.rated
    }

    /// The permissions with `maxCallsPerHour`, in declared order.
    pub fn rated_permissions(&self) -> impl Iterator<Item = &Permission> {
        self.rated.iter().filter_map(|at| self.permissions.get(*at as usize))
    }

    /// The permissions in declared order.
    pub fn as_slice(&self) -> &[Permission] {
        &self.permissions
    }

    /// The permissions as they are spelled.
    pub fn specs(&self) -> Vec<PermissionSpec> {
        self.permissions.iter().map(Permission::spec).collect()
    }

    /// Steps that a search for those that match counts, but for what it finds.
    pub fn search_steps(&self) -> usize {
        self.shapes.len() * STEPS_PER_PERMISSION
    }

    /// Positions of the permissions that match, in declared order.
    pub fn matching(&self, segments: &Segments<'_>, action: &str) -> SmallVec<[u32; 8]> {
        let segments = segments.as_slice();
        self.find(segments, action, |permission| permission.matches(segments, action))
    }

    /// Position of the first permission that covers that one. What it takes to find it is taken from `left`; without
    /// enough left, none covers it and nothing is left.
    pub fn covering(&self, wanted: &Permission, left: &mut usize) -> Option<u32> {
        let mut affords = |steps: usize| {
            let enough = left.checked_sub(steps);
            *left = enough.unwrap_or(0);
            enough.is_some()
        };
        if !affords(STEPS_PER_PERMISSION + self.search_steps()) {
            return None;
        }
        // Literal segments of a covering pattern are also the covered one's, so the index finds it as it finds a
        // match; and a star in the covered pattern is no literal of any.
        let segments = Segments::of(wanted.resource());
        let action = wanted.actions.first()?;
        let covers = |permission: &Permission| {
            let pairs = permission.actions.len() * wanted.actions.len();
            affords(permission.steps() + pairs * STEPS_PER_ACTION_PAIR) && permission.covers(wanted)
        };
        self.find(segments.as_slice(), action, covers).first().copied()
    }

    /// Positions, in declared order, of the permissions that `is_it` agrees to, among those that grant the action on
    /// these segments.
    fn find(&self, segments: &[&str], action: &str, mut is_it: impl FnMut(&Permission) -> bool) -> SmallVec<[u32; 8]> {
        let mut found = SmallVec::new();
        let hashes: SmallVec<[u64; 8]> = segments.iter().map(|segment| hash_text(segment)).collect();
        let actions = [hash_text(action), hash_text(ANY_ACTION)];
        for range in self.shapes.iter().filter(|range| range.shape.fits(segments.len())) {
            let of_shape = hashes.iter().take(usize::from(range.shape.length)).enumerate();
            let literals = of_shape.filter(|(at, _)| range.shape.literals >> at & 1 == 1).map(|(_, hash)| *hash);
            let literals = join(literals);
            let entries = self.entries.get(range.start as usize..range.end as usize).unwrap_or_default();
            for hash in actions.map(|action| append(literals, action)) {
                let from = entries.partition_point(|entry| entry.hash < hash);
                for entry in entries.iter().skip(from).take_while(|entry| entry.hash == hash) {
                    // A hash only says where to look: two texts may share one.
                    if self.permissions.get(entry.permission as usize).is_some_and(&mut is_it) {
                        found.push(entry.permission);
                    }
                }
            }
        }
        if found.len() > 1 {
            found.sort_unstable();
            found.dedup();
        }
        found
    }
}

// The seed is fixed: the state must not depend on chance. Who finds colliding patterns slows down the look-ups of
// an agent of their own, by at most what as many permissions that all match would.
const HASH_SEED: u64 = 0x6b61_7661_6368;

pub(crate) fn hash_text(text: &str) -> u64 {
    let mut hasher = FixedState::with_seed(HASH_SEED).build_hasher();
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// The hash of a sequence, from those of its parts: each text of a call is hashed once, however many shapes it meets.
pub(crate) fn join(hashes: impl Iterator<Item = u64>) -> u64 {
    hashes.fold(HASH_SEED, append)
}

pub(crate) fn append(sequence: u64, hash: u64) -> u64 {
    // A folded multiplication: every bit of both ends up in all of the result. The constant is the golden ratio's.
    let wide = u128::from(sequence.rotate_left(23) ^ hash) * 0x9e37_79b9_7f4a_7c15;
    (wide >> 64) as u64 ^ wide as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(resource: &str, actions: &[&str]) -> PermissionSpec {
        let actions = actions.iter().map(|action| (*action).to_owned()).collect();
        PermissionSpec { resource: resource.to_owned(), actions, constraints: None }
    }

    fn pattern() -> impl Strategy<Value = String> {
        let inner = prop::collection::vec("[ab*]?", 0..3);
        ("[ab*]", inner, "[ab*]")
            .prop_map(|(first, inner, last)| [vec![first], inner, vec![last]].concat().join(":"))
            .boxed()
            .prop_union("[ab*]".boxed())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn the_index_finds_what_a_scan_finds(
            patterns in prop::collection::vec((pattern(), prop::collection::vec("[xyz*]", 1..3)), 0..40),
            inner in prop::collection::vec("[abc]?", 0..4),
            ends in ("[abc]", prop::option::of("[abc]")),
            action in "[xyzw]",
        ) {
            let specs = patterns.into_iter().map(|(resource, actions)| PermissionSpec { resource, actions, constraints: None });
            let set = PermissionSet::parse(specs.collect()).unwrap();
            let (first, last) = ends;
            let inner = if last.is_some() { inner } else { Vec::new() };
            let resource = [first].into_iter().chain(inner).chain(last).collect::<Vec<_>>().join(":");
            let segments = Segments::of(&resource);
            let scanned: Vec<u32> = (0..).zip(set.as_slice())
                .filter(|(_, permission)| permission.matches(segments.as_slice(), &action))
                .map(|(at, _)| at)
                .collect();
            prop_assert_eq!(set.matching(&segments, &action).to_vec(), scanned);
            for wanted in set.as_slice() {
                let scanned = set.as_slice().iter().position(|permission| permission.covers(wanted));
                prop_assert_eq!(set.covering(wanted, &mut usize::MAX.clone()).map(|at| at as usize), scanned);
            }
        }
    }

    #[test]
    fn a_star_in_a_request_is_no_wildcard() {
        let set = PermissionSet::parse(vec![spec("mcp:github", &["read"])]).unwrap();
        assert!(set.matching(&Segments::of("mcp:*"), "read").is_empty());
        assert!(set.matching(&Segments::of("mcp:github"), "*").is_empty());
    }

    #[test]
    fn a_permission_covers_what_lies_within_its_pattern_and_its_actions() {
        let covers = |outer: PermissionSpec, inner: PermissionSpec| {
            let set = PermissionSet::parse(vec![outer, inner]).unwrap();
            set.as_slice()[0].covers(&set.as_slice()[1])
        };
        for (outer, inner, expected) in [
            (spec("mcp:*", &["read", "list"]), spec("mcp:github", &["read"]), true),
            (spec("mcp:*", &["*"]), spec("mcp:github", &["*"]), true),
            (spec("mcp:*", &["read"]), spec("mcp:github", &["*"]), false),
            (spec("mcp:*", &["read"]), spec("mcp:github", &["read", "write"]), false),
            (spec("mcp:github", &["read"]), spec("mcp:*", &["read"]), false),
        ] {
            assert_eq!(covers(outer.clone(), inner.clone()), expected, "{outer:?} {inner:?}");
        }
    }

    #[test]
    fn patterns_are_limited_over_all_permissions_of_a_request_and_not_of_what_is_stored() {
        let patterned = |pattern: &str, count: usize| {
            let constraints =
                ConstraintsSpec { allowed_arg_patterns: Some(vec![pattern.to_owned(); count]), ..Default::default() };
            PermissionSpec { constraints: Some(constraints), ..spec("a", &["read"]) }
        };
        let half = MAX_REGEXES / 2;
        assert!(PermissionSet::parse(vec![patterned("^a$", half), patterned("^b$", half)]).is_ok());
        let kilobyte = MAX_ALL_ARG_PATTERN_BYTES / 1024;
        assert!(PermissionSet::parse(vec![patterned(&"a".repeat(512), 2); kilobyte]).is_ok());
        for many in [
            vec![patterned("^a$", half), patterned("^b$", half), patterned("^c$", 1)],
            [vec![patterned(&"a".repeat(512), 2); kilobyte], vec![patterned("a", 1)]].concat(),
        ] {
            let error = PermissionSet::parse(many.clone()).unwrap_err();
            assert!(error.message().starts_with("permissions must contain at most "), "{error}");
            let stored = serde_json::to_value(&many).unwrap();
            assert_eq!(serde_json::from_value::<PermissionSet>(stored).unwrap().specs(), many);
        }
    }

    #[test]
    fn bad_permissions_name_the_field() {
        let many: Vec<&str> = vec!["read"; MAX_ACTIONS + 1];
        for (bad, field) in [
            (spec("foo*", &["read"]), "permissions[1].resource"),
            (spec("a", &[]), "permissions[1].actions"),
            (spec("a", &many), "permissions[1].actions"),
            (spec("a", &["read", ""]), "permissions[1].actions[1]"),
            (spec("a", &["re*"]), "permissions[1].actions[0]"),
        ] {
            let error = PermissionSet::parse(vec![spec("a", &["read"]), bad]).unwrap_err();
            assert!(error.message().starts_with(&format!("{field} ")), "{error}");
        }
        assert!(PermissionSet::parse(vec![spec("a", &["read"]); MAX_PERMISSIONS + 1]).is_err());
    }
}
