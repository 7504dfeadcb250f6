//! What secrets look like: a fixed beginning, and what must follow it.

use std::borrow::Cow;
use std::ops::Range;

use super::card::is_escape;
use super::names::fold;
use super::rules::Shape;

/// The characters of a key.
type Alphabet = fn(u8) -> bool;

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
pub(super) fn is_token68(byte: u8) -> bool {
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
    key(
        "A3-",
        |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-',
        36,
    ),
    key("CLOJARS_", is_alphanumeric, 60),
    key("pat.", is_dotted, 60),
    key("sat.", is_dotted, 60),
    key("fm1_", is_token68, 60),
    key("fm2_", is_token68, 60),
    key("ico-", is_alphanumeric, 32),
    key("sha256~", is_base64url, 43),
    key("tk-us-", is_base64url, 48),
    key("API-", is_alphanumeric, 26),
    key("4b1d", is_alphanumeric, 38),
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
    key("key-", is_hex, 32),
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

/// Looks for secrets in a text, from its beginning to its end.
pub(super) struct Search<'a> {
    text: &'a [u8],
    /// No JSON web token begins before this: to look again at the same long run of characters would take time by the
    /// square of its length.
    next_jwt: usize,
}

impl<'a> Search<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, next_jwt: 0 }
    }

    /// The secret at an occurrence of the pattern's beginning, in whatever case it was found.
    pub(super) fn verify(&mut self, pattern: &Pattern, start: usize) -> Option<Found> {
        let (text, after) = (self.text, start + pattern.prefix.len());
        let (range, shape) = match pattern.form {
            Form::Url => (url_password(text, after)?, Shape::UrlPassword),
            Form::Bearer => (bearer(text, after)?, Shape::Credentials),
            Form::Basic => (basic(text, after)?, Shape::Credentials),
            _ if !is_exact(pattern, text, start) => return None,
            Form::Pem => (start..end_of_pem(text, after)?, Shape::PrivateKey),
            Form::Jwt => (self.jwt(start)?, Shape::Token),
            Form::AccessKeyId => (start..end_of_access_key_id(text, after)?, Shape::Key),
            Form::Key(alphabet, least) => {
                let end = end_while(text, after, alphabet);
                if end - after < least {
                    return None;
                }
                (start..end, Shape::Key)
            }
        };
        Some(Found { range, shape })
    }

    /// A header, a payload and perhaps a signature, or the five parts of an encrypted token.
    fn jwt(&mut self, start: usize) -> Option<Range<usize>> {
        if start < self.next_jwt {
            return None;
        }
        let header = end_while(self.text, start, is_base64url);
        let payload = end_while(self.text, header + 1, is_base64url);
        let has_parts = self.text.get(header) == Some(&b'.') && header - start >= 12 && payload - header > 8;
        if !has_parts {
            self.next_jwt = header;
            return None;
        }
        let end = end_while(self.text, payload, is_dotted);
        // A full stop ends the sentence, not the token.
        let stops = self.text[payload..end]
            .iter()
            .rev()
            .take_while(|byte| **byte == b'.')
            .count();
        Some(start..end - stops)
    }
}

fn end_of_access_key_id(text: &[u8], after: usize) -> Option<usize> {
    let end = end_while(text, after, |byte| {
        byte.is_ascii_uppercase() || byte.is_ascii_digit()
    });
    (end - after == 16 && !text.get(end).is_some_and(u8::is_ascii_alphanumeric)).then_some(end)
}

/// True for an AWS access key id under its own name.
pub(super) fn is_access_key_id(json: &str, range: &Range<usize>) -> bool {
    let Some(before) = json[..range.start].strip_suffix("\":\"") else {
        return false;
    };
    let name = before.rsplit('"').next().unwrap_or_default();
    range.len() == 20 && json[range.clone()].starts_with('A') && fold(name).ends_with("accesskeyid")
}

/// Keys are case-sensitive, and begin where a word begins.
fn is_exact(pattern: &Pattern, text: &[u8], start: usize) -> bool {
    let before = &text[..start];
    let is_inside = before.last().is_some_and(u8::is_ascii_alphanumeric) && !is_escape(before);
    !is_inside && text[start..].starts_with(pattern.prefix.as_bytes())
}

fn end_while(text: &[u8], start: usize, is_part: impl Fn(u8) -> bool) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    start + rest.iter().take_while(|byte| is_part(**byte)).count()
}

/// Up to the last line, or to the end of the text or of the JSON string around it.
fn end_of_pem(text: &[u8], after: usize) -> Option<usize> {
    const PRIVATE: &[u8] = b"PRIVATE KEY";
    const END: &[u8] = b"-----END ";
    let label = end_while(text, after, |byte| {
        byte.is_ascii_uppercase() || matches!(byte, b' ' | b'0'..=b'9')
    });
    memchr::memmem::find(&text[after..label], PRIVATE)?;
    let string = end_while(text, label, |byte| byte != b'"');
    let end = memchr::memmem::find(&text[label..string], END).map(|at| label + at + END.len());
    let Some(end) = end else { return Some(string) };
    let label = end_while(text, end, |byte| byte.is_ascii_alphanumeric() || byte == b' ');
    Some(end_while(text, label, |byte| byte == b'-'))
}

/// True for what is long, or has a digit.
pub(super) fn is_no_word(token: &[u8]) -> bool {
    token.len() >= 24 || (token.len() >= 6 && token.iter().any(u8::is_ascii_digit))
}

/// A token that is no word, as in "Bearer authentication".
fn bearer(text: &[u8], after: usize) -> Option<Range<usize>> {
    let token = &text[after..end_while(text, after, is_token68)];
    (is_no_word(token) && starts_word(text, after, "bearer ".len())).then(|| after..after + token.len())
}

/// Padded base64, or base64 that is no word.
fn basic(text: &[u8], after: usize) -> Option<Range<usize>> {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let token = &text[after..end_while(text, after, is_base64)];
    let is_word = token.iter().skip(1).all(u8::is_ascii_lowercase);
    (token.len() >= 8
        && token.len().is_multiple_of(4)
        && !is_word
        && starts_word(text, after, "basic ".len()))
    .then(|| after..after + token.len())
}

fn starts_word(text: &[u8], after: usize, length: usize) -> bool {
    let before = &text[..after.saturating_sub(length)];
    !before.last().is_some_and(u8::is_ascii_alphanumeric) || is_escape(before)
}

/// The password in the authority of a URL, which begins here (RFC 3986, section 3.2). The last `@` ends it, as in
/// browsers.
fn url_password(text: &[u8], authority: usize) -> Option<Range<usize>> {
    let end = end_while(text, authority, |byte| {
        byte > b' '
            && !matches!(
                byte,
                b'/' | b'?' | b'#' | b'"' | b'\\' | b'<' | b'>' | b'\'' | b'`' | b','
            )
    });
    let host = authority + memchr::memrchr(b'@', &text[authority..end])?;
    let password = authority + memchr::memchr(b':', &text[authority..host])? + 1;
    (password < host).then_some(password..host)
}
