//! What is scrubbed: the built-in lists, and what the application adds to them.

use std::ffi::OsString;
use std::fmt;
use std::sync::OnceLock;

use aho_corasick::BuildError;

use super::hash_key::{HashKey, HashKeyError};
use super::names::NameList;
use super::scrubber::Scrubber;
use super::shapes::{PATTERNS, Pattern};
use crate::LOG_TARGET;
use crate::audit::panics::contained;

/// The rules of this process; none inside if nothing is scrubbed.
static CURRENT: OnceLock<Current> = OnceLock::new();

struct Current {
    scrubber: Option<Scrubber>,
    hash_key: Result<HashKey, HashKeyError>,
}

/// What is wrong with the settings.
#[derive(Clone, Debug)]
enum Problem {
    /// The value of `AUDIT_SCRUB`.
    Switch(String),
    HashKey(HashKeyError),
    /// The lists are too large for an automaton.
    Lists(BuildError),
}

/// What is scrubbed, beyond or in place of the built-in lists. See the [module](super).
///
/// ```
/// use db_services::audit::scrub::{ScrubRules, Shape};
///
/// let rules = ScrubRules::new()
///     .secret_name("iban")
///     .allowed_name("device_token")
///     .secret_prefix("acme_key_")
///     .without(Shape::Card);
/// # drop(rules);
/// ```
///
/// The environment adds to the rules, so that the command follows those of the application:
///
/// | variable | effect |
/// | --- | --- |
/// | `AUDIT_SCRUB_NAMES` | further names of secrets, separated by commas |
/// | `AUDIT_SCRUB_ALLOW` | names that are not secrets, separated by commas |
/// | `AUDIT_SCRUB=off` | nothing is scrubbed |
/// | `AUDIT_HASH_KEY` | the key of [`Hashed`](super::Hashed), at least 16 bytes |
#[derive(Clone, Default)]
#[must_use = "rules do nothing until they are installed"]
pub struct ScrubRules {
    is_off: bool,
    secret_names: Vec<String>,
    allowed_names: Vec<String>,
    prefixes: Vec<String>,
    without: Vec<Shape>,
    /// None if nobody sets it; the error of one that cannot be used.
    hash_key: Option<Result<HashKey, HashKeyError>>,
    problems: Vec<Problem>,
}

/// What a secret looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Shape {
    /// A key with a well-known beginning.
    Key,
    /// A JSON web token.
    Token,
    /// A private key in PEM.
    PrivateKey,
    /// The credentials of HTTP: `Bearer …`, `Basic …`.
    Credentials,
    /// The password in a URL.
    UrlPassword,
    /// A parameter with the name of a secret: `?token=…`, `password=…`.
    Parameter,
    /// The number of a payment card.
    Card,
}

impl Shape {
    pub(super) const ALL: [Self; 7] = [
        Self::Key,
        Self::Token,
        Self::PrivateKey,
        Self::Credentials,
        Self::UrlPassword,
        Self::Parameter,
        Self::Card,
    ];

    pub(super) const fn marker(self) -> &'static str {
        match self {
            Self::Key => "[scrubbed: key]",
            Self::Token => "[scrubbed: token]",
            Self::PrivateKey => "[scrubbed: private key]",
            Self::Credentials => "[scrubbed: credentials]",
            Self::UrlPassword => "[scrubbed: password]",
            Self::Parameter => "[scrubbed: name]",
            Self::Card => "[scrubbed: card]",
        }
    }

    /// True for a marker.
    pub(super) fn is_marker(text: &str) -> bool {
        Self::ALL.iter().any(|shape| shape.marker() == text)
    }
}

impl ScrubRules {
    /// Creates rules that are the built-in lists.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates rules that scrub nothing, for an application that does so itself.
    pub fn off() -> Self {
        Self {
            is_off: true,
            ..Self::default()
        }
    }

    /// Adds the name of a secret: members whose names end with its words. Case and the separators between words do not
    /// matter. A name of fewer than 3 letters has no effect.
    pub fn secret_name(mut self, name: impl Into<String>) -> Self {
        self.secret_names.push(name.into());
        self
    }

    /// Adds a name that is not a secret, although it ends like one. It applies to whole names.
    pub fn allowed_name(mut self, name: impl Into<String>) -> Self {
        self.allowed_names.push(name.into());
        self
    }

    /// Adds the beginning of the application's own keys, of at least 3 bytes; a shorter one has no effect.
    pub fn secret_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefixes.push(prefix.into());
        self
    }

    /// Does not look for this shape.
    pub fn without(mut self, shape: Shape) -> Self {
        self.without.push(shape);
        self
    }

    /// Sets the key of [`Hashed`](super::Hashed). Everybody who has it can find out which value a digest is of, by
    /// trying; values under different keys cannot be compared.
    ///
    /// # Errors
    /// When it is shorter than 16 bytes.
    pub fn hash_key(mut self, key: impl AsRef<[u8]>) -> Result<Self, HashKeyError> {
        self.hash_key = Some(Ok(HashKey::new(key.as_ref())?));
        Ok(self)
    }

    /// Adds what the environment says.
    fn with_environment(mut self, get: impl Fn(&str) -> Option<OsString>) -> Self {
        let text = |name| {
            get(name)
                .map(|value| value.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let list = |name| {
            let text = text(name);
            let parts = text.split(',').map(|part| part.trim().to_owned());
            parts.filter(|part| !part.is_empty()).collect::<Vec<_>>()
        };
        match text("AUDIT_SCRUB").trim() {
            "" | "on" => {}
            off if off.eq_ignore_ascii_case("off") => self.is_off = true,
            other => self.problems.push(Problem::Switch(other.to_owned())),
        }
        self.secret_names.extend(list("AUDIT_SCRUB_NAMES"));
        self.allowed_names.extend(list("AUDIT_SCRUB_ALLOW"));
        if let Some(key) = get("AUDIT_HASH_KEY").filter(|key| !key.is_empty()) {
            let key = HashKey::new(key.as_encoded_bytes());
            if let Err(error) = &key {
                self.problems.push(Problem::HashKey(*error));
            }
            self.hash_key = self.hash_key.or(Some(key));
        }
        self
    }

    /// The rules, and what is wrong with the settings.
    fn compile(self) -> (Current, Vec<Problem>) {
        let mut problems = self.problems;
        let mut names = NameList::default();
        let words = self
            .secret_names
            .iter()
            .flat_map(|name| names.add_secret(name))
            .collect();
        self.allowed_names.iter().for_each(|name| names.add_allowed(name));
        let own = self.prefixes.into_iter().map(Pattern::own);
        let patterns = PATTERNS.iter().cloned().chain(own).collect();
        let scrubber = match self.is_off {
            true => None,
            false => Scrubber::new(patterns, names, words, self.without)
                .map_err(|error| problems.push(Problem::Lists(error)))
                .ok(),
        };
        let current = Current {
            scrubber,
            hash_key: self.hash_key.unwrap_or(Err(HashKeyError::Missing)),
        };
        (current, problems)
    }
}

impl Problem {
    fn log(&self) {
        match self {
            Self::Switch(value) => log::error!(
                target: LOG_TARGET,
                "AUDIT_SCRUB={value:?} is neither on nor off: secrets are scrubbed"
            ),
            Self::HashKey(error) => log::error!(target: LOG_TARGET, "AUDIT_HASH_KEY cannot be used: {error}"),
            Self::Lists(error) => log::error!(
                target: LOG_TARGET,
                "no entry is scrubbed, the lists of names and prefixes are too large: {error}"
            ),
        }
    }
}

#[cfg(test)]
impl ScrubRules {
    pub(super) fn compile_for_tests(self) -> Scrubber {
        self.compile().0.scrubber.unwrap()
    }
}

impl fmt::Debug for ScrubRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScrubRules")
            .field("is_off", &self.is_off)
            .field("secret_names", &self.secret_names)
            .field("allowed_names", &self.allowed_names)
            .field("prefixes", &self.prefixes)
            .field("without", &self.without)
            .field("has_hash_key", &matches!(self.hash_key, Some(Ok(_))))
            .finish()
    }
}

/// Sets the rules of this process. Call it once, before a writer is started or an entry is written; without it the
/// built-in rules apply.
///
/// # Errors
/// When rules are in use already: a writer was started, an entry was written, a value was [`Hashed`](super::Hashed), or
/// rules were installed.
pub fn install(rules: ScrubRules) -> Result<(), RulesInUse> {
    match set(rules) {
        true => Ok(()),
        false => Err(RulesInUse),
    }
}

/// Sets the rules and logs what is wrong with them; false if others are in use.
fn set(rules: ScrubRules) -> bool {
    let (current, problems) = rules.with_environment(|name| std::env::var_os(name)).compile();
    let is_set = CURRENT.set(current).is_ok();
    // Not before: a logger may write an entry, which needs the rules.
    if is_set {
        for problem in problems {
            contained(|| problem.log());
        }
    }
    is_set
}

/// Returns the digest by which a [`Hashed`](super::Hashed) value is stored and found, `hmac-sha256:` and 64 hexadecimal
/// digits.
///
/// # Errors
/// When there is no key, or one that is too short.
pub fn hash(value: impl AsRef<[u8]>) -> Result<String, HashKeyError> {
    let key = in_use().hash_key.as_ref().map_err(|error| *error)?;
    Ok(key.digest(value.as_ref()))
}

/// Rules are in use already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "scrub rules are in use already: install yours before a writer is started or an entry is written, and only once"
)]
pub struct RulesInUse;

/// The rules of this process; none if nothing is scrubbed.
pub(super) fn current() -> Option<&'static Scrubber> {
    in_use().scrubber.as_ref()
}

fn in_use() -> &'static Current {
    if CURRENT.get().is_none() {
        set(ScrubRules::new());
    }
    CURRENT.get_or_init(|| ScrubRules::new().compile().0)
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
