//! Names of secrets, whatever their case and separators.

use std::borrow::Cow;

use compact_str::CompactString;

use super::values::MARKER_START;

/// What the name of a secret ends with, folded and in the singular. The words of a compound are separated by a space.
const SECRETS: &[&str] = &[
    "access key",
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
    "host key",
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
    "storage key",
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
    "totp",
    "verification code",
];

/// Names that end like secrets and are none.
const ALLOWED: &[&str] = &[
    "cancellation token",
    "client request token",
    "client token",
    "continuation token",
    "http tokens",
    "idempotency token",
    "next page token",
    "next token",
    "page token",
    "pagination token",
    "sync token",
];

/// Members of a secret that are not secret themselves: `{"token": {"id": "t-1", "value": "…"}}`.
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
    "path",
    "variable",
];

/// Members that hold the value of one that is named.
const VALUES: &[&str] = &[
    "after", "before", "content", "default", "from", "new", "newvalue", "old", "oldvalue", "to", "value",
    "values",
];

/// The terms that names are compared with, folded.
#[derive(Clone, Debug)]
pub(super) struct NameList {
    endings: Vec<String>,
    words: Vec<String>,
    allowed: Vec<String>,
}

impl Default for NameList {
    fn default() -> Self {
        let folded = |terms: &[&str]| terms.iter().map(|term| fold(term).into()).collect();
        Self {
            endings: folded(SECRETS),
            words: folded(SECRET_WORDS),
            allowed: folded(ALLOWED),
        }
    }
}

impl NameList {
    pub(super) fn add_secret(&mut self, name: &str) {
        let name = fold(name);
        self.allowed.retain(|allowed| *allowed != name);
        self.words.push(singular(&name).to_owned());
    }

    pub(super) fn add_allowed(&mut self, name: &str) {
        self.allowed.push(fold(name).into());
    }

    /// True for the name of a secret.
    pub(super) fn is_secret(&self, name: &str) -> bool {
        let name = &*without_markers(name);
        let folded = fold(name);
        if self.allowed.iter().any(|allowed| *allowed == folded) {
            return false;
        }
        let folded = singular(&folded);
        self.endings
            .iter()
            .any(|ending| folded.ends_with(ending.as_str()))
            || self.words.iter().any(|word| ends_with_word(name, folded, word))
    }
}

/// True for a plural: `tokens` counts more often than it holds.
pub(super) fn is_plural(name: &str) -> bool {
    name.ends_with(['s', 'S'])
}

/// True for credentials: a group of members with names of their own.
pub(super) fn is_group(name: &str) -> bool {
    singular(&fold(name)).ends_with("credential")
}

/// True for a member of a secret that is not secret itself.
pub(super) fn is_attribute(name: &str) -> bool {
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

/// The name without markers: `[scrubbed: token]` is not the name of a token.
fn without_markers(name: &str) -> Cow<'_, str> {
    let Some((before, rest)) = name.split_once(MARKER_START) else {
        return name.into();
    };
    let rest = rest
        .split_inclusive(MARKER_START)
        .map(|part| part.split_once(']').map_or("", |(_, after)| after));
    rest.fold(before.to_owned(), |name, part| name + part).into()
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

/// The built-in terms.
pub(super) fn terms() -> impl Iterator<Item = &'static str> {
    SECRETS.iter().chain(SECRET_WORDS).copied()
}

/// The spellings of a term, with the usual separators between its words. A text with a member of that name has one of them.
pub(super) fn spellings(term: &str) -> Vec<String> {
    let term = term.to_ascii_lowercase();
    match term.contains(' ') {
        true => ["", "_", "-", ".", " "]
            .map(|separator| term.replace(' ', separator))
            .into(),
        false => vec![term],
    }
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
