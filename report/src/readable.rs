//! Numbers as a person reads them.

use std::time::Duration;

/// Bytes as a person reads them.
pub fn readable_bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "kB", "MB", "GB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A duration as a person reads it.
pub fn readable_time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{:.0} min {:.0} s", (seconds / 60.0).floor(), seconds % 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(readable_bytes(12), "12 B");
        assert_eq!(readable_bytes(1_234_567), "1.2 MB");
        assert_eq!(readable_time(Duration::from_millis(12)), "12 ms");
        assert_eq!(readable_time(Duration::from_secs(75)), "1 min 15 s");
    }
}
