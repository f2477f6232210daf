//! Which `Host` a server that listens on loopback answers to.
//!
//! A web page can point a name of its own at 127.0.0.1 and then read this server's answers as its own origin. Such a
//! request names the page's host, so a loopback server answers only to names that are its own.

use std::net::IpAddr;

/// Whether `host` (the header's value, port included) is this machine's own name or one of `allowed`.
pub(crate) fn is_local(host: &str, allowed: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok()
        || allowed.iter().any(|a| a.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn own_names_are_local_and_others_are_not() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:80", "[::1]", "10.1.2.3", "app.localhost:3"] {
            assert!(is_local(host, &[]), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example:8080", "127.0.0.1.evil.example", "", ":80", "[", "notlocalhost"]
        {
            assert!(!is_local(host, &[]), "{host}");
        }
        assert!(is_local("Bantam.Lan:80", &["bantam.lan".into()]));
    }
}
