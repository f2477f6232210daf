//! Addresses of the internet: where they end, and whether they are any.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::{char_after, char_before, goes_on};

/// Characters before an `@` that are looked at, as RFC 5321 limits them.
const MAX_LOCAL: usize = 64;
const MAX_DOMAIN: usize = 253;
const MAX_URL: usize = 2048;

/// From the `@` to the whole address; letters of any script.
pub(crate) fn email(text: &str, at: Range<usize>) -> Option<Range<usize>> {
    let local_char = |c: char| c.is_alphanumeric() || "._%+-'&".contains(c);
    let before = text.get(..at.start)?;
    let local = before.chars().rev().take(MAX_LOCAL).take_while(|&c| local_char(c)).map(char::len_utf8).sum::<usize>();
    // Punctuation at the start belongs to the sentence.
    let local = before.get(before.len() - local..)?.trim_start_matches(|c: char| !c.is_alphanumeric());
    let after = text.get(at.end..)?;
    let domain_char = |c: char| c.is_alphanumeric() || c == '-' || c == '.';
    let domain: usize = after.chars().take(MAX_DOMAIN).take_while(|&c| domain_char(c)).map(char::len_utf8).sum();
    let domain = after.get(..domain)?.trim_end_matches(['.', '-']);
    // `ann@example.org.Then`: a sentence without its space; the rest is still an address.
    let (names, top) = domain.rsplit_once('.')?;
    let good = !local.is_empty()
        && names.split('.').all(|label| !label.is_empty() && !label.starts_with('-'))
        && (top.chars().count() >= 2 && top.chars().all(char::is_alphabetic) || top.starts_with("xn--"));
    good.then(|| at.start - local.len()..at.end + domain.len())
}

/// From the scheme or `www.` to the whole address, without the punctuation of the sentence around it.
pub(crate) fn url(text: &str, prefix: Range<usize>) -> Option<Range<usize>> {
    let rest = text.get(prefix.end..)?;
    let url_char = |c: char| !c.is_whitespace() && !c.is_control() && !"<>\"`{}|\\^“”„«»‹›「」『』（）【】".contains(c);
    let mut len: usize = rest.chars().take(MAX_URL).take_while(|&c| url_char(c)).map(char::len_utf8).sum();
    let mut address = rest.get(..len)?;
    while let Some(last) = address.chars().next_back() {
        let opens = address.matches('(').count();
        let keep = match last {
            ')' => opens >= address.matches(')').count(),
            ']' => address.contains('['),
            c => !".,;:!?'*_".contains(c) && !"。，、；！？」』）】".contains(c),
        };
        if keep {
            break;
        }
        len -= last.len_utf8();
        address = address.get(..len)?;
    }
    address.chars().next().is_some_and(|c| c.is_alphanumeric() || c == '[').then(|| prefix.start..prefix.end + len)
}

/// Four numbers, and no version or section of more.
pub(crate) fn ipv4(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let address = text.get(range.clone())?.split('/').next()?;
    let good = address.parse::<Ipv4Addr>().is_ok() && !goes_on(text, &range, &['.']);
    good.then_some(range)
}

/// As RFC 4291 writes them; with enough in them that it is no slice or path of a program.
pub(crate) fn ipv6(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let mut range = range;
    // A v4 address may be its end.
    let tail = text.get(range.end..)?;
    let more = tail.bytes().take(12).take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    if tail.starts_with('.') && text.get(range.start..range.end + more)?.parse::<Ipv6Addr>().is_ok() {
        range.end += more;
    }
    let address = text.get(range.clone())?;
    // `::` may end an address, a single colon ends a sentence.
    if address.ends_with(':') && !address.ends_with("::") {
        range.end -= 1;
    }
    let address = text.get(range.clone())?;
    let joined = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == ':');
    let free =
        !joined(char_before(text, range.start)) && !char_after(text, range.end).is_some_and(char::is_alphanumeric);
    let groups = address.split(':').filter(|group| !group.is_empty()).count();
    let hex = address.bytes().filter(u8::is_ascii_hexdigit).count();
    let enough = (groups >= 3 || hex >= 8) && address.bytes().any(|b| b.is_ascii_digit());
    (free && enough && address.parse::<Ipv6Addr>().is_ok()).then_some(range)
}

/// Six bytes, and no longer row of them.
pub(crate) fn mac(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let joined = |c: Option<char>| c.is_some_and(|c| c == ':' || c == '-');
    let longer = joined(char_before(text, range.start))
        || joined(char_after(text, range.end)) && text.as_bytes().get(range.end + 1).is_some_and(u8::is_ascii_hexdigit);
    (!longer).then_some(range)
}
