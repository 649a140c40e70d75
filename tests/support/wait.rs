//! Waiting for a condition, with a bound.

use std::time::Duration;

use tokio::time::Instant;

/// Long enough for a slow machine under load: a condition that holds is seen at the next look.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks. Each may start a program, which others need the cores for: what takes long is looked at less often,
/// and seen an eighth of its time late.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// For what takes a minute by itself.
const LONG_PATIENCE: Duration = Duration::from_secs(240);

/// Asks until the answer is `Ok`, and returns it; panics with the last `Err` when patience ends.
pub fn eventually<T>(what: &str, ask: impl FnMut() -> Result<T, String>) -> T {
    eventually_in(PATIENCE, what, ask)
}

/// The same for what proof of ours decides, which takes half a minute, or a minute to be taken back.
pub fn at_length<T>(what: &str, ask: impl FnMut() -> Result<T, String>) -> T {
    eventually_in(LONG_PATIENCE, what, ask)
}

fn eventually_in<T>(
    patience: Duration,
    what: &str,
    mut ask: impl FnMut() -> Result<T, String>,
) -> T {
    let begun = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(why) if begun.elapsed() > patience => {
                panic!("gave up waiting for {what} after {patience:?}: {why}")
            }
            Err(_) => pause(begun.elapsed() / 8),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "no runtime here; the caller looks again"
)]
fn pause(about: Duration) {
    std::thread::sleep(about.clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
}
