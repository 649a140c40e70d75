//! The same work on many things, on every core.

use std::{num::NonZero, sync::mpsc::sync_channel, thread};

/// What a core does at a time: enough that handing it over does not count.
const SHARE: usize = 16;

/// Shares that a core may be ahead of what was taken: enough that no core waits for another, and few enough that little
/// is kept.
const AHEAD: usize = 4;

/// Does `work` on each of `items`, and gives what comes of it to `take`, in the order of the items. While it takes, the
/// cores are at the items that follow.
pub(super) fn spread<T: Sync, R: Send, E>(
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
    mut take: impl FnMut(&T, R) -> Result<(), E>,
) -> Result<(), E> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let work = &work;
    let shares = items.chunks(SHARE);
    thread::scope(|scope| {
        let queue = |core| {
            let own = shares.clone().skip(core).step_by(cores);
            let (give, queue) = sync_channel(AHEAD);
            scope.spawn(move || {
                let done = own.map(|share| share.iter().map(work).collect::<Vec<_>>());
                // Nobody takes any more after a failure.
                done.map_while(|done| give.send(done).ok()).for_each(drop);
            });
            queue
        };
        let queues: Vec<_> = (0..cores).map(queue).collect();
        for (share, queue) in shares.clone().zip(queues.iter().cycle()) {
            let Ok(done) = queue.recv() else {
                break; // a core has panicked, and so does the scope
            };
            for (item, result) in share.iter().zip(done) {
                take(item, result)?;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        for count in [0, 1, 2, SHARE, SHARE + 1, 1000] {
            let items: Vec<_> = (0..count).collect();
            let mut taken = Vec::new();
            let done: Result<(), ()> = spread(
                &items,
                |item| item * 2,
                |item, result| {
                    taken.push((*item, result));
                    Ok(())
                },
            );
            let expected: Vec<_> = items.iter().map(|item| (*item, item * 2)).collect();
            assert_eq!((done, taken), (Ok(()), expected));
        }
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_is_not_taken_for_the_end() {
        let items: Vec<_> = (0..1000).collect();
        let work = |item: &i32| assert_ne!(*item, 500);
        spread(&items, work, |_, ()| Ok::<_, ()>(())).unwrap();
    }

    #[test]
    fn nothing_is_taken_after_a_failure() {
        let items: Vec<_> = (0..1000).collect();
        let mut taken = 0;
        let done = spread(
            &items,
            |item| *item,
            |_, item| {
                taken += 1;
                if item == 10 { Err(item) } else { Ok(()) }
            },
        );
        assert_eq!((done, taken), (Err(10), 11));
    }
}
