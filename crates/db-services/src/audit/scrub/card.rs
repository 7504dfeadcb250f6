//! Payment card numbers: digits of an issuer with a valid check digit (ISO/IEC 7812-1).

use std::ops::Range;

use super::text::{count_work, is_escape};

/// The lengths of the groups in which card numbers are printed.
const GROUPS: &[&[usize]] = &[&[4, 4, 4, 4, 3], &[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4]];

/// The most digits without groups: 17 to 19 in a row are an identifier of 64 bits or a time in nanoseconds more often than a
/// card.
const MAX_DIGITS: usize = 16;
/// The fewest digits. Those with 13 are from before 2000, and product codes (EAN) have as many.
const MIN_DIGITS: usize = 14;

/// True unless a text certainly holds no card number. Of each four bytes it reads one: thirteen digits in a row, also in
/// printed groups, have digits at three of any four such places.
pub(super) fn may_occur(text: &[u8]) -> bool {
    let mut recent = 0_u8;
    text.iter().step_by(4).any(|byte| {
        recent = (recent << 1 | u8::from(byte.is_ascii_digit())) & 0b1111;
        recent.count_ones() >= 3
    })
}

/// The card numbers in a text.
pub(super) fn find(text: &[u8], mut found: impl FnMut(Range<usize>)) {
    let mut at = 0;
    while at < text.len() {
        if !text[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let end = end_of_run(text, at);
        match card_at(text, at, end) {
            Some(card) => {
                at = card.end;
                found(card);
            }
            None => at = end,
        }
    }
}

/// The end of the digits that begin here.
fn end_of_run(text: &[u8], at: usize) -> usize {
    let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    count_work(digits + 1);
    at + digits
}

/// The card number that begins with this run of digits.
fn card_at(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    // Part of an identifier, of a decimal, of a negative number.
    if start > 0 && is_part_of_word(text[start - 1]) && !is_escape(&text[..start]) {
        return None;
    }
    if (MIN_DIGITS..=MAX_DIGITS).contains(&(end - start)) {
        return (ends_here(text, end) && is_card(&text[start..end])).then_some(start..end);
    }
    let separator = *text.get(end).filter(|byte| matches!(byte, b' ' | b'-'))?;
    GROUPS.iter().find_map(|groups| {
        let end = end_of_groups(text, start, separator, groups)?;
        (ends_here(text, end) && is_card(&text[start..end])).then_some(start..end)
    })
}

fn end_of_groups(text: &[u8], start: usize, separator: u8, groups: &[usize]) -> Option<usize> {
    let mut at = start;
    for (nth, length) in groups.iter().enumerate() {
        if nth > 0 {
            at += usize::from(*text.get(at)? == separator);
        }
        if at != start && text[at - 1] != separator || end_of_run(text, at) - at != *length {
            return None;
        }
        at += length;
    }
    Some(at)
}

fn is_part_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+')
}

/// True if nothing follows that makes the digits part of something longer.
fn ends_here(text: &[u8], end: usize) -> bool {
    match (text.get(end), text.get(end + 1)) {
        (Some(b'.'), Some(next)) => !next.is_ascii_digit(),
        (Some(b'-'), Some(next)) => !next.is_ascii_alphanumeric(),
        (Some(byte), _) => !(byte.is_ascii_alphanumeric() || *byte == b'_'),
        (None, _) => true,
    }
}

fn is_card(printed: &[u8]) -> bool {
    let digits = printed
        .iter()
        .filter(|byte| byte.is_ascii_digit())
        .map(|byte| u32::from(byte - b'0'));
    let digits: Vec<u32> = digits.collect();
    is_issued(&digits) && has_check_digit(&digits)
}

/// True for the ranges and lengths of the large issuers.
fn is_issued(digits: &[u32]) -> bool {
    let prefix = |length: usize| {
        digits
            .iter()
            .take(length)
            .fold(0, |number, digit| number * 10 + digit)
    };
    match (digits.len(), prefix(1), prefix(2), prefix(3), prefix(4)) {
        // Visa
        (16 | 19, 4, ..) => true,
        // Mastercard
        (16, _, 51..=55, ..) | (16, .., 2221..=2720) => true,
        // American Express
        (15, _, 34 | 37, ..) => true,
        // Discover
        (16..=19, _, 65, ..) | (16..=19, _, _, 644..=649, _) | (16..=19, .., 6011) => true,
        // UnionPay
        (16..=19, _, 62, ..) => true,
        // Diners Club
        (14, _, 36 | 38 | 39, ..) | (14, _, _, 300..=305, _) => true,
        // JCB
        (16, .., 3528..=3589) => true,
        _ => false,
    }
}

/// The check of Luhn.
fn has_check_digit(digits: &[u32]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(nth, digit)| match (nth % 2, digit * 2) {
            (0, _) => *digit,
            (_, double) => double / 10 + double % 10,
        })
        .sum();
    sum.is_multiple_of(10)
}
