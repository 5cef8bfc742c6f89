//! When a certificate is replaced, and how often that is tried: arithmetic alone.

use crate::certificate::Leaf;
use crate::files::Wishes;

/// The longest that anything is waited for, in seconds.
const LONGEST: i64 = 6 * 3600;
/// The shortest pause after something that did not work, in seconds, of a certificate that lives for months.
const SHORTEST: i64 = 300;

/// The second from which it is to be replaced: what was drawn of the authority's window (RFC 9773, section 4.2), else two
/// thirds of its life. A window beyond nine tenths is not waited for: the last tenth is for what may go wrong.
pub(crate) fn due(leaf: &Leaf, wishes: Option<&Wishes>) -> i64 {
    let latest = leaf.begin + leaf.lifetime() / 10 * 9;
    match wishes.and_then(|wishes| wishes.drawn) {
        Some(drawn) => drawn.min(latest),
        None => leaf.begin + leaf.lifetime() / 3 * 2,
    }
}

/// A second of a window, by a number from 0 to 1.
pub(crate) fn drawn((start, end): (i64, i64), random: f64) -> i64 {
    start + ((end - start) as f64 * random) as i64
}

/// How long to wait after so many failures in a row, in seconds: each time twice as long, half of it by chance, so that
/// not all hubs come back to an authority at once. Certificates that live short wait short.
pub(crate) fn pause(leaf: &Leaf, failures: u32, random: f64) -> i64 {
    let first = (leaf.lifetime() / 100).clamp(1, SHORTEST);
    let most = (leaf.lifetime() / 10).clamp(1, LONGEST);
    let whole = first.saturating_mul(1_i64 << failures.saturating_sub(1).min(20)).min(most);
    ((whole as f64 * (0.5 + random / 2.0)) as i64).max(1)
}

/// When to ask the authority again for its wishes, in seconds: when it says, within a minute and six hours, and at least
/// ten times in a certificate's life.
pub(crate) fn again(leaf: &Leaf, said: u64) -> i64 {
    let said = i64::try_from(said).unwrap_or(LONGEST).clamp(60, LONGEST);
    said.min((leaf.lifetime() / 10).max(1))
}

/// The first second at which it may be replaced when so many before it lived less than a tenth of their lives: an
/// authority that always wants to replace at once is heard ever less often.
pub(crate) fn not_before(leaf: &Leaf, short_lived: u32, came: i64) -> i64 {
    if short_lived == 0 {
        return came;
    }
    let pause = 60_i64.saturating_mul(1_i64 << short_lived.min(20)).min(LONGEST * 4);
    came + pause.min(leaf.lifetime() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn leaf(lifetime: i64) -> Leaf {
        Leaf { names: Vec::new(), begin: 1_000_000, end: 1_000_000 + lifetime, id: None }
    }

    fn wishes(drawn: i64) -> Wishes {
        Wishes { drawn: Some(drawn), ..Wishes::default() }
    }

    #[test]
    fn it_is_replaced_at_two_thirds_or_when_the_authority_says() {
        let leaf = leaf(90 * DAY);
        assert_eq!(due(&leaf, None), 1_000_000 + 60 * DAY);
        assert_eq!(due(&leaf, Some(&Wishes::default())), 1_000_000 + 60 * DAY);
        assert_eq!(due(&leaf, Some(&wishes(5))), 5);
        assert_eq!(due(&leaf, Some(&wishes(leaf.end + 1))), 1_000_000 + 81 * DAY);
        assert_eq!(drawn((100, 200), 0.0), 100);
        assert_eq!(drawn((100, 200), 0.999), 199);
    }

    #[test]
    fn failures_are_tried_again_ever_later() {
        let long = leaf(90 * DAY);
        assert_eq!((pause(&long, 1, 1.0), pause(&long, 2, 1.0), pause(&long, 1, 0.0)), (300, 600, 150));
        assert_eq!(pause(&long, 60, 1.0), LONGEST);
        let short = leaf(60);
        assert_eq!((pause(&short, 1, 1.0), pause(&short, 9, 1.0)), (1, 6));
        assert_eq!((again(&long, 0), again(&long, u64::MAX), again(&short, 21_600)), (60, LONGEST, 6));
    }

    #[test]
    fn an_authority_that_replaces_all_the_time_is_heard_less_often() {
        let long = leaf(90 * DAY);
        assert_eq!(not_before(&long, 0, 7), 7);
        assert_eq!((not_before(&long, 1, 0), not_before(&long, 2, 0)), (120, 240));
        assert_eq!(not_before(&long, 40, 0), DAY);
        assert_eq!(not_before(&leaf(60), 9, 0), 30);
    }
}
