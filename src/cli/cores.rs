//! The same work on many things, on every core.

use std::{num::NonZero, panic, thread};

/// What a core does before the others are waited for, and what came of it is taken: enough that starting a thread does
/// not count, and few enough that little is kept.
const SHARE: usize = 64;

/// Does `work` on each of `items`, and gives what comes of it to `take`, in the order of the items. While it takes, the
/// cores are at the items that follow.
pub(super) fn spread<T: Sync, R: Send, E>(
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
    mut take: impl FnMut(&T, R) -> Result<(), E>,
) -> Result<(), E> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let all = |share: &[T]| share.iter().map(&work).collect::<Vec<_>>();
    let all = &all;
    thread::scope(|scope| {
        let mut batches = items.chunks(SHARE * cores).map(|batch| {
            let shares = batch.chunks(batch.len().div_ceil(cores));
            let begun = shares.map(|share| scope.spawn(move || all(share)));
            (batch, begun.collect::<Vec<_>>())
        });
        let mut current = batches.next();
        while let Some((batch, shares)) = current {
            let done = shares.into_iter().map(|share| {
                let done = share.join();
                done.unwrap_or_else(|panicked| panic::resume_unwind(panicked))
            });
            let done: Vec<_> = done.collect();
            current = batches.next();
            for (item, result) in batch.iter().zip(done.into_iter().flatten()) {
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
