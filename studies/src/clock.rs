//! Processor time of this process, which says what a film costs also where other programs share the machine.

/// Ticks of a second in `/proc/self/stat`, the same on every Linux that Rust supports.
const TICKS: f64 = 100.0;

/// Seconds that all threads of this process have spent on processors so far, in steps of 0.01; absent where the system does not say.
pub fn processor_seconds() -> Option<f64> {
    ticks(&std::fs::read_to_string("/proc/self/stat").ok()?).map(|ticks| ticks / TICKS)
}

/// User and system time in the text of `/proc/self/stat`: fields 14 and 15, the second of which is a name in parentheses.
fn ticks(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let (user, system) = (fields.next()?, fields.next()?);
    Some(user.parse::<f64>().ok()? + system.parse::<f64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_counted_behind_the_name() {
        assert_eq!(ticks("7 (a (b) 9 9) S 1 2 3 4 5 6 7 8 9 10 250 30 0 0 20"), Some(280.0));
        assert_eq!(ticks("7 (a) S 1 2"), None);
    }

    #[test]
    fn work_takes_processor_time() {
        let Some(before) = processor_seconds() else { return };
        let started = std::time::Instant::now();
        let mut sum = 0u64;
        while processor_seconds().is_some_and(|now| now - before < 0.03) {
            sum = (0..100_000u64).fold(sum, |sum, x| sum.wrapping_mul(31).wrapping_add(x));
            assert!(started.elapsed().as_secs() < 60, "{sum}");
        }
    }
}
