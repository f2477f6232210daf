//! What this process takes of the machine's memory, and what is left.

/// Memory that a new process could use without swapping, in bytes; nothing where the system does not say.
#[must_use]
pub fn available_bytes() -> Option<u64> {
    kilobytes("/proc/meminfo", "MemAvailable:")
}

/// Memory that this process has in use, in bytes.
pub(super) fn resident_bytes() -> Option<u64> {
    kilobytes("/proc/self/status", "VmRSS:")
}

fn kilobytes(path: &str, key: &str) -> Option<u64> {
    let text = fs_err::read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kilobytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    #[test]
    fn memory_is_told() {
        let page = vec![1_u8; 64 << 20];
        assert!(super::resident_bytes().unwrap() > 64 << 20, "{}", page[page.len() - 1]);
        assert!(super::available_bytes().unwrap() > 0);
    }
}
