//! What is scrubbed: the built-in lists, and what the application adds to them.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, MatchKind};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::filter::{Filter, MIN_NEEDLE};
use super::names::{self, NameList};
use super::shapes::{Form, PATTERNS, Pattern, is_token68};
use super::values::HASH_PREFIX;
use crate::LOG_TARGET;
use crate::audit::panics::contained;

/// The fewest bytes of a key for [`Hashed`](super::Hashed): 128 bits, if they are random.
const MIN_KEY_BYTES: usize = 16;

/// The rules of this process; none inside if nothing is scrubbed.
static CURRENT: OnceLock<Current> = OnceLock::new();

struct Current {
    scrubber: Option<Scrubber>,
    hash_key: Result<HashKey, HashKeyError>,
    /// What is wrong with the settings.
    problems: Vec<String>,
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
/// | `AUDIT_SCRUB_ALLOW` | names that are no secrets, separated by commas |
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
    problems: Vec<String>,
}

/// The key of an HMAC.
#[derive(Clone)]
struct HashKey(Vec<u8>);

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

    /// Adds a name that is no secret, although it ends like one. It applies to whole names.
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
            other => self.problems.push(format!(
                "AUDIT_SCRUB={other:?} is neither on nor off: secrets are scrubbed"
            )),
        }
        self.secret_names.extend(list("AUDIT_SCRUB_NAMES"));
        self.allowed_names.extend(list("AUDIT_SCRUB_ALLOW"));
        if let Some(key) = get("AUDIT_HASH_KEY").filter(|key| !key.is_empty()) {
            let key = HashKey::new(key.as_encoded_bytes());
            if let Err(error) = &key {
                self.problems.push(format!("AUDIT_HASH_KEY: {error}"));
            }
            self.hash_key = self.hash_key.or(Some(key));
        }
        self
    }

    fn compile(mut self) -> Current {
        let (is_off, hash_key) = (self.is_off, self.hash_key.take());
        let mut problems = std::mem::take(&mut self.problems);
        let scrubber = if is_off {
            None
        } else {
            Scrubber::new(self, &mut problems)
        };
        Current {
            scrubber,
            hash_key: hash_key.unwrap_or(Err(HashKeyError::Missing)),
            problems,
        }
    }
}

#[cfg(test)]
impl ScrubRules {
    pub(super) fn compile_for_tests(self) -> Scrubber {
        self.compile().scrubber.unwrap()
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

/// Sets the rules of this process. Call it before the first entry is written, once; without it the built-in rules apply.
///
/// # Errors
/// When rules are in use already: an entry was written, a value was [`Hashed`](super::Hashed), or rules were installed.
pub fn install(rules: ScrubRules) -> Result<(), RulesInUse> {
    match set(rules) {
        true => Ok(()),
        false => Err(RulesInUse),
    }
}

/// Sets the rules and logs what is wrong with them; false if others are in use.
fn set(rules: ScrubRules) -> bool {
    let compiled = rules.with_environment(|name| std::env::var_os(name)).compile();
    let is_set = CURRENT.set(compiled).is_ok();
    // Not before: a logger may write an entry, which needs the rules.
    if let Some(current) = CURRENT.get().filter(|_| is_set) {
        for problem in &current.problems {
            contained(|| log::error!(target: LOG_TARGET, "{problem}"));
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
#[error("scrub rules are in use already: install yours before the first entry is written, and only once")]
pub struct RulesInUse;

/// Why there is no key for [`hash`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HashKeyError {
    /// No key is set.
    #[error("no hash key is set: set AUDIT_HASH_KEY, or install ScrubRules with a hash_key")]
    Missing,
    /// The key is too short to be secret.
    #[error(
        "the hash key is shorter than {MIN_KEY_BYTES} bytes: use random ones, such as `openssl rand -hex 32`"
    )]
    TooShort,
}

/// The rules of this process; none if nothing is scrubbed.
pub(super) fn current() -> Option<&'static Scrubber> {
    in_use().scrubber.as_ref()
}

fn in_use() -> &'static Current {
    if CURRENT.get().is_none() {
        set(ScrubRules::new());
    }
    CURRENT.get_or_init(|| ScrubRules::new().compile())
}

impl HashKey {
    fn new(key: &[u8]) -> Result<Self, HashKeyError> {
        match key.len() {
            MIN_KEY_BYTES.. => Ok(Self(key.to_owned())),
            _ => Err(HashKeyError::TooShort),
        }
    }

    /// HMAC-SHA-256 (RFC 2104).
    fn digest(&self, value: &[u8]) -> String {
        use fmt::Write;
        let mut text = HASH_PREFIX.to_owned();
        // Keys of any length are valid.
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) {
            mac.update(value);
            for byte in mac.finalize().into_bytes() {
                let _ = write!(text, "{byte:02x}");
            }
        }
        text
    }
}

/// Rules, ready for use.
pub(super) struct Scrubber {
    /// Finds the beginnings of [`patterns`](Self::patterns), and the names of secrets.
    search: AhoCorasick,
    filter: Filter,
    patterns: Vec<Pattern>,
    names: NameList,
    without: Vec<Shape>,
}

/// An occurrence in a text.
pub(super) enum Match<'a> {
    /// The beginning of a secret, and where.
    Pattern(&'a Pattern, usize),
    /// The name of a secret ends here, within a longer text.
    Name(usize),
}

impl Scrubber {
    /// None if the lists are too large for an automaton.
    fn new(rules: ScrubRules, problems: &mut Vec<String>) -> Option<Self> {
        let mut names = NameList::default();
        let own_words: Vec<String> = rules
            .secret_names
            .iter()
            .flat_map(|name| names.add_secret(name))
            .collect();
        rules
            .allowed_names
            .iter()
            .for_each(|name| names.add_allowed(name));
        let own = rules.prefixes.into_iter().map(|prefix| Pattern {
            prefix: Cow::Owned(prefix),
            form: Form::Key(is_token68, 1),
        });
        let patterns = PATTERNS.iter().cloned().chain(own);
        let patterns: Vec<Pattern> = patterns
            .filter(|pattern| pattern.prefix.len() >= MIN_NEEDLE)
            .collect();
        // The patterns first: the number of a needle is that of its pattern.
        let needles = patterns.iter().map(|pattern| pattern.prefix.to_string());
        let needles: Vec<String> = needles
            .chain(names::triggers().map(str::to_owned))
            .chain(own_words)
            .collect();
        let search = AhoCorasickBuilder::new()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .build(&needles);
        let search = search.map_err(|error| problems.push(format!("nothing is scrubbed: {error}")));
        Some(Self {
            search: search.ok()?,
            filter: Filter::new(needles.iter().map(String::as_str)),
            patterns,
            names,
            without: rules.without,
        })
    }

    pub(super) fn names(&self) -> &NameList {
        &self.names
    }

    pub(super) fn looks_for(&self, shape: Shape) -> bool {
        !self.without.contains(&shape)
    }

    /// False for a text that certainly has no occurrence.
    pub(super) fn may_match(&self, text: &str) -> bool {
        self.filter.may_match(text)
    }

    /// The occurrences in a text, in the order of their ends.
    pub(super) fn matches<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Match<'a>> {
        let found = self.search.find_overlapping_iter(text);
        found.map(|found| match self.patterns.get(found.pattern().as_usize()) {
            Some(pattern) => Match::Pattern(pattern, found.start()),
            None => Match::Name(found.end()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::members::scrub_json;
    use super::super::text::scrub_text;
    use super::*;

    fn scrubbed(rules: ScrubRules, json: &str) -> String {
        let scrubber = rules.compile().scrubber.unwrap();
        scrub_json(&scrubber, json, &|_| false).unwrap_or_else(|| json.to_owned())
    }

    #[test]
    fn an_application_adds_and_removes_names_prefixes_and_shapes() {
        let rules = ScrubRules::new()
            .secret_name("customerIban")
            .secret_name("pw")
            .allowed_name("device token")
            .secret_prefix("acme_key_")
            .secret_prefix("a")
            .without(Shape::Card);
        let json = r#"{"customer_iban":"a","CUSTOMER-IBAN":"b","iban":"c","deviceToken":"d","userDeviceToken":"e","n":"acme_key_7","card":"4111111111111111"}"#;
        let expected = r#"{"customer_iban":"[scrubbed: name]","CUSTOMER-IBAN":"[scrubbed: name]","iban":"c","deviceToken":"d","userDeviceToken":"[scrubbed: name]","n":"[scrubbed: key]","card":"4111111111111111"}"#;
        assert_eq!(scrubbed(rules, json), expected);
    }

    #[test]
    fn a_name_that_is_made_secret_is_no_longer_allowed() {
        let json = r#"{"next_token":"a"}"#;
        assert_eq!(scrubbed(ScrubRules::new(), json), json);
        let rules = ScrubRules::new().secret_name("nextToken");
        assert_eq!(scrubbed(rules, json), r#"{"next_token":"[scrubbed: name]"}"#);
    }

    #[test]
    fn the_environment_adds_to_the_rules() {
        let environment = |name: &str| {
            let value = match name {
                "AUDIT_SCRUB_NAMES" => " iban, ,tax_number",
                "AUDIT_SCRUB_ALLOW" => "device_token",
                "AUDIT_HASH_KEY" => "0123456789abcdef",
                _ => return None,
            };
            Some(value.into())
        };
        let json = r#"{"IBAN":"a","taxNumber":"b","device_token":"c","password":"d"}"#;
        let expected = r#"{"IBAN":"[scrubbed: name]","taxNumber":"[scrubbed: name]","device_token":"c","password":"[scrubbed: name]"}"#;
        assert_eq!(
            scrubbed(ScrubRules::new().with_environment(environment), json),
            expected
        );
        let keys = [
            ScrubRules::new(),
            ScrubRules::new().hash_key("another key of 16").unwrap(),
        ]
        .map(|rules| {
            rules
                .with_environment(environment)
                .compile()
                .hash_key
                .unwrap()
                .digest(b"x")
        });
        // RFC 2104, computed with another implementation.
        assert_eq!(
            keys[0],
            "hmac-sha256:68f4d9c04881bab754f229e82dee00ccf8d9f6a7cf98125ac5e8254d6cd3cc3f"
        );
        assert_ne!(keys[0], keys[1], "the application's own key counts");
    }

    #[test]
    fn rules_are_installed_once_and_not_while_others_are_in_use() {
        let _ = current();
        assert_eq!(install(ScrubRules::new()), Err(RulesInUse));
    }

    #[test]
    fn a_setting_that_means_nothing_is_reported_and_changes_nothing() {
        let rules = ScrubRules::new()
            .with_environment(|name| Some(if name == "AUDIT_SCRUB" { "false" } else { "short" }.into()));
        let compiled = rules.compile();
        assert!(compiled.scrubber.is_some() && compiled.hash_key.is_err());
        assert_eq!(compiled.problems.len(), 2, "{:?}", compiled.problems);
    }

    #[test]
    fn names_of_any_case_and_number_are_found_without_other_members() {
        for (name, json) in [
            ("ibans", r#"{"iban":"a"}"#),
            ("iban", r#"{"IBANs":"a"}"#),
            ("Пароль", r#"{"пароль":"a"}"#),
            ("пароль", r#"{"ПАРОЛЬ":"a"}"#),
        ] {
            assert!(
                scrubbed(ScrubRules::new().secret_name(name), json).contains("[scrubbed"),
                "{name}"
            );
        }
        let json = r#"{"id":"a","user_id":"b","":"c","…":"d","token_count":1,"tokens":1}"#;
        for short in ["id", "s", "-", ""] {
            assert_eq!(
                scrubbed(ScrubRules::new().secret_name(short), json),
                json,
                "{short}"
            );
        }
    }

    #[test]
    fn rules_that_are_off_scrub_nothing() {
        let off = |_: &str| Some("OFF".into());
        assert!(ScrubRules::off().compile().scrubber.is_none());
        assert!(
            ScrubRules::new()
                .with_environment(off)
                .compile()
                .scrubber
                .is_none()
        );
    }

    #[test]
    fn a_short_hash_key_is_refused_and_no_key_is_shown() {
        assert_eq!(
            ScrubRules::new().hash_key("short").err(),
            Some(HashKeyError::TooShort)
        );
        let key = "0123456789abcdef";
        let shown = format!("{:?}", ScrubRules::new().hash_key(key).unwrap());
        assert!(
            shown.contains("has_hash_key: true") && !shown.contains(key),
            "{shown}"
        );
        let scrubber = ScrubRules::new().compile().scrubber.unwrap();
        assert_eq!(scrub_text(&scrubber, "plain enough"), None);
    }
}
