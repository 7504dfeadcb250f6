//! What secrets look like: a fixed beginning, and what must follow it.

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::rules::Shape;
use super::text::{count_work, end_while, is_escape};

/// The characters of a key.
type Alphabet = fn(u8) -> bool;

/// Base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A beginning, and what must follow it.
#[derive(Clone)]
pub(super) struct Pattern {
    pub(super) prefix: Cow<'static, str>,
    pub(super) form: Form,
}

/// What follows a beginning.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// At least N characters of an alphabet; the beginning is part of the key.
    Key(Alphabet, usize),
    /// An AWS access key id.
    AccessKeyId,
    /// The parts of a JSON web token.
    Jwt,
    /// A private key in PEM, up to its last line.
    Pem,
    /// An HTTP scheme and its credentials.
    Bearer,
    /// The same, in base64.
    Basic,
    /// The authority of a URL.
    Url,
}

const fn key(prefix: &'static str, alphabet: Alphabet, least: usize) -> Pattern {
    Pattern {
        prefix: Cow::Borrowed(prefix),
        form: Form::Key(alphabet, least),
    }
}

impl Pattern {
    /// The beginning of an application's own keys.
    pub(super) fn own(prefix: String) -> Self {
        Self {
            prefix: prefix.into(),
            form: Form::Key(is_token68, 1),
        }
    }

    /// The shape of what begins with it.
    pub(super) fn shape(&self) -> Shape {
        match self.form {
            Form::Key(..) | Form::AccessKeyId => Shape::Key,
            Form::Jwt => Shape::Token,
            Form::Pem => Shape::PrivateKey,
            Form::Bearer | Form::Basic => Shape::Credentials,
            Form::Url => Shape::UrlPassword,
        }
    }
}

const fn other(prefix: &'static str, form: Form) -> Pattern {
    Pattern {
        prefix: Cow::Borrowed(prefix),
        form,
    }
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

/// Of base64url (RFC 4648, section 5).
fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// Of base64 and base64url, with padding and the separators that tokens use.
fn is_token68(byte: u8) -> bool {
    is_base64url(byte) || matches!(byte, b'.' | b'~' | b'+' | b'/' | b'=')
}

fn is_dotted(byte: u8) -> bool {
    is_base64url(byte) || byte == b'.'
}

/// As their issuers document them.
pub(super) const PATTERNS: &[Pattern] = &[
    other("AKIA", Form::AccessKeyId),
    other("ASIA", Form::AccessKeyId),
    other("ABIA", Form::AccessKeyId),
    other("ACCA", Form::AccessKeyId),
    key("bedrock-api-key-", is_token68, 20),
    key("ABSK", is_token68, 109),
    other("eyJ", Form::Jwt),
    key("ZXlK", is_token68, 60),
    key("eyJrIjoi", is_token68, 70),
    other("-----BEGIN", Form::Pem),
    other("Bearer ", Form::Bearer),
    other("Basic ", Form::Basic),
    other("://", Form::Url),
    // GitHub
    key("ghp_", is_alphanumeric, 36),
    key("gho_", is_alphanumeric, 36),
    key("ghu_", is_alphanumeric, 36),
    key("ghs_", is_alphanumeric, 36),
    key("ghr_", is_alphanumeric, 36),
    key("github_pat_", is_base64url, 22),
    // GitLab
    key("glpat-", is_dotted, 20),
    key("gldt-", is_base64url, 20),
    key("glrt-", is_dotted, 20),
    key("glptt-", is_base64url, 20),
    key("glcbt-", is_base64url, 20),
    key("glft-", is_base64url, 20),
    key("glsoat-", is_base64url, 20),
    key("glagent-", is_base64url, 20),
    key("glimt-", is_base64url, 20),
    key("glffct-", is_base64url, 20),
    key("gloas-", is_base64url, 20),
    key("GR1348941", is_base64url, 20),
    // Slack
    key("xoxb-", is_base64url, 10),
    key("xoxp-", is_base64url, 10),
    key("xoxa-", is_base64url, 10),
    key("xoxr-", is_base64url, 10),
    key("xoxs-", is_base64url, 10),
    key("xoxo-", is_base64url, 10),
    key("xoxe-", is_base64url, 10),
    key("xoxe.xox", is_base64url, 10),
    key("xapp-", is_base64url, 10),
    key("hooks.slack.com/", |byte| is_base64url(byte) || byte == b'/', 30),
    // Stripe
    key("sk_live_", is_alphanumeric, 10),
    key("sk_test_", is_alphanumeric, 10),
    key("sk_prod_", is_alphanumeric, 10),
    key("rk_live_", is_alphanumeric, 10),
    key("rk_test_", is_alphanumeric, 10),
    key("rk_prod_", is_alphanumeric, 10),
    key("whsec_", is_token68, 20),
    // Models
    key("sk-ant-", is_base64url, 20),
    key("sk-proj-", is_base64url, 20),
    key("sk-svcacct-", is_base64url, 20),
    key("sk-admin-", is_base64url, 20),
    key("sk-or-", is_base64url, 20),
    key("sk-", is_alphanumeric, 32),
    key("hf_", is_alphanumeric, 34),
    key("api_org_", is_alphanumeric, 34),
    key("r8_", is_alphanumeric, 37),
    key("gsk_", is_alphanumeric, 40),
    key("xai-", is_alphanumeric, 40),
    key("pplx-", is_alphanumeric, 40),
    key("nvapi-", is_base64url, 40),
    // Clouds
    key("AIza", is_base64url, 35),
    key("ya29.", is_base64url, 20),
    key("GOCSPX-", is_base64url, 20),
    key("amzn.mws.", |byte| is_hex(byte) || byte == b'-', 36),
    key("dop_v1_", is_hex, 64),
    key("doo_v1_", is_hex, 64),
    key("dor_v1_", is_hex, 64),
    key("LTAI", is_alphanumeric, 20),
    key("dapi", is_hex, 32),
    key("tfp_", is_base64url, 40),
    key("HRKU-", is_base64url, 36),
    key("FlyV1 fm", |byte| is_token68(byte) || byte == b',', 40),
    key("fo1_", is_base64url, 40),
    // Registries and tools
    key("npm_", is_alphanumeric, 36),
    key("pypi-AgE", is_base64url, 50),
    key("rubygems_", is_hex, 48),
    key("cio", is_alphanumeric, 32),
    key("dckr_pat_", is_base64url, 20),
    key("dckr_oat_", is_base64url, 20),
    key("oy2", is_alphanumeric, 43),
    key("hvs.", is_base64url, 24),
    key("hvb.", is_base64url, 24),
    key("hvr.", is_base64url, 24),
    key("dp.pt.", is_alphanumeric, 40),
    key("dp.st.", is_dotted, 40),
    key("pul-", is_hex, 40),
    key("AGE-SECRET-KEY-1", is_alphanumeric, 58),
    key("ops_eyJ", is_token68, 100),
    key("PMAK-", |byte| is_hex(byte) || byte == b'-', 59),
    key("ATATT3", is_token68, 100),
    key("ATCTT3", is_token68, 60),
    key("CCIPAT_", is_base64url, 40),
    key("sntrys_", is_token68, 60),
    key("sntryu_", is_hex, 64),
    key("glsa_", is_base64url, 40),
    key("glc_", is_token68, 32),
    key("NRAK-", is_alphanumeric, 27),
    key("NRII-", is_base64url, 32),
    key("NRJS-", is_hex, 19),
    key("dt0c01.", is_dotted, 80),
    key("pnu_", is_alphanumeric, 36),
    key("sgp_", |byte| is_alphanumeric(byte) || byte == b'_', 40),
    key("sk_eleven_", is_alphanumeric, 20),
    key("cmVmd", is_alphanumeric, 59),
    key("AKCp", is_alphanumeric, 69),
    key("CLOJARS_", is_alphanumeric, 60),
    key("fm1_", is_token68, 60),
    key("fm2_", is_token68, 60),
    key("ico-", is_alphanumeric, 32),
    key("sha256~", is_base64url, 43),
    key("tk-us-", is_base64url, 48),
    key("tskey-", is_base64url, 20),
    key("sbp_", is_hex, 40),
    // Services
    key("p8e-", is_alphanumeric, 32),
    key("EAAM", is_alphanumeric, 100),
    key("EAAC", is_alphanumeric, 100),
    key("fio-u-", |byte| is_base64url(byte) || byte == b'=', 64),
    key("sm_aat_", is_alphanumeric, 16),
    key("sm_pat_", is_alphanumeric, 16),
    key("sm_sat_", is_alphanumeric, 16),
    key("s-s4t2ud-", is_hex, 64),
    key("dnkey-", is_base64url, 70),
    key("SG.", is_token68, 60),
    key("shpat_", is_hex, 32),
    key("shpca_", is_hex, 32),
    key("shppa_", is_hex, 32),
    key("shpss_", is_hex, 32),
    key("sq0atp-", is_base64url, 22),
    key("sq0csp-", is_base64url, 22),
    key("EAAAE", is_base64url, 59),
    key("EAACEdEose0cBA", is_alphanumeric, 10),
    key("access_token$production$", is_hex, 32),
    key("secret_", is_alphanumeric, 43),
    key("ntn_", is_alphanumeric, 40),
    key("lin_api_", is_alphanumeric, 32),
    key("lin_oauth_", is_alphanumeric, 32),
    key("figd_", is_base64url, 40),
    key("pat-na1-", |byte| is_hex(byte) || byte == b'-', 36),
    key("pat-eu1-", |byte| is_hex(byte) || byte == b'-', 36),
    key("xkeysib-", is_base64url, 64),
    key("pscale_tkn_", is_token68, 32),
    key("pscale_pw_", is_token68, 32),
    key("pscale_oauth_", is_token68, 32),
    key("rdme_", is_alphanumeric, 70),
    key("phc_", is_alphanumeric, 40),
    key("phx_", is_alphanumeric, 40),
    key("duffel_live_", is_token68, 40),
    key("duffel_test_", is_token68, 40),
    key("EZAK", is_alphanumeric, 54),
    key("EZTK", is_alphanumeric, 54),
    key("shippo_live_", is_hex, 40),
    key("shippo_test_", is_hex, 40),
    key("FLWSECK-", is_base64url, 30),
    key("FLWSECK_TEST-", is_base64url, 12),
    key("cfut_", is_alphanumeric, 40),
    key("v1.0-", is_base64url, 140),
];

/// Something in a text that is a secret.
pub(super) struct Found {
    pub(super) range: Range<usize>,
    pub(super) shape: Shape,
}

/// The secret at an occurrence of the pattern's beginning, in whatever case it was found.
pub(super) fn verify(pattern: &Pattern, text: &[u8], start: usize) -> Option<Found> {
    let after = start + pattern.prefix.len();
    let range = match pattern.form {
        Form::Url => url_password(text, after)?,
        Form::Bearer => bearer(text, after)?,
        Form::Basic => basic(text, after)?,
        _ if !is_exact(pattern, text, start) => return None,
        Form::Pem => start..end_of_pem(text, after)?,
        Form::Jwt => start..end_of_jwt(text, start)?,
        Form::AccessKeyId => start..end_of_access_key_id(text, after)?,
        Form::Key(alphabet, least) => {
            let end = end_while(text, after, alphabet);
            if end - after < least {
                return None;
            }
            start..end
        }
    };
    Some(Found {
        range,
        shape: pattern.shape(),
    })
}

/// A header, a payload and perhaps a signature, or the five parts of an encrypted token. No other token begins within
/// its characters, as a beginning of three letters is none within a word.
fn end_of_jwt(text: &[u8], start: usize) -> Option<usize> {
    let header = end_while(text, start, is_base64url);
    let payload = end_while(text, header + 1, is_base64url);
    if text.get(header) != Some(&b'.') || header - start < 12 || payload - header <= 8 {
        return None;
    }
    let end = end_while(text, payload, is_dotted);
    // A full stop ends the sentence, not the token.
    let stops = text[payload..end]
        .iter()
        .rev()
        .take_while(|byte| **byte == b'.')
        .count();
    Some(end - stops)
}

fn end_of_access_key_id(text: &[u8], after: usize) -> Option<usize> {
    let end = end_while(text, after, |byte| {
        byte.is_ascii_uppercase() || byte.is_ascii_digit()
    });
    (end - after == 16 && !text.get(end).is_some_and(u8::is_ascii_alphanumeric)).then_some(end)
}

/// Keys are case-sensitive, and begin where a word begins; those with a short beginning not after a hyphen either, as in
/// `cache-ghp_1`.
fn is_exact(pattern: &Pattern, text: &[u8], start: usize) -> bool {
    /// So short a beginning occurs by chance.
    const SHORT: usize = 4;
    let before = &text[..start];
    let is_part = |byte: &u8| {
        byte.is_ascii_alphanumeric() || (pattern.prefix.len() <= SHORT && matches!(byte, b'-' | b'_'))
    };
    let is_word = pattern
        .prefix
        .starts_with(|first: char| first.is_ascii_alphanumeric());
    let is_inside = is_word && before.last().is_some_and(is_part) && !is_escape(before);
    !is_inside && text[start..].starts_with(pattern.prefix.as_bytes())
}

/// Up to the last line, or to the end of the text.
fn end_of_pem(text: &[u8], after: usize) -> Option<usize> {
    const PRIVATE: &[u8] = b"PRIVATE KEY";
    const END: &[u8] = b"-----END ";
    let label = end_while(text, after, |byte| {
        byte.is_ascii_uppercase() || matches!(byte, b' ' | b'0'..=b'9')
    });
    memchr::memmem::find(&text[after..label], PRIVATE)?;
    let end = memchr::memmem::find(&text[label..], END);
    count_work(end.unwrap_or(text.len() - label));
    let Some(end) = end else {
        return Some(text.len());
    };
    let label = end_while(text, label + end + END.len(), |byte| {
        byte.is_ascii_alphanumeric() || byte == b' '
    });
    Some(end_while(text, label, |byte| byte == b'-'))
}

/// True for what is long, or has a digit.
pub(super) fn is_no_word(token: &[u8]) -> bool {
    token.len() >= 24 || (token.len() >= 8 && token.iter().any(u8::is_ascii_digit))
}

/// A token that is no word, as in "Bearer authentication".
fn bearer(text: &[u8], after: usize) -> Option<Range<usize>> {
    let start = end_while(text, after, |byte| byte == b' ').min(after + 8);
    let token = &text[start..end_while(text, start, is_token68)];
    (is_no_word(token) && starts_word(text, after, "bearer ".len())).then(|| start..start + token.len())
}

/// A user and a password in base64, padded or not: "Basic coverage" is none.
fn basic(text: &[u8], after: usize) -> Option<Range<usize>> {
    let start = end_while(text, after, |byte| byte == b' ').min(after + 8);
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let token = &text[start..end_while(text, start, is_base64)];
    let decoded = BASE64.decode(token).ok()?;
    let is_pair = decoded.contains(&b':') && !decoded.iter().any(u8::is_ascii_control);
    (is_pair && starts_word(text, after, "basic ".len())).then(|| start..start + token.len())
}

fn starts_word(text: &[u8], after: usize, length: usize) -> bool {
    let before = &text[..after.saturating_sub(length)];
    !before.last().is_some_and(u8::is_ascii_alphanumeric) || is_escape(before)
}

/// The password in the authority of a URL, which begins here (RFC 3986, section 3.2). The last `@` ends it, as in
/// browsers.
fn url_password(text: &[u8], authority: usize) -> Option<Range<usize>> {
    let end = end_while(text, authority, |byte| {
        byte > b' ' && !matches!(byte, b'/' | b'?' | b'#' | b'"' | b'\\' | b'<' | b'>' | b'`')
    });
    let host = authority + memchr::memrchr(b'@', &text[authority..end])?;
    let password = authority + memchr::memchr(b':', &text[authority..host])? + 1;
    (password < host).then_some(password..host)
}
