//! Names of secrets, whatever their case and separators.

use compact_str::CompactString;

use super::filter::MIN_NEEDLE;
use super::text::count_work;
use super::values::MARKER_START;

/// What the name of a secret ends with, folded and in the singular. The words of a compound are separated by a space.
const SECRETS: &[&str] = &[
    "access key",
    "account key",
    "admin key",
    "api key",
    "app key",
    "auth key",
    "authorization",
    "client key",
    "connection string",
    "consumer key",
    "cookie",
    "credential",
    "decryption key",
    "deploy key",
    "encryption key",
    "hmac key",
    "jwt",
    "license key",
    "master key",
    "mnemonic",
    "pass phrase",
    "passcode",
    "passwd",
    "password",
    "password digest",
    "password hash",
    "password salt",
    "private key",
    "pwd",
    "recovery phrase",
    "secret",
    "secret binary",
    "secret key",
    "secret string",
    "secret value",
    "seed phrase",
    "service key",
    "session key",
    "shared key",
    "signing key",
    "ssh key",
    "symmetric key",
    "token",
    "token value",
];

/// The same, as a word of its own: within other words these are too short to mean anything.
const SECRET_WORDS: &[&str] = &[
    "backup code",
    "bearer",
    "card number",
    "cvc",
    "cvc2",
    "cvv",
    "cvv2",
    "otp",
    "pass code",
    "pin",
    "recovery code",
    "security code",
    "sig",
    "totp",
    "verification code",
];

/// Names with such an end are none, although they end like secrets.
const ALLOWED: &[&str] = &[
    "backward token",
    "cancellation token",
    "change token",
    "client request token",
    "client token",
    "continuation token",
    "creation token",
    "forward token",
    "hashed token",
    "http tokens",
    "idempotency token",
    "lock token",
    "next token",
    "page token",
    "pagination token",
    "resume token",
    "sync token",
];

/// What is secret of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Extent {
    None,
    /// What is no number: `tokens: 3` is a count.
    Count,
    /// A text or a number; of an object those members that hold a value: `{"token": {"id": "t-1", "value": "…"}}`.
    Values,
    /// All that is in it but attributes: `{"cookies": {"sid": "…"}}`.
    All,
}

/// The ends of names of which all is secret.
const ALL: &[&str] = &["cookie", "passcode", "passphrase", "passwd", "password", "pwd"];

/// The ends of names of groups, whose members have names of their own. A text of that name is secret.
const GROUPS: &[&str] = &["authorization", "credential"];

/// Members of a secret that are not secret themselves.
const ATTRIBUTES: &[&str] = &[
    "algorithm",
    "arn",
    "at",
    "count",
    "created",
    "date",
    "domain",
    "expiration",
    "expires",
    "expiry",
    "format",
    "id",
    "issuer",
    "kind",
    "last4",
    "length",
    "name",
    "scope",
    "scopes",
    "state",
    "status",
    "time",
    "type",
    "updated",
    "version",
];

/// Members that name another one, `{"name": "password", "value": "…"}`.
const NAMING: &[&str] = &[
    "attribute",
    "field",
    "header",
    "key",
    "name",
    "parameter",
    "variable",
];

/// Members that hold the value of one that is named.
const VALUES: &[&str] = &[
    "after",
    "before",
    "binary",
    "content",
    "data",
    "default",
    "from",
    "new",
    "newvalue",
    "old",
    "oldvalue",
    "plain",
    "plaintext",
    "raw",
    "string",
    "text",
    "to",
    "value",
    "values",
];

/// The terms that names are compared with, folded.
#[derive(Clone, Debug)]
pub(super) struct NameList {
    endings: Vec<String>,
    words: Vec<String>,
    /// Ends of names that are none.
    allowed_endings: Vec<String>,
    /// Names that are none, as a whole.
    allowed: Vec<String>,
}

impl Default for NameList {
    fn default() -> Self {
        let folded = |terms: &[&str]| terms.iter().map(|term| fold(term).into()).collect();
        Self {
            endings: folded(SECRETS),
            words: folded(SECRET_WORDS),
            allowed_endings: folded(ALLOWED),
            allowed: Vec::new(),
        }
    }
}

impl NameList {
    /// Adds the name of a secret. Returns the words by which texts with it are found; none for a name that is too short.
    pub(super) fn add_secret(&mut self, name: &str) -> Vec<String> {
        let folded = fold(name);
        let term = singular(&folded);
        let words = words(name);
        let longest = words
            .split(' ')
            .max_by_key(|word| word.len())
            .map(singular)
            .unwrap_or_default();
        if longest.len() < MIN_NEEDLE {
            return Vec::new();
        }
        self.allowed_endings
            .retain(|ending| !folded.ends_with(ending.as_str()));
        self.words.push(term.to_owned());
        vec![longest.to_owned(), longest.to_uppercase()]
    }

    pub(super) fn add_allowed(&mut self, name: &str) {
        self.allowed.push(fold(name).into());
    }

    /// True for the name of a secret; not for one of which a part was scrubbed: `[scrubbed: token]` ends like one.
    pub(super) fn is_secret(&self, name: &str) -> bool {
        count_work(name.len());
        if name.contains(MARKER_START) {
            return false;
        }
        let folded = fold(name);
        if self.allowed.iter().any(|allowed| *allowed == folded) {
            return false;
        }
        let term = singular(&folded);
        let ends_with = |endings: &[String]| endings.iter().any(|ending| term.ends_with(singular(ending)));
        (ends_with(&self.endings) && !ends_with(&self.allowed_endings))
            || self.words.iter().any(|word| ends_with_word(name, term, word))
    }

    /// What is secret of a member with this name.
    pub(super) fn extent(&self, name: &str) -> Extent {
        if !self.is_secret(name) {
            return Extent::None;
        }
        match singular(&fold(name)) {
            term if ALL.iter().any(|ending| term.ends_with(ending)) => Extent::All,
            _ if is_plural(name) => Extent::Count,
            _ => Extent::Values,
        }
    }

    /// What is secret at a place of a document, a JSON pointer (RFC 6901).
    pub(super) fn extent_of_path(&self, path: &str) -> Extent {
        let mut extent = Extent::None;
        let mut names = path.split('/').skip(1).peekable();
        while let Some(name) = names.next() {
            let name = name.replace("~1", "/").replace("~0", "~");
            extent = self.extent(&name).max(within(extent, &name));
            if is_group(&name) && names.peek().is_some() {
                extent = Extent::None;
            }
        }
        extent
    }
}

/// What is secret of a member of something of which this is secret.
pub(super) fn within(outer: Extent, name: &str) -> Extent {
    match outer {
        Extent::All if !is_attribute(name) => Extent::All,
        Extent::Count | Extent::Values if is_value(name) => Extent::All,
        _ => Extent::None,
    }
}

/// True for a plural: `tokens` counts more often than it holds.
pub(super) fn is_plural(name: &str) -> bool {
    name.ends_with(['s', 'S'])
}

/// True for a group of members with names of their own.
pub(super) fn is_group(name: &str) -> bool {
    let folded = fold(name);
    GROUPS.iter().any(|group| singular(&folded).ends_with(group))
}

/// True for a member of a secret that is not secret itself.
fn is_attribute(name: &str) -> bool {
    let folded = fold(name);
    ATTRIBUTES
        .iter()
        .any(|attribute| ends_with_word(name, &folded, attribute))
}

pub(super) fn is_naming(name: &str) -> bool {
    NAMING.contains(&&*fold(name))
}

pub(super) fn is_value(name: &str) -> bool {
    VALUES.contains(&&*fold(name))
}

/// Letters and digits alone, in lower case.
pub(super) fn fold(name: &str) -> CompactString {
    name.chars()
        .filter(|char| char.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

fn singular(folded: &str) -> &str {
    folded.strip_suffix('s').unwrap_or(folded)
}

/// True if the name, which `folded` is, ends with this word at the beginning of a word: after a separator or a lower-case
/// letter that an upper-case one follows.
fn ends_with_word(name: &str, folded: &str, word: &str) -> bool {
    let Some(before) = folded.strip_suffix(word) else {
        return false;
    };
    if before.is_empty() {
        return true;
    }
    // The character of the name at which the word begins.
    let count = before.chars().count();
    let mut letters = name
        .char_indices()
        .filter(|(_, char)| char.is_alphanumeric())
        .skip(count - 1);
    match (letters.next(), letters.next()) {
        (Some((end, last)), Some((start, first))) => {
            start > end + last.len_utf8() || (first.is_uppercase() && !last.is_uppercase())
        }
        _ => false,
    }
}

/// The words by which texts with the built-in names are found: of each term the rarer one, so that it does not matter
/// what is between its words.
pub(super) fn triggers() -> impl Iterator<Item = &'static str> {
    let terms = SECRETS.iter().chain(SECRET_WORDS);
    terms.map(|term| match term.split_once(' ') {
        Some((_, last @ ("key" | "phrase"))) => last,
        Some((first, _)) => first,
        None => term,
    })
}

/// The words of a name as its caller spells it: `customerPin` and `customer_pin` are `customer pin`.
pub(super) fn words(name: &str) -> String {
    let mut words = String::new();
    let mut was_lower = false;
    for char in name.chars() {
        if !char.is_alphanumeric() {
            words.push(' ');
        } else {
            if was_lower && char.is_uppercase() {
                words.push(' ');
            }
            words.extend(char.to_lowercase());
        }
        was_lower = char.is_lowercase();
    }
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}
